"""Losses of one class out of several: cross-entropy, negative log-likelihood, their margins.

Scores have shape (B, C, d…), with one target (B, d…) for each row of C scores, or (C,) with a
single target.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray import NDArray, is_float
from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ..ops._common import as_tensor, widens
from ..ops._loss import checked_labels
from ..typing import Shape
from ._losses_common import REDUCTIONS, class_weights, reduced
from .arguments import in_unit_interval, one_of, positive_int


def cross_entropy(
    logits: Tensor,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(logits) with classes or with probabilities of classes.

    Parameters
    ----------
    logits : Tensor, shape (B, C), (B, C, d…) or (C,)
        The unnormalized log-probabilities of C classes.
    target : Tensor or array
        The classes, integers of the shape of `logits` without C; or probabilities, floats of the
        shape of `logits`.
    weight : Tensor or array, shape (C,), optional
        The weight of each class. The mean is divided by the sum of the weights of the targets.
    ignore_index : int, default -100
        Rows with this class have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    label_smoothing : float, default 0.0
        The part of each target's probability that is spread evenly over all classes, in [0, 1].

    Returns
    -------
    Tensor
        A scalar, or with reduction "none" of the shape of `logits` without C.

    Raises
    ------
    IndexError
        If a class is outside 0 … C - 1 and is not `ignore_index`.
    TypeError
        If classes are floats.
    ValueError
        If the shapes do not fit or an option is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> logits = ndl.Tensor([[0, 0, 1000], [1000, 0, 0]])
    >>> ndl.nn.CrossEntropyLoss()(logits, ndl.Tensor([[0, 0, 1], [0, 1, 0]]))
    needle.Tensor(500.0)
    """
    name = "cross_entropy"
    one_of(name, "reduction", reduction, REDUCTIONS)
    smoothing = in_unit_interval(name, "label_smoothing", label_smoothing)
    ignore_index = whole(ignore_index, name, "ignore_index")
    rows, shape = _rows(name, logits)
    target = _as_target(target, logits)
    weight = class_weights(name, weight, rows.shape[1], logits)
    if is_float(target.dtype) and target.shape == logits.shape:
        rows_of_target, _ = _rows(name, target)
        losses = widens(_soft_losses)(rows, rows_of_target, weight, smoothing)
        return reduced(name, losses.reshape(shape), reduction)
    labels = _labels(name, target, shape)
    if weight is None:
        losses = ops.cross_entropy(rows, labels, smoothing, ignore_index, reduction)
        return losses.reshape(shape) if reduction == "none" else losses

    def loss(rows: Tensor) -> Tensor:
        losses, weights = _weighted_losses(rows, labels, weight, smoothing, ignore_index)
        return _weighted_reduction(losses, weights, reduction, shape)

    return widens(loss)(rows)


def nll_loss(
    log_probabilities: Tensor,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of the true classes; the arguments are those of `cross_entropy`."""
    name = "nll_loss"
    one_of(name, "reduction", reduction, REDUCTIONS)
    ignore_index = whole(ignore_index, name, "ignore_index")
    rows, shape = _rows(name, log_probabilities)
    weight = class_weights(name, weight, rows.shape[1], log_probabilities)
    labels = _labels(name, _as_target(target, log_probabilities), shape)

    def loss(rows: Tensor) -> Tensor:
        losses, weights = _picked(rows, labels, weight, ignore_index)
        return _weighted_reduction(losses, weights, reduction, shape)

    return widens(loss)(rows)


def _rows(name: str, scores: Tensor) -> tuple[Tensor, Shape]:
    """The scores (B, C, d…) as rows (n, C), and the shape of the results."""
    if not scores.ndim:
        raise ValueError(f"[{name}] needs scores of shape (B, C), (B, C, d…) or (C,), got ()")
    if scores.ndim == 1:
        return scores.unsqueeze(0), ()
    shape = scores.shape[:1] + scores.shape[2:]
    if scores.ndim > 2:
        order = (0, *range(2, scores.ndim), 1)
        scores = ops.permute(scores, order).reshape((-1, scores.shape[1]))
    return scores, shape


def _as_target(target: ArrayLike, like: Tensor) -> Tensor:
    """The target as a Tensor; integers in lists stay integers."""
    return as_tensor(np.asarray(target) if isinstance(target, (list, tuple)) else target, like)


def _labels(name: str, target: Tensor, shape: Shape) -> NDArray:
    """The classes as int64 (n,). Raises TypeError for floats, ValueError for a wrong shape."""
    if is_float(target.dtype):
        raise TypeError(
            f"[{name}] labels must be integers, got {target.dtype} of shape {target.shape}: "
            'convert them by target.astype("int64"), the same as PyTorch\'s target.long(); '
            "probabilities of classes must have the shape of the logits"
        )
    if target.shape != shape:
        instead = ""
        if target.ndim > 1 and target.shape[:1] + target.shape[2:] == shape:
            instead = ": write target." + ("squeeze(1)" if target.shape[1] == 1 else "argmax(1)")
        raise ValueError(
            f"[{name}] the labels must have the shape {shape}, that of the scores without the "
            f"axis of classes, got {target.shape}{instead}"
        )
    labels: NDArray = target.realize_cached_data().astype("int64")
    return labels.reshape((-1,))


def _picked(
    rows: Tensor, labels: NDArray, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """-weight·row[label] of every row, and the weights; both are 0 where the label is ignored."""
    kept = labels.compare("ne", ignore_index)
    index = checked_labels(labels * kept, rows.shape[1])
    picked = ops.gather(rows, 1, index.unsqueeze(1)).reshape((-1,))
    weights = Tensor.make_const(kept.astype(rows.dtype))
    if weight is not None:
        weights = weights * ops.take(weight, Tensor.make_const(index))
    return -ops.where(kept, picked, 0.0) * weights, weights


def _weighted_losses(
    rows: Tensor, labels: NDArray, weight: Tensor, smoothing: float, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """The losses of weighted classes, and the weights of the targets."""
    log_probabilities = ops.log_softmax(rows, 1)
    losses, weights = _picked(log_probabilities, labels, weight, ignore_index)
    if smoothing:
        even = -(log_probabilities * weight).sum(1) / rows.shape[1]
        even = ops.where(labels.compare("ne", ignore_index), even, 0.0)
        losses = (1 - smoothing) * losses + smoothing * even
    return losses, weights


def _soft_losses(rows: Tensor, target: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """-Σ weight·target·log softmax(row) of every row."""
    if smoothing:
        target = target * (1 - smoothing) + smoothing / rows.shape[1]
    terms = target * ops.log_softmax(rows, 1)
    terms = ops.where(target == 0, 0.0, terms)  # 0·log 0 is 0
    return -(terms if weight is None else terms * weight).sum(1)


def _weighted_reduction(losses: Tensor, weights: Tensor, reduction: str, shape: Shape) -> Tensor:
    if reduction == "none":
        return losses.reshape(shape)
    total = losses.sum()
    return total / weights.sum() if reduction == "mean" else total


# ---- margins ------------------------------------------------------------------------------------


def multi_margin_loss(
    input: Tensor,
    target: ArrayLike,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of classes: the mean over C of max(0, margin - x[target] + x[i])^p, i ≠ target."""
    name = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"[{name}] p must be 1 or 2, got {p!r}")
    rows, shape = _rows(name, input)
    if input.ndim > 2:
        raise ValueError(f"[{name}] needs scores of shape (B, C) or (C,), got {input.shape}")
    classes = rows.shape[1]
    weight = class_weights(name, weight, classes, input)
    labels = checked_labels(_labels(name, _as_target(target, input), shape), classes)

    def losses(rows: Tensor) -> Tensor:
        chosen = ops.gather(rows, 1, labels.unsqueeze(1))
        costs = ops.maximum(margin - chosen + rows, 0.0) ** p
        if weight is not None:
            costs = costs * ops.take(weight, Tensor.make_const(labels)).unsqueeze(1)
        others = 1.0 - ops.one_hot(Tensor.make_const(labels), classes, rows.dtype)
        return (costs * others).sum(1) / classes

    return reduced(name, widens(losses)(rows).reshape(shape), reduction)


def multilabel_margin_loss(input: Tensor, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """Hinge loss of sets of classes; each row of `target` lists its classes, then has -1."""
    name = "multilabel_margin_loss"
    target = as_tensor(target, input)
    if input.ndim not in (1, 2) or target.shape != input.shape:
        raise ValueError(
            f"[{name}] input and target must have one shape, (B, C) or (C,), "
            f"got {input.shape} and {target.shape}"
        )
    rows, shape = _rows(name, input)
    classes = positive_int(name, "the number of classes", rows.shape[1])
    labels = _labels(name, target, input.shape).reshape(rows.shape)
    ends = labels.compare("lt", 0).astype("int64").cumsum(1)
    listed = Tensor.make_const(ends.compare("eq", 0)).astype("float32")
    labels = checked_labels(labels * ends.compare("eq", 0), classes)

    def losses(rows: Tensor) -> Tensor:
        one_hot = ops.one_hot(Tensor.make_const(labels), classes, rows.dtype)  # (B, C, C)
        is_target = (one_hot * listed.unsqueeze(2)).amax(1)  # (B, C)
        chosen = ops.gather(rows, 1, labels)
        costs = ops.maximum(1.0 - chosen.unsqueeze(2) + rows.unsqueeze(1), 0.0)
        pairs = listed.unsqueeze(2) * (1.0 - is_target).unsqueeze(1)
        total: Tensor = (costs * pairs).sum((1, 2))
        return total / classes

    return reduced(name, widens(losses)(rows).reshape(shape), reduction)


def multilabel_soft_margin_loss(
    input: Tensor, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy of each class's logit, averaged over the last axis.

    `weight` broadcasts with the input: a number for each class, or for each element.
    """
    name = "multilabel_soft_margin_loss"
    target = as_tensor(target, input)
    if input.shape != target.shape or not input.ndim:
        raise ValueError(
            f"[{name}] input and target must have one shape, got {input.shape} and {target.shape}"
        )
    if weight is not None:
        weight = ops.broadcast_to(as_tensor(weight, input), input.shape)

    def losses(x: Tensor, target: Tensor) -> Tensor:
        costs = target * ops.softplus(-x) + (1.0 - target) * ops.softplus(x)
        return (costs if weight is None else costs * weight).mean(-1)

    return reduced(name, widens(losses)(input, target), reduction)


__all__ = [
    "cross_entropy",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
]
