"""Losses: how far predictions are from targets, as a Tensor to call `backward()` on.

`reduction` is "mean" (the default), "sum", or "none" for one loss per element or row. Shapes never
broadcast: targets that do not fit the predictions raise ValueError.
"""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import whole
from ..ops._common import as_tensors, widens
from ..ops._elementwise import logical_and
from .arguments import in_unit_interval, one_of
from .module import Module


class _Loss(Module):
    """What the losses share: the reduction."""

    _reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(type(self).__name__, "reduction", reduction, self._reductions)

    def _reduced(self, losses: Tensor) -> Tensor:
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def _check_same_shape(self, x: Tensor, target: Tensor) -> None:
        if x.shape != target.shape:
            raise ValueError(
                f"[{type(self).__name__}] input and target must have one shape, "
                f"got {x.shape} and {target.shape}"
            )

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class _ElementLoss(_Loss):
    """A loss with a number for each element."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """x and target of one shape."""
        x, target = as_tensors(x, target, type(self).__name__)
        self._check_same_shape(x, target)
        return self._reduced(widens(self._losses)(x, target))

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


# ---- classes --------------------------------------------------------------------------------


class NLLLoss(_Loss):
    """-log_probabilities[i, target[i]], the negative log likelihood of the true class.

    Rows whose target is `ignore_index` count nothing, not even in the mean.
    """

    def __init__(self, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.ignore_index = whole(ignore_index, type(self).__name__, "ignore_index")

    def forward(self, log_probabilities: Tensor, target: Tensor) -> Tensor:
        """log_probabilities (B, C) and integers target (B,). Raises IndexError outside 0 … C-1."""
        if not isinstance(target, Tensor):
            target = Tensor(target, device=log_probabilities.device, requires_grad=False)
        labels = target.realize_cached_data()
        if not is_float(labels.dtype):
            labels = labels.astype("int64")
        kept = labels.compare("ne", self.ignore_index)
        losses = ops.nll_loss(log_probabilities, labels * kept)
        losses = ops.where(kept, losses, 0.0)
        if self.reduction == "mean":
            count = kept.sum().astype(losses.dtype)
            return losses.sum() / Tensor.make_const(count)
        return self._reduced(losses)


class CrossEntropyLoss(_Loss):
    """logsumexp(logits[i]) - logits[i, target[i]], the cross entropy of softmax(logits).

    `label_smoothing` moves that much of the target's probability evenly to all classes (Szegedy
    et al., 2016). Rows whose target is `ignore_index` count nothing, not even in the mean.
    """

    def __init__(
        self, label_smoothing: float = 0.0, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        name = type(self).__name__
        self.label_smoothing = in_unit_interval(name, "label_smoothing", label_smoothing)
        self.ignore_index = whole(ignore_index, name, "ignore_index")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C) and integers target (B,). Raises IndexError outside 0 … C-1."""
        return ops.cross_entropy(
            logits, target, self.label_smoothing, self.ignore_index, self.reduction
        )


class SoftmaxLoss(CrossEntropyLoss):
    """`CrossEntropyLoss` by the course's name."""


CrossEntropy = CrossEntropyLoss


# ---- numbers --------------------------------------------------------------------------------


class MSELoss(_ElementLoss):
    """(input - target)²."""

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        difference = x - target
        return difference * difference


class L1Loss(_ElementLoss):
    """|input - target|."""

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.abs(x - target)


# ---- probabilities --------------------------------------------------------------------------


class BCEWithLogitsLoss(_ElementLoss):
    """-y·log p - (1 - y)·log(1 - p) for p = sigmoid(x), without overflow.

    At an infinite x as in the limit: what is impossible and not asked for costs nothing.
    """

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        wrong_one = _expected(1.0 - target, ops.maximum(x, 0.0))
        wrong_zero = _expected(target, ops.maximum(-x, 0.0))
        return wrong_one + wrong_zero + ops.log1p(ops.exp(-ops.abs(x)))


def _expected(probability: Tensor, cost: Tensor) -> Tensor:
    """probability · cost, where 0 · inf is 0."""
    never = logical_and(probability == 0, cost == math.inf)
    return probability * ops.where(never, 0.0, cost)


class KLDivLoss(_ElementLoss):
    """target·(log target - input), the Kullback-Leibler divergence; input is log probabilities.

    With `log_target` the target is given by its logarithm. "mean" is over all elements, as in
    PyTorch; "batchmean", over the rows, is the divergence itself.
    """

    _reductions = ("mean", "sum", "none", "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        if self.log_target:
            return ops.exp(target) * (target - x)
        nonzero = ops.where(target == 0, 1.0, target)  # 0·log 0 is 0
        return target * (ops.log(nonzero) - x)

    def _reduced(self, losses: Tensor) -> Tensor:
        if self.reduction != "batchmean":
            return super()._reduced(losses)
        if not losses.ndim:
            raise ValueError("[KLDivLoss] batchmean needs an input with a batch axis, got shape ()")
        return losses.sum() / losses.shape[0]
