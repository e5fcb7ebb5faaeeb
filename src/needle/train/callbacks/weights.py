"""Weights of a model by name: looked at without a copy, copied, and replaced."""

from __future__ import annotations

from collections.abc import Mapping

from ...autograd import Tensor, no_grad
from ...backend_ndarray import is_float
from ...nn import Module


class Floats:
    """The parameters and buffers of floats of a model, by name.

    A module may put another Tensor in the place of a buffer (`self.count = self.count + 1`), so
    buffers are known by their places.
    """

    def __init__(self, model: Module) -> None:
        modules = dict(model.named_modules())
        self.parameters = {n: p for n, p in model.named_parameters() if is_float(p.dtype)}
        self._places: dict[str, tuple[Module, str]] = {}
        for name, x in model.named_buffers():
            path, _, attribute = name.rpartition(".")
            if is_float(x.dtype):
                self._places[name] = modules[path], attribute

    def buffers(self) -> dict[str, Tensor]:
        """The present buffers."""
        return {name: getattr(*place) for name, place in self._places.items()}

    def now(self) -> dict[str, Tensor]:
        """The parameters and the present buffers."""
        return {**self.parameters, **self.buffers()}


def kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The present values without a copy: an optimizer's step makes new data, and leaves these."""
    return {name: x.detach() for name, x in tensors.items()}


@no_grad()
def copy_of(x: Tensor) -> Tensor:
    """The values of a Tensor in memory of their own."""
    return x.detach().clone()


@no_grad()
def replace(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give Tensors copies of other values; their own old data stays what it was."""
    for name, x in tensors.items():
        x.data = values[name].detach().to(x.device).astype(x.dtype).clone()
