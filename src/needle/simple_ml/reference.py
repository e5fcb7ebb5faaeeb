"""Softmax regression and a two-layer network in NumPy, with gradients derived by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data import parse_mnist
from ..native import core

__all__ = [
    "add",
    "loss_err",
    "nn_epoch",
    "parse_mnist",
    "softmax_loss",
    "softmax_regression_epoch",
    "softmax_regression_epoch_cpp",
    "train_nn",
    "train_softmax",
]


def add(x: Any, y: Any) -> Any:
    """x + y."""
    return x + y


def softmax_loss(Z: np.ndarray, y: np.ndarray) -> np.floating:
    """The mean over the batch of logsumexp(Z[i]) - Z[i, y[i]].

    Z (batch, classes) holds logits, y (batch,) integer labels. Finite for any finite logits.
    """
    _check_labels("softmax_loss", y, Z.shape[0], Z.shape[1])
    logits = Z if Z.dtype.kind == "f" else Z.astype(np.float64)  # differences of integers may wrap
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    loss: np.floating = (log_sum - shifted[np.arange(len(y)), y]).mean()
    return loss


def softmax_regression_epoch(
    X: np.ndarray, y: np.ndarray, theta: np.ndarray, lr: float = 0.1, batch: int = 100
) -> None:
    """One epoch of gradient descent on softmax regression, updating `theta` in place.

    X (samples, features), y (samples,) integer labels, theta (features, classes). Goes through the
    batches in order; each step subtracts lr · Xᵀ(softmax(X·theta) - one_hot(y)) / rows. Raises
    TypeError or ValueError, with theta untouched, for arrays that do not fit.
    """
    _check_epoch("softmax_regression_epoch", X, y, batch, theta=theta)
    for i in range(0, len(X), batch):
        rows, labels = X[i : i + batch], y[i : i + batch]
        theta -= lr * (rows.T @ _softmax_error(rows @ theta, labels))


def softmax_regression_epoch_cpp(
    X: np.ndarray, y: np.ndarray, theta: np.ndarray, lr: float = 0.1, batch: int = 100
) -> None:
    """`softmax_regression_epoch` in C++: float32 X, uint8 y, float32 theta, all C-contiguous.

    Raises RuntimeError where the C++ core was not built.
    """
    if core is None:
        raise RuntimeError(
            "[softmax_regression_epoch_cpp] the C++ core was not built; install a C++ compiler and "
            "reinstall needle-dl, or use softmax_regression_epoch"
        )
    name = "softmax_regression_epoch_cpp"
    for label, a, dtype in (("X", X, "float32"), ("y", y, "uint8"), ("theta", theta, "float32")):
        if not isinstance(a, np.ndarray) or a.dtype != dtype:
            raise TypeError(f"[{name}] {label} must be a {dtype} array, got {_kind(a)}")
        if not a.flags.c_contiguous:
            raise ValueError(f"[{name}] {label} must be C-contiguous; use np.ascontiguousarray")
    _check_epoch(name, X, y, batch, theta=theta)
    core.softmax_regression_epoch(X, y, theta, lr, batch)


def nn_epoch(
    X: np.ndarray,
    y: np.ndarray,
    W1: np.ndarray,
    W2: np.ndarray,
    lr: float = 0.1,
    batch: int = 100,
) -> None:
    """One epoch of gradient descent on relu(X·W1)·W2, updating W1 and W2 in place.

    X (samples, features), y (samples,) integer labels, W1 (features, hidden), W2 (hidden,
    classes). Raises TypeError or ValueError, with the weights untouched, for arrays that do not
    fit.
    """
    _check_epoch("nn_epoch", X, y, batch, W1=W1, W2=W2)
    for i in range(0, len(X), batch):
        rows, labels = X[i : i + batch], y[i : i + batch]
        hidden = np.maximum(rows @ W1, 0)
        error = _softmax_error(hidden @ W2, labels)
        hidden_error = (hidden > 0) * (error @ W2.T)
        W2 -= lr * (hidden.T @ error)
        W1 -= lr * (rows.T @ hidden_error)


def loss_err(h: np.ndarray, y: np.ndarray) -> tuple[np.floating, np.floating]:
    """(softmax loss, rate of wrong predictions) of logits h (batch, classes), labels y (batch,)."""
    return softmax_loss(h, y), np.mean(h.argmax(axis=1) != y)


def train_softmax(
    X_tr: np.ndarray,
    y_tr: np.ndarray,
    X_te: np.ndarray,
    y_te: np.ndarray,
    epochs: int = 10,
    lr: float = 0.5,
    batch: int = 100,
    cpp: bool = False,
) -> np.ndarray:
    """Train softmax regression from zeros; prints a row an epoch and returns theta.

    X_tr, X_te (samples, features) and y_tr, y_te (samples,) are the training and the test set. With
    `cpp` the epochs run in C++, which needs float32 and uint8 arrays.
    """
    epoch = softmax_regression_epoch_cpp if cpp else softmax_regression_epoch
    theta = np.zeros((X_tr.shape[1], int(y_tr.max()) + 1), dtype=np.float32)

    def logits(X: np.ndarray) -> np.ndarray:
        return X @ theta

    _train(lambda: epoch(X_tr, y_tr, theta, lr, batch), logits, epochs, X_tr, y_tr, X_te, y_te)
    return theta


def train_nn(
    X_tr: np.ndarray,
    y_tr: np.ndarray,
    X_te: np.ndarray,
    y_te: np.ndarray,
    hidden_dim: int = 500,
    epochs: int = 10,
    lr: float = 0.5,
    batch: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Train the two-layer network; prints a row an epoch and returns (W1, W2).

    The weights are drawn after `numpy.random.seed(0)`: standard normal numbers over the square
    roots of `hidden_dim` and of the number of classes. The sets are as in `train_softmax`.
    """
    features, classes = X_tr.shape[1], int(y_tr.max()) + 1
    np.random.seed(0)
    W1 = np.random.randn(features, hidden_dim).astype(np.float32) / np.float32(hidden_dim**0.5)
    W2 = np.random.randn(hidden_dim, classes).astype(np.float32) / np.float32(classes**0.5)

    def logits(X: np.ndarray) -> np.ndarray:
        logits: np.ndarray = np.maximum(X @ W1, 0) @ W2
        return logits

    _train(lambda: nn_epoch(X_tr, y_tr, W1, W2, lr, batch), logits, epochs, X_tr, y_tr, X_te, y_te)
    return W1, W2


def _train(
    epoch: Callable[[], None],
    logits: Callable[[np.ndarray], np.ndarray],
    epochs: int,
    X_tr: np.ndarray,
    y_tr: np.ndarray,
    X_te: np.ndarray,
    y_te: np.ndarray,
) -> None:
    """Run the epochs and print the losses and error rates of both sets after each."""
    print("| Epoch | Train Loss | Train Err | Test Loss | Test Err |")
    for i in range(epochs):
        epoch()
        train_loss, train_err = loss_err(logits(X_tr), y_tr)
        test_loss, test_err = loss_err(logits(X_te), y_te)
        print(
            f"|  {i:>4} |    {train_loss:.5f} |   {train_err:.5f} |   {test_loss:.5f} |  "
            f"{test_err:.5f} |"
        )


def _softmax_error(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of the mean loss with respect to the logits: (softmax - one_hot) / rows."""
    error: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    return error


def _check_epoch(name: str, X: np.ndarray, y: object, batch: object, **weights: np.ndarray) -> None:
    """X (m, n), labels y (m,), and weights that chain: (n, a), (a, b), …"""
    for label, a in {"X": X, **weights}.items():
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f":
            raise TypeError(f"[{name}] {label} must be a floating-point array, got {_kind(a)}")
        if a.ndim != 2:
            raise ValueError(f"[{name}] {label} must be 2-d, got shape {a.shape}")
    width, before = X.shape[1], "X"
    for label, w in weights.items():
        if w.shape[0] != width:
            raise ValueError(
                f"[{name}] {label} has shape {w.shape}, expected {width} rows to follow {before}"
            )
        if not w.flags.writeable:
            raise ValueError(f"[{name}] {label} is read-only and cannot be updated in place")
        width, before = w.shape[1], label
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ValueError(f"[{name}] batch must be an int of at least 1, got {batch!r}")
    _check_labels(name, y, X.shape[0], width)


def _check_labels(name: str, y: object, rows: int, classes: int) -> None:
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        raise TypeError(f"[{name}] y must be an array of integer labels, got {_kind(y)}")
    if y.shape != (rows,):
        raise ValueError(f"[{name}] y must have shape ({rows},), got {y.shape}")
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(
            f"[{name}] labels must lie in [0, {classes}), found {y.min()} to {y.max()}"
        )


def _kind(a: object) -> str:
    return f"{a.dtype} array" if isinstance(a, np.ndarray) else type(a).__name__
