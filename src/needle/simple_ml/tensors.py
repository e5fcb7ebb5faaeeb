"""Softmax loss and the two-layer network on needle Tensors: autograd finds the gradients."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..autograd import Tensor

__all__ = ["loss_err", "nn_epoch", "softmax_loss"]


def softmax_loss(Z: Tensor, y_one_hot: Tensor) -> Tensor:
    """The mean over the batch of logsumexp(Z[i]) - Z[i]·y_one_hot[i], a 0-d Tensor.

    Z and y_one_hot are (batch, classes). Raises ValueError when their shapes differ.
    """
    if Z.shape != y_one_hot.shape or Z.ndim != 2:
        raise ValueError(
            f"[softmax_loss] logits {Z.shape} and one-hot targets {y_one_hot.shape} must be 2-d "
            "and of equal shape"
        )
    total = ops.summation(ops.logsumexp(Z, axis=1)) - ops.summation(Z * y_one_hot)
    return total / Z.shape[0]


def nn_epoch(
    X: np.ndarray, y: np.ndarray, W1: Tensor, W2: Tensor, lr: float = 0.1, batch: int = 100
) -> tuple[Tensor, Tensor]:
    """One epoch of gradient descent on relu(X·W1)·W2; returns the new (W1, W2).

    X (samples, features), y (samples,) integer labels, W1 (features, hidden), W2 (hidden,
    classes). The Tensors given are left as they are.
    """
    if len(X) != len(y) or batch < 1:
        raise ValueError(
            f"[nn_epoch] X and y must be of equal length and batch at least 1, got {len(X)}, "
            f"{len(y)} and {batch}"
        )
    for i in range(0, len(X), batch):
        rows = Tensor(X[i : i + batch], device=W1.device, requires_grad=False)
        targets = _one_hot(y[i : i + batch], W2)
        loss = softmax_loss(ops.relu(rows @ W1) @ W2, targets)
        loss.backward()
        W1, W2 = (Tensor(w.data - lr * w.grad.data) for w in (W1, W2))
    return W1, W2


def loss_err(h: Tensor, y: np.ndarray) -> tuple[np.ndarray, np.floating]:
    """(softmax loss, rate of wrong predictions) of logits h (batch, classes), labels y (batch,)."""
    wrong = np.mean(h.numpy().argmax(axis=1) != np.asarray(y))
    return softmax_loss(h, _one_hot(y, h)).numpy(), wrong


def _one_hot(y: np.ndarray, scores: Tensor) -> Tensor:
    """Rows of as many classes as `scores` has columns, on its device."""
    y, classes = np.asarray(y), scores.shape[-1]
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"labels must lie in [0, {classes}), found {y.min()} to {y.max()}")
    return Tensor(np.eye(classes, dtype=np.float32)[y], device=scores.device, requires_grad=False)
