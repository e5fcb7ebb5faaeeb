"""Losses of numbers: how far predictions are from targets of the same shape."""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..operands import ArrayLike
from ..ops._common import as_tensor, widens
from ..typing import Scalar
from ._losses_common import elementwise, reduced
from .arguments import non_negative, positive


def mse_loss(input: Tensor, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """Squared error, (x - target)²."""

    def losses(x: Tensor, target: Tensor) -> Tensor:
        difference = x - target
        return difference * difference

    return elementwise("mse_loss", losses, input, target, reduction)


def l1_loss(input: Tensor, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """Absolute error, |x - target|."""
    return elementwise("l1_loss", lambda x, target: ops.abs(x - target), input, target, reduction)


def smooth_l1_loss(
    input: Tensor, target: ArrayLike, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """Absolute error less beta/2; below `beta` the parabola that touches it. beta = 0 is L1."""
    beta = non_negative("smooth_l1_loss", "beta", beta)
    if not beta:
        return l1_loss(input, target, reduction=reduction)

    def losses(x: Tensor, target: Tensor) -> Tensor:
        error = ops.abs(x - target)
        return ops.where(error < beta, error * error * (0.5 / beta), error - 0.5 * beta)

    return elementwise("smooth_l1_loss", losses, input, target, reduction)


def huber_loss(
    input: Tensor, target: ArrayLike, *, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """Half the squared error, from `delta` on continued by its tangent."""
    delta = positive("huber_loss", "delta", delta)

    def losses(x: Tensor, target: Tensor) -> Tensor:
        error = ops.abs(x - target)
        return ops.where(error <= delta, error * error * 0.5, delta * (error - 0.5 * delta))

    return elementwise("huber_loss", losses, input, target, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: ArrayLike,
    var: ArrayLike | Scalar,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of `target` under normal distributions N(input, var).

    `target` broadcasts with `input`. `var` is a number, or has the shape of `input`, or that shape
    without its last axis or with length 1 there. A variance below `eps` counts as `eps`; its
    gradient is as if it did not.
    """
    name = "gaussian_nll_loss"
    eps = positive(name, "eps", eps)
    x, target = ops.broadcast_tensors(input, as_tensor(target, input))
    variance = as_tensor(var, x)
    if variance.ndim and variance.shape == x.shape[:-1] != x.shape:
        variance = variance.unsqueeze(-1)
    if variance.shape not in ((), x.shape, (*x.shape[:-1], 1)):
        raise ValueError(f"[{name}] var has shape {variance.shape}, the input {x.shape}")

    def losses(x: Tensor, target: Tensor) -> Tensor:
        floor = (ops.maximum(variance, eps) - variance).detach()
        v = variance + floor
        difference = x - target
        found = 0.5 * (ops.log(v) + difference * difference / v)
        return found + 0.5 * math.log(2 * math.pi) if full else found

    return reduced(name, widens(losses)(x, target), reduction)


def poisson_nll_loss(
    input: Tensor,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts under Poisson distributions of rate exp(input), or input.

    The constant log(target!) is left out; with `full` Stirling's formula stands for it where the
    target is above 1.
    """

    def losses(x: Tensor, target: Tensor) -> Tensor:
        found = ops.exp(x) - target * x if log_input else x - target * ops.log(x + eps)
        if not full:
            return found
        count = ops.where(target > 1, target, 1.0)
        stirling = count * ops.log(count) - count + 0.5 * ops.log(2 * math.pi * count)
        return found + ops.where(target > 1, stirling, 0.0)

    return elementwise("poisson_nll_loss", losses, input, target, reduction)


__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]
