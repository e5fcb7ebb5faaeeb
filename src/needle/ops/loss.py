"""Cross-entropy of logits with integer labels, as one op."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray, is_float
from .activation import log_softmax, softmax
from .common import FusedOp, is_scalar
from .reduction import summation
from .shape import gather, reshape, unsqueeze


class CrossEntropy(FusedOp):
    """-Σ target·log softmax(logits) of every row; 0 in rows whose label is `ignore_index`.

    target = (1 - smoothing)·one_hot(label) + smoothing / classes (Szegedy et al., 2016).
    """

    kernel = "cross_entropy"

    def __init__(self, labels: NDArray, smoothing: float, ignore_index: int) -> None:
        self.labels, self.smoothing, self.ignore_index = labels, smoothing, ignore_index
        self.lse: NDArray | None = None  # logsumexp of every row, which the gradient starts from

    def compute(self, logits: NDArray) -> NDArray:
        kernel = self.fused(logits)
        if kernel is None or not logits.size:
            return self.compute_by_parts(logits)
        losses, lse = (
            NDArray._empty(logits._shape[:1], logits._device, logits._dtype) for _ in range(2)
        )
        kernel(logits.compact(), self.labels, losses, lse, self.ignore_index, self.smoothing)
        self.lse = lse
        return losses

    def decompose(self, logits: Tensor) -> Tensor:  # type: ignore[override]
        return -summation(target_rows(self, logits.shape[1], logits) * log_softmax(logits, 1), 1)

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
        targets = target_rows(self.forward, logits.shape[1], logits)
        mass = summation(targets, 1, keepdims=True)  # 1, or 0 in ignored rows
        return unsqueeze(g, 1) * (softmax(logits, 1) * mass - targets)


def target_rows(op: CrossEntropy, classes: int, like: Tensor) -> Tensor:
    """The target distribution of every row as a constant (n, classes) tensor."""
    labels = op.labels.numpy()
    kept = labels != op.ignore_index
    _check_labels(labels[kept], classes)
    rows = np.full((labels.size, classes), op.smoothing / classes)
    rows[kept, labels[kept]] += 1.0 - op.smoothing
    rows[~kept] = 0.0
    return Tensor(rows, device=like.device, dtype=like.dtype, requires_grad=False)


def _check_labels(labels: np.ndarray, classes: int) -> None:
    bad = labels[(labels < 0) | (labels >= classes)]
    if bad.size:
        raise IndexError(f"[cross_entropy] label {bad[0]} is out of range for {classes} classes")


def _as_labels(labels: Any, logits: Tensor) -> NDArray:
    data = labels.realize_cached_data() if isinstance(labels, Tensor) else labels
    if not isinstance(data, NDArray):
        host = np.asarray(data)
        data = NDArray(
            host, device=logits.device, dtype="float64" if host.dtype.kind == "f" else "int64"
        )
    data = data.to(logits.device)
    if is_float(data.dtype) and not np.array_equal(np.floor(np.asarray(data)), np.asarray(data)):
        raise TypeError("[cross_entropy] labels must be whole numbers")
    if data.shape != logits.shape[:1]:
        raise ValueError(
            f"[cross_entropy] logits of shape {logits.shape} need labels of shape "
            f"({logits.shape[0]},), got {data.shape}"
        )
    return data.astype("int64").compact()


def cross_entropy(
    logits: Tensor,
    labels: Any,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The cross-entropy of `logits` (n, classes) with integer `labels` (n,).

    `reduction` is "mean" (over the labels that are not `ignore_index`), "sum" or "none" (n,).
    Raises ValueError for other shapes, TypeError for labels with fractions, IndexError for a
    label outside 0 … classes-1.
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
    losses = CrossEntropy(targets, float(label_smoothing), int(ignore_index))(logits)
    if reduction == "none":
        return losses
    total = summation(losses)
    if reduction == "sum":
        return total
    count = int(targets.compare("ne", ignore_index).astype("uint8").sum().item())
    return total * (1.0 / count if count else float("nan"))


def nll_loss(log_probs: Tensor, labels: Any) -> Tensor:
    """-log_probs[i, labels[i]] of every row of log_probs (n, classes); shape (n,)."""
    if log_probs.ndim != 2:
        raise ValueError(f"[nll_loss] log_probs must be (n, classes), got {log_probs.shape}")
    index = _as_labels(labels, log_probs)
    _check_labels(index.numpy(), log_probs.shape[1])
    return -reshape(gather(log_probs, 1, index.unsqueeze(1)), (log_probs.shape[0],))


__all__ = ["CrossEntropy", "CrossEntropyGrad", "cross_entropy", "nll_loss"]
