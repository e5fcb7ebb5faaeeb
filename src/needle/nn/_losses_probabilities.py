"""Losses of probabilities: binary cross-entropy and the Kullback-Leibler divergence."""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray import is_traced
from ..operands import ArrayLike
from ..ops._common import as_tensor, widens
from ..ops._comparison import logical_and
from ._losses_common import elementwise, of_one_shape, reduced
from .arguments import one_of


def binary_cross_entropy(
    input: Tensor, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-target·log x - (1 - target)·log(1 - x) for probabilities x; logarithms are -100 at least."""
    name = "binary_cross_entropy"
    x, target = of_one_shape(name, input, target)
    _check_probabilities(name, x)

    def losses(x: Tensor, target: Tensor) -> Tensor:
        found = -(target * _log(x) + (1.0 - target) * _log(1.0 - x))
        return found if weight is None else found * as_tensor(weight, x)

    return reduced(name, widens(losses)(x, target), reduction)


def _check_probabilities(name: str, x: Tensor) -> None:
    """Raises ValueError for logits in the place of probabilities.

    A trace has no values to see, and a GPU would have to be waited for.
    """
    data = x.realize_cached_data()
    if is_traced(data) or not data.device.shares_memory or not data.size:
        return
    low, high = data.min().item(), data.max().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"[{name}] needs probabilities in [0, 1], got values from {low:.4g} to {high:.4g}; "
            "logits belong into binary_cross_entropy_with_logits (BCEWithLogitsLoss)"
        )


def _log(p: Tensor) -> Tensor:
    """log p, but -100 with gradient 0 where that is less, as at p = 0."""
    is_tiny = p <= math.exp(-100)
    return ops.where(is_tiny, -100.0, ops.log(ops.where(is_tiny, 1.0, p)))


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Tensor:
    """Binary cross-entropy of logits; `pos_weight` multiplies the cost of the target 1."""
    name = "binary_cross_entropy_with_logits"
    x, target = of_one_shape(name, input, target)

    def losses(x: Tensor, target: Tensor) -> Tensor:
        missed = target if pos_weight is None else target * as_tensor(pos_weight, x)
        wrong_one = _expected(1.0 - target, ops.maximum(x, 0.0))
        wrong_zero = _expected(missed, ops.maximum(-x, 0.0))
        rest = ops.log1p(ops.exp(-ops.abs(x)))
        if pos_weight is not None:
            rest = (1.0 - target + missed) * rest
        found = wrong_one + wrong_zero + rest
        return found if weight is None else found * as_tensor(weight, x)

    return reduced(name, widens(losses)(x, target), reduction)


def _expected(probability: Tensor, cost: Tensor) -> Tensor:
    """probability · cost, where 0 · inf is 0."""
    never = logical_and(probability == 0, cost == math.inf)
    return probability * ops.where(never, 0.0, cost)


def kl_div(
    input: Tensor, target: ArrayLike, *, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """Kullback-Leibler divergence, target·(log target - input), of log-probabilities `input`.

    The reduction "batchmean" divides the sum by the length of axis 0.
    """

    def losses(x: Tensor, target: Tensor) -> Tensor:
        if log_target:
            return ops.exp(target) * (target - x)
        nonzero = ops.where(target == 0, 1.0, target)  # 0·log 0 is 0
        return target * (ops.log(nonzero) - x)

    one_of("kl_div", "reduction", reduction, ("mean", "sum", "none", "batchmean"))
    if reduction != "batchmean":
        return elementwise("kl_div", losses, input, target, reduction)
    if not input.ndim:
        raise ValueError("[kl_div] batchmean needs an input with a batch axis, got shape ()")
    return elementwise("kl_div", losses, input, target, "sum") / input.shape[0]


__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"]
