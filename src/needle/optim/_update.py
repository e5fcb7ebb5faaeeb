"""Parts of updates that several optimizers share."""

from __future__ import annotations

from ..backend_ndarray import NDArray
from .optimizer import Batch, Group


def decayed(
    batch: Batch, group: Group, decoupled: bool = False
) -> tuple[list[NDArray], list[NDArray]]:
    """Parameters and gradients with the weight decay, added to the gradients or decoupled."""
    decay, params, grads = group["weight_decay"], batch.data, batch.grads
    if decay and decoupled:
        params = [p * (1 - group["lr"] * decay) for p in params]
    elif decay:
        grads = [g + decay * p for p, g in zip(params, grads, strict=True)]
    return params, grads


def averages(
    batch: Batch, grads: list[NDArray], beta1: float, beta2: float
) -> tuple[list[NDArray], list[NDArray]]:
    """Adam's moving averages of the gradient and of its square, brought up to date."""
    ms, vs = batch.moments("m"), batch.moments("v")
    ms = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
    vs = [beta2 * v + (1 - beta2) * (g * g) for v, g in zip(vs, grads, strict=True)]
    batch.set_moments("m", ms)
    batch.set_moments("v", vs)
    return ms, vs


def sign(x: NDArray) -> NDArray:
    """-1, 0 or 1."""
    return x.compare("gt", 0).astype(x.dtype) - x.compare("lt", 0).astype(x.dtype)
