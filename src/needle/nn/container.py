"""Modules made of modules: Sequential, Residual, and Identity, which does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..autograd import Tensor
from .module import Module


class Sequential(Module):
    """The modules one after the other, each on the result of the one before.

    `modules` is the tuple of them; `model[i]`, `len(model)` and iteration work on it. A slice
    gives a Sequential of the same modules.
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
        """The last module's result."""
        for module in self.modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(*self.modules[index])
        return self.modules[index]

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        # Paths read "0.weight", not "modules.0.weight".
        for name, value in super()._attributes():
            if name == "modules":
                yield from ((str(i), module) for i, module in enumerate(value))
            else:
                yield name, value


class Residual(Module):
    """fn(x) + x."""

    def __init__(self, fn: Module) -> None:
        super().__init__()
        if not callable(fn):
            raise TypeError(f"[Residual] fn must be a Module, got {type(fn).__name__}")
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """x and the result have the shape of fn(x)."""
        return self.fn(x) + x


class Identity(Module):
    """x, unchanged."""

    def forward(self, x: Any) -> Any:
        """x itself."""
        return x
