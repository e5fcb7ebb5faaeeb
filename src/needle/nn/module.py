"""Module: a function with parameters, made of other modules.

A module's parameters, buffers and submodules are plain attributes. They are found by looking
through `vars(module)` in the order of assignment, and through lists, tuples and dicts there, so
that an attribute access costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from .. import autograd
from ..autograd import Tensor
from ..given import not_a_tensor, shown
from .module_hooks import ModuleHooks
from .module_methods import Members, is_for_tensors
from .parameter import Parameter


@autograd.watched
class Module(ModuleHooks):
    """Base class of layers, models and losses.

    A subclass assigns its Parameters and submodules to attributes in `__init__` and computes in
    `forward`. Lists, tuples and dicts of them are found, too. `training` tells layers such as
    Dropout which way to behave; `train` and `eval` set it.

    Examples
    --------
    >>> import needle as ndl
    >>> class Scale(ndl.nn.Module):
    ...     def __init__(self): self.factor = ndl.nn.Parameter([2.0])
    ...     def forward(self, x): return x * self.factor
    >>> Scale()(ndl.Tensor([3]))
    needle.Tensor([6.])
    """

    training: bool = True

    def __init__(self) -> None:
        self.training = True

    # ---- calling --------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute `forward(*args, **kwargs)`, with the hooks around it.

        Parameters
        ----------
        *args, **kwargs : object
            What `forward` takes.

        Returns
        -------
        object
            What `forward` returns, unless a hook replaces it.

        Raises
        ------
        TypeError
            If an argument should be a Tensor and is a number or an array.
        """
        if "_compiled" in vars(self):
            return self._compiled(self, *args, **kwargs)
        return self._call_eagerly(*args, **kwargs)

    def _call_eagerly(self, *args: Any, **kwargs: Any) -> Any:
        trace = autograd.current_trace()
        if trace is not None:
            trace.calls(self)
        try:
            if self._hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except AttributeError as error:
            if any(error.obj is x for x in (*args, *kwargs.values())) and is_for_tensors(error):
                raise TypeError(
                    f"[{type(self).__name__}] needs a Tensor, {not_a_tensor(error.obj)}"
                ) from None
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every subclass defines it.

        Parameters
        ----------
        *args, **kwargs : object
            What the subclass takes.

        Returns
        -------
        object
            Mostly a Tensor.

        Raises
        ------
        NotImplementedError
            If the class defines none.
        """
        raise NotImplementedError(f"[{type(self).__name__}] defines no forward method")

    # ---- the tree -------------------------------------------------------------------------------

    def _attributes(self) -> Iterator[tuple[str, object]]:
        """The attributes to look through, by the name that appears in paths."""
        return iter(vars(self).items())

    def _members(self) -> Iterator[tuple[str, Parameter | Module]]:
        """The parameters and modules among the attributes and in containers there."""
        for name, value in self._attributes():
            if name not in ("_hooks", "_state_hooks"):
                yield from _find(name, value)

    def _walk(self, prefix: str, done: set[int]) -> Iterator[tuple[str, Parameter | Module]]:
        """Everything below this module, each once, depth first in the order of attributes."""
        for name, member in self._members():
            if id(member) in done:
                continue
            done.add(id(member))
            yield prefix + name, member
            if isinstance(member, Module):
                yield from member._walk(f"{prefix}{name}.", done)

    def _walk_all(
        self, prefix: str, above: tuple[Module, ...]
    ) -> Iterator[tuple[str, Parameter | Module]]:
        """Everything below this module under each of its names; a cycle is not followed."""
        for name, member in self._members():
            if any(member is module for module in above):
                continue
            yield prefix + name, member
            if isinstance(member, Module):
                yield from member._walk_all(f"{prefix}{name}.", (*above, member))

    def _other_names(self) -> dict[str, str]:
        """The further names of parameters and buffers that `state_dict` has once."""
        first: dict[int, str] = {}
        other: dict[str, str] = {}
        named: list[tuple[str, Tensor]] = list(self.named_parameters(remove_duplicate=False))
        for path, module in self.named_modules(remove_duplicate=False):
            named += [(_dotted(path) + name, buffer) for name, buffer in module._own_buffers()]
        for path, tensor in named:
            if first.setdefault(id(tensor), path) != path:
                other[path] = first[id(tensor)]
        return other

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters here and below, with their paths.

        Parameters
        ----------
        prefix : str, default ""
            What the paths begin with.
        recurse : bool, default True
            Whether the modules in this one are included.
        remove_duplicate : bool, default True
            Whether a shared parameter comes once, with its first path.

        Returns
        -------
        iterator of (str, Parameter)

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.Linear(2, 3))
        >>> [name for name, _ in model.named_parameters()]
        ['0.weight', '0.bias']
        """
        start = _dotted(prefix)
        found: Iterator[tuple[str, Parameter | Module]]
        if not recurse:
            found = ((start + name, member) for name, member in self._members())
        elif remove_duplicate:
            found = self._walk(start, {id(self)})
        else:
            found = self._walk_all(start, (self,))
        done: set[int] = set()
        for name, member in found:
            if isinstance(member, Parameter) and id(member) not in done:
                done |= {id(member)} if remove_duplicate else set()
                yield name, member

    def parameters(self, recurse: bool = True) -> Members[Parameter]:
        """List the parameters of this module and the modules in it, each once.

        Parameters
        ----------
        recurse : bool, default True
            Whether the modules in this one are included.

        Returns
        -------
        list of Parameter
            It is an iterator, too: `next(model.parameters())` is the first parameter.

        Examples
        --------
        >>> import needle as ndl
        >>> [p.shape for p in ndl.nn.Linear(2, 3).parameters()]
        [(2, 3), (1, 3)]
        """
        return Members(parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_modules(
        self, memo: object = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Iterate over this module and every module below it, with their paths.

        Parameters
        ----------
        memo : object
            Accepted as in PyTorch.
        prefix : str, default ""
            The path of this module.
        remove_duplicate : bool, default True
            Whether a shared module comes once, with its first path.

        Returns
        -------
        iterator of (str, Module)

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.ReLU(), ndl.nn.Tanh())
        >>> [name for name, _ in model.named_modules()]
        ['', '0', '1']
        """
        yield prefix, self
        start = _dotted(prefix)
        below = (
            self._walk(start, {id(self)}) if remove_duplicate else self._walk_all(start, (self,))
        )
        for name, member in below:
            if isinstance(member, Module):
                yield name, member

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the modules directly in this one, with their names, each once.

        Returns
        -------
        iterator of (str, Module)

        Examples
        --------
        >>> import needle as ndl
        >>> [name for name, _ in ndl.nn.Sequential(ndl.nn.ReLU()).named_children()]
        ['0']
        """
        done: set[int] = set()
        for name, member in self._members():
            if isinstance(member, Module) and id(member) not in done:
                done.add(id(member))
                yield name, member

    def children(self) -> Iterator[Module]:
        """Iterate over the modules directly in this one, each once.

        Returns
        -------
        iterator of Module

        Examples
        --------
        >>> import needle as ndl
        >>> list(ndl.nn.Sequential(ndl.nn.ReLU()).children())
        [ReLU()]
        """
        return (module for _, module in self.named_children())

    def _children(self) -> list[Module]:
        """Every module below this one, at any depth."""
        return [module for _, module in self.named_modules()][1:]

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call a function with every module below this one and then with this one.

        Parameters
        ----------
        function : callable
            Called as function(module).

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> model = ndl.nn.Sequential(ndl.nn.ReLU())
        >>> _ = model.apply(lambda module: print(type(module).__name__))
        ReLU
        Sequential
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- buffers --------------------------------------------------------------------------------

    def named_buffers(
        self, prefix: str = "", persistent_only: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the buffers of this module and the modules in it, with their paths.

        Parameters
        ----------
        prefix : str, default ""
            What the paths begin with.
        persistent_only : bool, default False
            Whether those that `state_dict` leaves out are left out here, too.

        Returns
        -------
        iterator of (str, Tensor)

        Examples
        --------
        >>> import needle as ndl
        >>> [name for name, _ in ndl.nn.BatchNorm1d(2).named_buffers()]
        ['running_mean', 'running_var']
        """
        for path, module in self.named_modules(prefix=prefix):
            for name, persistent in module._buffer_names.items():
                tensor = getattr(module, name, None)
                if isinstance(tensor, Tensor) and (persistent or not persistent_only):
                    yield _dotted(path) + name, tensor

    def buffers(self) -> Members[Tensor]:
        """List the buffers of this module and the modules in it.

        Returns
        -------
        list of Tensor

        Examples
        --------
        >>> import needle as ndl
        >>> len(ndl.nn.BatchNorm1d(2).buffers())
        2
        """
        return Members(tensor for _, tensor in self.named_buffers())

    # ---- modes and places -----------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Put this module and every module below it into training mode.

        Parameters
        ----------
        mode : bool, default True
            False means evaluation mode.

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).train(False).training
        False
        """
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"[train] mode must be True or False, got {shown(mode)}")
        self.training = mode
        for module in self._children():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and every module below it into evaluation mode: `train(False)`.

        Returns
        -------
        Module
            This module.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).eval().training
        False
        """
        return self.train(False)

    # ---- printing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses: the arguments that made the module.

        Returns
        -------
        str

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).extra_repr()
        'p=0.5'
        """
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        lines = [f"  ({path}): {_indented(repr(module))}" for path, module in self.named_children()]
        if not lines:
            return f"{name}({extra})"
        return "\n".join([f"{name}({extra}", *lines, ")"])


def _find(path: str, value: object) -> Iterator[tuple[str, Parameter | Module]]:
    """The parameters and modules in `value`, through lists, tuples and dicts."""
    if isinstance(value, (Parameter, Module)):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _find(f"{path}.{i}", item)
    elif isinstance(value, (set, frozenset)) and any(isinstance(x, Module) for x in value):
        raise TypeError(f"[Module] {path} is a {type(value).__name__}, in no order: use a list")


def _dotted(prefix: str) -> str:
    return f"{prefix}." if prefix else ""


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
