"""The first programs of the course: softmax regression and a two-layer network, by hand.

`reference` has them in NumPy (and one in C++) with hand-derived gradients, `tensors` on needle
Tensors with automatic ones. `softmax_loss`, `loss_err` and `nn_epoch` here take either kind.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from ..autograd import Tensor
from . import reference, tensors
from .reference import (
    add,
    parse_mnist,
    softmax_regression_epoch,
    softmax_regression_epoch_cpp,
    train_nn,
    train_softmax,
)

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


@overload
def softmax_loss(Z: Tensor, y: Tensor) -> Tensor: ...


@overload
def softmax_loss(Z: np.ndarray, y: np.ndarray) -> np.floating: ...


def softmax_loss(Z: Any, y: Any) -> Tensor | np.floating:
    """Mean cross-entropy of logits: arrays with integer labels, Tensors with one-hot targets.

    See `reference.softmax_loss` and `tensors.softmax_loss`.
    """
    if isinstance(Z, Tensor):
        return tensors.softmax_loss(Z, y)
    return reference.softmax_loss(Z, y)


def loss_err(h: Tensor | np.ndarray, y: np.ndarray) -> tuple[np.ndarray | np.floating, np.floating]:
    """(softmax loss, rate of wrong predictions) of logits, an array or a Tensor, and labels.

    See `reference.loss_err` and `tensors.loss_err`.
    """
    return tensors.loss_err(h, y) if isinstance(h, Tensor) else reference.loss_err(h, y)


def nn_epoch(
    X: np.ndarray, y: np.ndarray, W1: Any, W2: Any, lr: float = 0.1, batch: int = 100
) -> tuple[Tensor, Tensor] | None:
    """One epoch of a two-layer network: arrays are updated in place, Tensors returned anew.

    See `reference.nn_epoch` and `tensors.nn_epoch`.
    """
    if isinstance(W1, Tensor):
        return tensors.nn_epoch(X, y, W1, W2, lr, batch)
    reference.nn_epoch(X, y, W1, W2, lr, batch)
    return None
