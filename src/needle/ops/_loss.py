"""Cross-entropy of logits with integer labels, as one op."""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray, is_float, is_traced, one_hot, required
from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ._activation import log_softmax, softmax
from ._common import FusedOp, is_scalar, widens
from ._comparison import where
from ._indexing import gather
from ._reduction import summation
from ._shape import reshape, unsqueeze


class CrossEntropy(FusedOp):
    """-Σ target·log softmax(logits) of every row; 0 in rows whose label is `ignore_index`.

    target = (1 - smoothing)·one_hot(label) + smoothing / classes (Szegedy et al., 2016).
    """

    kernel = "cross_entropy"

    def __init__(self, labels: NDArray, smoothing: float, ignore_index: int) -> None:
        self.labels, self.smoothing, self.ignore_index = labels, smoothing, ignore_index
        # (n, 2), the terms of every row's logsumexp, from which the gradient starts: the maximum
        # and the logarithm of the sum of exp(x - maximum), which would be lost in their sum.
        self.lse: NDArray | None = None

    def compute(self, logits: NDArray) -> NDArray:
        kernel = self.fused(logits)
        if kernel is None or not logits.size:
            return self.compute_by_parts(logits)
        n = logits._shape[0]
        losses, lse = (
            NDArray._empty(shape, logits._device, logits._dtype) for shape in ((n,), (n, 2))
        )
        kernel(logits.compact(), self.labels, losses, lse, self.ignore_index, self.smoothing)
        self.lse = lse
        return losses

    def decompose(self, logits: Tensor) -> Tensor:  # type: ignore[override]
        targets = target_rows(self, logits)
        terms = targets * log_softmax(logits, 1)
        return -summation(where(targets > 0, terms, 0.0), 1)  # 0·log 0 is 0

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor]:
        return (CrossEntropyGrad(self)(node.inputs[0], out_grad),)


class CrossEntropyGrad(FusedOp):
    """g·(softmax(logits) - target) row by row; 0 in ignored rows."""

    kernel = "cross_entropy_grad"

    def __init__(self, forward: CrossEntropy) -> None:
        self.forward = forward

    def compute(self, logits: NDArray, g: NDArray) -> NDArray:
        op, kernel = self.forward, self.fused(logits)
        if kernel is None or op.lse is None:
            return self.compute_by_parts(logits, g)
        out = NDArray._empty(logits._shape, logits._device, logits._dtype)
        kernel(logits.compact(), op.labels, g.compact(), op.lse, out, op.ignore_index, op.smoothing)
        return out

    def decompose(self, logits: Tensor, g: Tensor) -> Tensor:  # type: ignore[override]
        difference = softmax(logits, 1) - target_rows(self.forward, logits)
        kept = kept_rows(self.forward)
        return where(kept, unsqueeze(g, 1) * difference, 0.0)  # of NaN or inf in ignored rows, too


def kept_rows(op: CrossEntropy) -> Tensor:
    """Whether every row (n, 1) counts: its label is not the ignored one."""
    return Tensor.make_const(op.labels.compare("ne", op.ignore_index).unsqueeze(1))


def target_rows(op: CrossEntropy, logits: Tensor) -> Tensor:
    """The target distribution of every row as a constant of the shape of `logits`."""
    labels, classes = op.labels, logits.shape[1]
    labels = checked_labels(labels, classes, op.ignore_index)
    rows = one_hot(labels, classes, logits.dtype)
    if op.smoothing:
        rows = rows * (1.0 - op.smoothing) + op.smoothing / classes
    return Tensor.make_const(rows) * kept_rows(op).astype(logits.dtype)


def checked_labels(labels: NDArray, classes: int, ignore_index: int | None = None) -> NDArray:
    """The labels. Raises IndexError for one outside 0 … classes-1 that is not `ignore_index`."""
    if is_traced(labels):
        inside = labels.compare("ge", 0)._binary("logical_and", labels.compare("lt", classes))
        if ignore_index is not None:
            inside = inside._binary("logical_or", labels.compare("eq", ignore_index))
        return required(labels, inside)
    host = np.asarray(labels)
    bad = (host < 0) | (host >= classes)
    if ignore_index is not None:
        bad &= host != ignore_index
    if bad.any():
        raise IndexError(
            f"[cross_entropy] label {host[bad][0]} is out of range for {classes} classes"
        )
    return labels


def whole_labels(labels: NDArray) -> NDArray:
    """The labels as int64. Raises TypeError for a float that is no whole number."""
    rounded = labels.astype("int64")
    if not is_float(labels.dtype):
        return rounded
    if is_traced(labels):
        return required(rounded, labels.compare("eq", rounded))
    host = np.asarray(labels)
    if not np.array_equal(np.floor(host), host):
        raise TypeError("[cross_entropy] labels must be whole numbers")
    return rounded


def _as_labels(labels: ArrayLike, logits: Tensor) -> NDArray:
    data = labels.realize_cached_data() if isinstance(labels, Tensor) else labels
    if not isinstance(data, NDArray):
        host = np.asarray(data)
        data = NDArray(
            host, device=logits.device, dtype="float64" if host.dtype.kind == "f" else "int64"
        )
    data = whole_labels(data.to(logits.device))
    if data.shape != logits.shape[:1]:
        raise ValueError(
            f"[cross_entropy] logits of shape {logits.shape} need labels of shape "
            f"({logits.shape[0]},), got {data.shape}"
        )
    return data.compact()


@widens
def cross_entropy(
    logits: Tensor,
    labels: ArrayLike,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of softmax(logits) with integer labels.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
        The unnormalized log-probabilities.
    labels : Tensor or array, shape (n,)
        The true classes, integers or whole numbers of a floating-point dtype.
    label_smoothing : float, default 0.0
        The part of each label's probability that is spread evenly over all classes, in [0, 1].
    ignore_index : int, default -100
        Rows with this label have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. If every label is ignored, the mean is NaN and its
        gradient is zero.

    Returns
    -------
    Tensor
        A scalar, or with reduction "none" of shape (n,).

    Raises
    ------
    TypeError
        If a label is not a whole number.
    IndexError
        If a label is outside 0 … classes - 1 and is not `ignore_index`.
    ValueError
        If the shapes do not fit or an option is out of range.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016 (label
    smoothing).

    Examples
    --------
    >>> import needle as ndl
    >>> logits = ndl.Tensor([[0, 0, 1000], [1000, 0, 0]])
    >>> ndl.cross_entropy(logits, [2, 1])
    needle.Tensor(500.0)
    """
    if logits.ndim != 2:
        raise ValueError(f"[cross_entropy] logits must be (n, classes), got shape {logits.shape}")
    if not is_scalar(label_smoothing) or not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(
            f"[cross_entropy] label_smoothing must be in [0, 1], got {label_smoothing!r}"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"[cross_entropy] reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        )
    targets = _as_labels(labels, logits)
    ignore_index = whole(ignore_index, "cross_entropy", "ignore_index")
    losses = CrossEntropy(targets, float(label_smoothing), ignore_index)(logits)
    if reduction == "none":
        return losses
    total = summation(losses)
    if reduction == "sum":
        return total
    count = targets.compare("ne", ignore_index).sum()
    return total / Tensor.make_const(count.astype(logits.dtype))  # 0 / 0 is NaN


@widens
def nll_loss(log_probs: Tensor, labels: ArrayLike) -> Tensor:
    """Negative log-likelihood of each row, -log_probs[i, labels[i]].

    Parameters
    ----------
    log_probs : Tensor, shape (n, classes)
        The log-probabilities.
    labels : Tensor or array, shape (n,)
        The true classes.

    Returns
    -------
    Tensor, shape (n,)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    IndexError
        If a label is out of range.
    TypeError
        If a label is not a whole number.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.nll_loss(ndl.Tensor([[-1, -2]]), [1])
    needle.Tensor([2.])
    """
    if log_probs.ndim != 2:
        raise ValueError(f"[nll_loss] log_probs must be (n, classes), got {log_probs.shape}")
    index = checked_labels(_as_labels(labels, log_probs), log_probs.shape[1])
    return -reshape(gather(log_probs, 1, index.unsqueeze(1)), (log_probs.shape[0],))


__all__ = ["CrossEntropy", "CrossEntropyGrad", "cross_entropy", "nll_loss"]
