"""Modules made of modules: Sequential, Residual, and Identity, which does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, overload

from ..autograd import Tensor
from .module import Module


class Sequential(Module):
    """Chain of modules, each applied to the result of the one before.

    `len(model)`, `model[i]` and iteration work as on a list; a slice is a Sequential that shares
    its modules with this one.

    Parameters
    ----------
    *modules : Module
        The modules in the order in which they are applied.

    Attributes
    ----------
    modules : tuple of Module
        The modules.

    Raises
    ------
    TypeError
        If an argument is not callable.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Sequential(ndl.nn.Linear(4, 8), ndl.nn.ReLU(), ndl.nn.Linear(8, 2))
    >>> model(ndl.ones(3, 4)).shape
    (3, 2)
    >>> len(model[:2])
    2
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for i, module in enumerate(modules):
            if not callable(module):
                raise TypeError(
                    f"[Sequential] argument {i} must be a Module, got {type(module).__name__}"
                )
        self.modules = modules

    def forward(self, x: Any) -> Any:
        """Return the last module's result; without modules that is `x`."""
        for module in self.modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(*self.modules[index])
        return self.modules[index]

    def _attributes(self) -> Iterator[tuple[str, object]]:
        # Paths read "0.weight", not "modules.0.weight".
        for name, value in super()._attributes():
            if name == "modules":
                yield from ((str(i), module) for i, module in enumerate(self.modules))
            else:
                yield name, value


class Residual(Module):
    """Residual connection around a module: fn(x) + x.

    Parameters
    ----------
    fn : Module
        The module; its result must be addable to its input.

    Raises
    ------
    TypeError
        If `fn` is not callable.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Residual(ndl.nn.Identity())(ndl.Tensor([1, 2]))
    needle.Tensor([2. 4.])
    """

    def __init__(self, fn: Module) -> None:
        super().__init__()
        if not callable(fn):
            raise TypeError(f"[Residual] fn must be a Module, got {type(fn).__name__}")
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Return fn(x) + x, normally of the shape of `x`."""
        return self.fn(x) + x


Value = TypeVar("Value")


class Identity(Module):
    """Return the input unchanged.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Identity()(ndl.Tensor([1, 2]))
    needle.Tensor([1. 2.])
    """

    def forward(self, x: Value) -> Value:
        """Return `x` itself."""
        return x
