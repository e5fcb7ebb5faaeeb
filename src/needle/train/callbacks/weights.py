"""Weights of a model by name: looked at without a copy, copied, and replaced."""

from __future__ import annotations

from collections.abc import Mapping

from ...autograd import Tensor, no_grad
from ...backend_ndarray import is_float
from ...nn import Module


def floats_of(model: Module) -> dict[str, Tensor]:
    """The parameters and buffers of floats, by name."""
    found = [*model.named_parameters(), *model.named_buffers()]
    return {name: x for name, x in found if is_float(x.dtype)}


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
