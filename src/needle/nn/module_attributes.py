"""Attributes of modules: what may take the place of a parameter or of a buffer, and which is which.

A module's parameters, buffers and submodules are plain attributes. Which are buffers, the module
notes by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .. import autograd
from ..autograd import Tensor
from .module_methods import ModuleMethods
from .module_state import ModuleState
from .parameter import Parameter

# What PyTorch's modules have and needle's do not, with what to write instead.
ABSENT = {
    "share_memory": "threads share a module as it is, and a forked process has a copy of it",
    "to_empty": "write model.to(device), and load_state_dict",
    "register_full_backward_pre_hook": "write register_hook on the Tensor that the module returns",
    "register_backward_hook": "write register_full_backward_hook",
    "register_module_forward_hook": "write register_forward_hook on each of model.modules()",
    "flatten_parameters": "the weights of a layer need no such step; leave the line out",
    "weight_ih": "W_ih, which is (input_size, gates·hidden_size): PyTorch's transposed",
    "weight_hh": "W_hh, which is (hidden_size, gates·hidden_size): PyTorch's transposed",
}


class ModuleAttributes(ModuleState):
    """Sets, deletes and names attributes."""

    # The names of the attributes that are buffers, each with whether state_dict saves it.
    _buffer_names: Mapping[str, bool] = MappingProxyType({})
    # Whether a plain Tensor may take the place of a Parameter; it is not trained then.
    _takes_tensors: ClassVar[bool] = False

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute. Raises TypeError where a Tensor or an array would take the place of a
        Parameter, or a number that of a buffer, and ValueError where a Parameter of a layer would
        get another shape."""
        own = autograd.unwatched(self, "__dict__")
        held = own.get(name)
        if held is None or isinstance(held, Tensor):
            if isinstance(held, Parameter) and value is not held:
                self._check_parameter(name, held, value)
            elif name in own.get("_buffer_names", ()):
                self._check_buffer(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._forget_buffer(name)

    def _check_parameter(self, name: str, held: Parameter, value: Any) -> None:
        allowed = Tensor if self._takes_tensors else (Parameter, ModuleMethods)
        if value is not None and not isinstance(value, allowed):
            raise TypeError(
                f"[{type(self).__name__}] {name} is a Parameter and cannot become a "
                f"{type(value).__name__}; self.{name}.data = tensor gives it new values, "
                f"self.{name} = nn.Parameter(tensor) puts another in its place"
            )
        # A lazy layer's is empty at first.
        if not isinstance(value, Parameter) or held.shape == value.shape or not held.size:
            return
        if self._has_fixed_shapes() and not self._takes_shape(name, value.shape):
            raise ValueError(
                f"[{type(self).__name__}] {name} has shape {held.shape} and cannot become a "
                f"Parameter of shape {value.shape}; {self._way_out(name, value)}"
            )

    @classmethod
    def _has_fixed_shapes(cls) -> bool:
        """Whether it is one of needle's layers, whose arguments say the shapes of parameters."""
        package = __name__.rpartition(".")[0] + "."
        without = ("container", "collection", "module")  # files of what has no parameters
        files = [
            base.__module__.removeprefix(package)
            for base in cls.__mro__
            if base.__module__.startswith(package)
        ]
        return not cls._takes_tensors and any(not file.startswith(without) for file in files)

    def _takes_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a parameter may get this shape, which is not the one it has."""
        return False

    def _way_out(self, name: str, value: Parameter) -> str:
        """What to write instead of the assignment of a parameter of another shape."""
        return (
            "make a layer of the new size; values of PyTorch's layers come by "
            "nn.from_torch_state_dict(layer, state_dict)"
        )

    def _check_buffer(self, name: str, value: object) -> None:
        """A Tensor or None stays a buffer; a Parameter or a Module is no buffer any more."""
        if isinstance(value, (Parameter, ModuleMethods)):
            self._forget_buffer(name)
        elif value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"[{type(self).__name__}] {name} is a buffer and cannot become a "
                f"{type(value).__name__}; self.{name}.data = tensor or self.{name} = tensor gives "
                "it new values"
            )

    def _forget_buffer(self, name: str) -> None:
        if name in self._buffer_names:
            self._buffer_names = {n: kept for n, kept in self._buffer_names.items() if n != name}

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Raises AttributeError; says what to write for a name that PyTorch's modules have."""
            general = re.sub(r"_l\d+(_reverse)?$", "", name)  # of one layer of a stack
            hint = f": {ABSENT[general]}" if general in ABSENT else ""
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{hint}",
                name=name,
                obj=self,
            )

    # ---- buffers --------------------------------------------------------------------------------

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make a Tensor an attribute that is saved and moved but not trained.

        A Tensor that is assigned to the attribute later is the buffer then.

        Parameters
        ----------
        name : str
            The name of the attribute.
        tensor : Tensor, optional
            The buffer; None reserves the name.
        persistent : bool, default True
            Whether `state_dict` has it.

        Raises
        ------
        TypeError
            If `tensor` is a Parameter or not a Tensor.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Identity()
        >>> layer.register_buffer('mean', ndl.zeros(2))
        >>> list(layer.state_dict())
        ['mean']
        """
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise TypeError(
                f"[register_buffer] {name} must be a Tensor that is no Parameter, "
                f"got {type(tensor).__name__}"
            )
        object.__setattr__(self, name, tensor)
        self._buffer_names = {**self._buffer_names, name: persistent}

    # ---- PyTorch's dicts ------------------------------------------------------------------------

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name in self._buffer_names:
            tensor = getattr(self, name, None)
            if isinstance(tensor, Tensor):
                yield name, tensor

    @property
    def _parameters(self) -> MutableMapping[str, Tensor]:
        """The parameters of this module alone, by name."""
        return _Attributes(self, lambda: self.named_parameters(recurse=False))

    @property
    def _buffers(self) -> MutableMapping[str, Tensor]:
        """The buffers of this module alone, by name."""
        return _Attributes(self, self._own_buffers)

    @property
    def _modules(self) -> MutableMapping[str, ModuleMethods]:
        """The modules in this one, by name."""
        return _Attributes(self, self.named_children)


class _Attributes(MutableMapping[str, Any]):
    """The attributes of one kind as a dict, which sets and deletes attributes."""

    def __init__(self, owner: object, items: Any) -> None:
        self._owner, self._items = owner, items

    def __getitem__(self, name: str) -> Any:
        return dict(self._items())[name]

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self._owner, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self._owner, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items())

    def __len__(self) -> int:
        return sum(1 for _ in self._items())

    def __repr__(self) -> str:
        return repr(dict(self._items()))
