"""PyTorch's methods of modules that follow from a few others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import numpy as np

from ..autograd import Tensor
from ..autograd.tracing import plain_constructors
from ..backend_ndarray import NDArray
from ..backend_selection import Device
from ..typing import DTypeLike
from .compiled import CompiledCalls
from .parameter import Parameter

Member = TypeVar("Member", bound=Tensor)


class Members(list[Member]):
    """A list that is an iterator, too: `next(model.parameters())` is the first parameter."""

    __slots__ = ("_given",)

    def __next__(self) -> Member:
        position = getattr(self, "_given", 0)
        if position >= len(self):
            raise StopIteration
        self._given = position + 1
        return self[position]


def check_constructor(cls: type, args: tuple[object, ...], options: dict[str, object]) -> None:
    """Raises TypeError where a class was called that is to be made first, as in `nn.ReLU(x)`.

    That is so where the constructor takes fewer arguments or, in needle's layers, where a Tensor
    stands for a number or a switch.
    """
    import inspect

    constructor = inspect.signature(cls.__init__)  # type: ignore[misc]
    try:
        given = constructor.bind(None, *args, **options).arguments
    except TypeError:
        wrong = True
    else:
        kinds = {n: str(constructor.parameters[n].annotation) for n in given}
        wrong = cls.__module__.startswith("needle.") and any(
            type(x) is Tensor and x.ndim and not any(kind in kinds[name] for kind in _OF_TENSORS)
            for name, x in given.items()
        )
    if wrong:
        raise TypeError(
            f"[{cls.__name__}] the constructor was given a Tensor: make the module first and call "
            f"it then, as in {cls.__name__}(…)(x)"
        )


_OF_TENSORS = ("Tensor", "Array", "Operand", "object", "Any", "empty")


def is_for_tensors(error: AttributeError) -> bool:
    """Whether an attribute was missed that Tensors have, of numbers or an array in their place."""
    data = (NDArray, np.ndarray, np.generic, list, tuple, int, float, str, type(None))
    return isinstance(error.obj, data) and hasattr(Tensor, str(error.name))


class ModuleMethods:
    """What follows from a module's tree of parameters, buffers and modules."""

    def __new__(cls, *args: object, **options: object) -> Self:
        """A module without attributes. Raises TypeError where the class is called like a function,
        as in `nn.ReLU(x)`."""
        if any(type(x) is Tensor for x in args):
            check_constructor(cls, args, options)
        return super().__new__(cls)

    _compiled: Callable[..., Any]  # the call, where `compile` was called

    def compile(self, *, fullgraph: bool = False, **options: object) -> None:
        """Compile the calls of this module that record no gradient; see `needle.compile`.

        Parameters
        ----------
        fullgraph : bool, default False
            Whether a module that cannot be traced is an error; it runs eagerly otherwise.
        **options : object
            PyTorch's other options, which change nothing.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> layer.compile()
        >>> with ndl.no_grad():
        ...     layer(ndl.ones(4, 2)).shape
        (4, 3)
        """
        self._compiled = CompiledCalls(type(self)._call_eagerly, fullgraph)

    def _call_eagerly(self, *args: Any, **kwargs: Any) -> Any:
        """A call that is not compiled; defined by Module."""
        raise NotImplementedError

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, parameter) for every parameter; defined by Module."""
        raise NotImplementedError

    def named_buffers(
        self, prefix: str = "", persistent_only: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer) for every buffer; defined by Module."""
        raise NotImplementedError

    def named_modules(
        self, memo: object = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, ModuleMethods]]:
        """(path, module) for every module; defined by Module."""
        raise NotImplementedError

    def named_children(self) -> Iterator[tuple[str, ModuleMethods]]:
        """(name, module) for every module directly in this one; defined by Module."""
        raise NotImplementedError

    def _to(self, device: Device | str | None, dtype: DTypeLike | None) -> None:
        """Move or convert everything; defined by Module."""
        raise NotImplementedError

    # ---- the tree -------------------------------------------------------------------------------

    def modules(self) -> Iterator[ModuleMethods]:
        """This module and every module below it, each once."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, target: str) -> ModuleMethods:
        """The module at a path such as "encoder.layers.0"; the path "" is this module.

        Raises AttributeError if there is none.
        """
        return _found(self, "module", target, dict(self.named_modules(remove_duplicate=False)))

    def set_submodule(self, target: str, module: ModuleMethods, strict: bool = False) -> None:
        """Put a module at a path such as "encoder.layers.0", whose last name may be new.

        With `strict` a module must be there already. Raises AttributeError for a path that is
        none, TypeError if `module` is no Module.
        """
        above, _, name = target.rpartition(".")
        owner = self.get_submodule(above)
        if strict:
            self.get_submodule(target)
        owner.add_module(name, module)

    def get_parameter(self, target: str) -> Tensor:
        """The parameter at a path such as "encoder.weight". Raises AttributeError if none is."""
        return _found(
            self, "parameter", target, dict(self.named_parameters(remove_duplicate=False))
        )

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as "norm.running_mean". Raises AttributeError if none is."""
        return _found(self, "buffer", target, dict(self.named_buffers()))

    def add_module(self, name: str, module: ModuleMethods | None) -> None:
        """Make a module the attribute `name`. Raises TypeError if it is no Module."""
        if module is not None and not isinstance(module, ModuleMethods):
            raise TypeError(f"[add_module] {name} must be a Module, got {type(module).__name__}")
        _check_name("add_module", name)
        setattr(self, name, module)

    register_module = add_module

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Make a Parameter the attribute `name`. Raises TypeError if it is none."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"[register_parameter] {name} must be a Parameter, got {type(param).__name__}; "
                "wrap it: nn.Parameter(tensor)"
            )
        _check_name("register_parameter", name)
        setattr(self, name, param)

    # ---- gradients ------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for _, parameter in self.named_parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = Tensor.make_const(parameter.grad.realize_cached_data() * 0.0)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of all parameters, to freeze or train them. Returns this module."""
        for _, parameter in self.named_parameters():
            parameter.requires_grad = requires_grad
        return self

    # ---- devices and dtypes ---------------------------------------------------------------------

    def cpu(self) -> Self:
        """Move parameters and buffers to `cpu()`. Returns this module."""
        self._to("cpu", None)
        return self

    def cuda(self, device: int | None = None) -> Self:
        """Move parameters and buffers to a GPU. Returns this module."""
        self._to("cuda" if device is None else f"cuda:{device}", None)
        return self

    def type(self, dst_type: DTypeLike) -> Self:
        """Convert parameters and buffers to a floating-point dtype. Returns this module."""
        self._to(None, dst_type)
        return self

    def half(self) -> Self:
        """Convert parameters and buffers to float16. Returns this module."""
        return self.type("float16")

    def bfloat16(self) -> Self:
        """Convert parameters and buffers to bfloat16. Returns this module."""
        return self.type("bfloat16")

    def float(self) -> Self:
        """Convert parameters and buffers to float32. Returns this module."""
        return self.type("float32")

    def double(self) -> Self:
        """Convert parameters and buffers to float64. Returns this module."""
        return self.type("float64")


Found = TypeVar("Found")


def _found(module: ModuleMethods, kind: str, target: str, members: dict[str, Found]) -> Found:
    if target not in members:
        raise AttributeError(f"[{type(module).__name__}] has no {kind} {target!r}")
    return members[target]


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not name or "." in name:
        raise ValueError(f"[{what}] name must be a string without dots, got {name!r}")


# It checks arguments, and makes nothing that attributes do not have.
plain_constructors.append(ModuleMethods.__new__)
