"""The functions of the course's `simple_ml`: those on arrays, those on Tensors, and its training
loops for CIFAR-10 and word corpora.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import needle as ndl
from needle import nn
from needle.data import get_batch
from needle.simple_ml import (
    add,
    loss_err,
    nn_epoch,
    parse_mnist,
    softmax_loss,
    softmax_regression_epoch,
    softmax_regression_epoch_cpp,
)

__all__ = [
    "add",
    "epoch_general_cifar10",
    "epoch_general_ptb",
    "evaluate_cifar10",
    "evaluate_ptb",
    "loss_err",
    "nn_epoch",
    "parse_mnist",
    "softmax_loss",
    "softmax_regression_epoch",
    "softmax_regression_epoch_cpp",
    "train_cifar10",
    "train_ptb",
]


class _Means:
    """Accuracy and loss over all targets seen."""

    def __init__(self) -> None:
        self.correct, self.loss, self.count = 0, 0.0, 0

    def add(self, logits: ndl.Tensor, y: ndl.Tensor, loss: ndl.Tensor) -> None:
        self.correct += int((logits.numpy().argmax(axis=1) == y.numpy()).sum())
        self.loss += float(loss.numpy()) * y.shape[0]
        self.count += y.shape[0]

    def result(self) -> tuple[float, float]:
        if self.count == 0:
            raise ValueError("there is no data to go through")
        return self.correct / self.count, self.loss / self.count


def _update(loss: ndl.Tensor, opt: ndl.optim.Optimizer, clip: float | None = None) -> None:
    opt.reset_grad()
    loss.backward()
    if clip is not None:
        ndl.optim.clip_grad_norm(opt.params, clip)
    opt.step()


def epoch_general_cifar10(
    dataloader: ndl.data.DataLoader,
    model: nn.Module,
    loss_fn: nn.Module | None = None,
    opt: ndl.optim.Optimizer | None = None,
) -> tuple[float, float]:
    """One pass over images and labels, training if `opt` is given: (accuracy, loss)."""
    np.random.seed(4)
    loss_fn = nn.SoftmaxLoss() if loss_fn is None else loss_fn
    model.train() if opt is not None else model.eval()
    means = _Means()
    for x, y in dataloader:
        logits = model(x)
        loss = loss_fn(logits, y)
        if opt is not None:
            _update(loss, opt)
        means.add(logits, y, loss)
    return means.result()


def train_cifar10(
    model: nn.Module,
    dataloader: ndl.data.DataLoader,
    n_epochs: int = 1,
    optimizer: type[ndl.optim.Optimizer] = ndl.optim.Adam,
    lr: float = 0.001,
    weight_decay: float = 0.001,
    loss_fn: Callable[[], nn.Module] = nn.SoftmaxLoss,
) -> tuple[float, float]:
    """Train for `n_epochs`; the last epoch's (accuracy, loss)."""
    np.random.seed(4)
    opt = optimizer(model.parameters(), lr=lr, weight_decay=weight_decay)
    result = float("nan"), float("nan")
    for _ in range(n_epochs):
        result = epoch_general_cifar10(dataloader, model, _made(loss_fn), opt)
    return result


def evaluate_cifar10(
    model: nn.Module,
    dataloader: ndl.data.DataLoader,
    loss_fn: Callable[[], nn.Module] = nn.SoftmaxLoss,
) -> tuple[float, float]:
    """(accuracy, loss) of the model in eval mode."""
    np.random.seed(4)
    return epoch_general_cifar10(dataloader, model, _made(loss_fn))


def epoch_general_ptb(
    data: Any,
    model: nn.Module,
    seq_len: int = 40,
    loss_fn: nn.Module | None = None,
    opt: ndl.optim.Optimizer | None = None,
    clip: float | None = None,
    device: ndl.Device | None = None,
    dtype: Any = "float32",
) -> tuple[float, float]:
    """One pass over `data` (nbatch, batch_size) from `batchify`: (accuracy, loss).

    The hidden state is carried from piece to piece, without its history.
    """
    np.random.seed(4)
    loss_fn = nn.SoftmaxLoss() if loss_fn is None else loss_fn
    model.train() if opt is not None else model.eval()
    means, state = _Means(), None
    for i in range(0, data.shape[0] - 1, seq_len):
        x, y = get_batch(data, i, seq_len, device=device, dtype=dtype)
        logits, state = model(x, state)
        state = _detached(state)
        loss = loss_fn(logits, y)
        if opt is not None:
            _update(loss, opt, clip)
        means.add(logits, y, loss)
    return means.result()


def train_ptb(
    model: nn.Module,
    data: Any,
    seq_len: int = 40,
    n_epochs: int = 1,
    optimizer: type[ndl.optim.Optimizer] = ndl.optim.SGD,
    lr: float = 4.0,
    weight_decay: float = 0.0,
    loss_fn: Callable[[], nn.Module] = nn.SoftmaxLoss,
    clip: float | None = None,
    device: ndl.Device | None = None,
    dtype: Any = "float32",
) -> tuple[float, float]:
    """Train for `n_epochs`; the last epoch's (accuracy, loss)."""
    np.random.seed(4)
    opt = optimizer(model.parameters(), lr=lr, weight_decay=weight_decay)
    result = float("nan"), float("nan")
    for _ in range(n_epochs):
        result = epoch_general_ptb(data, model, seq_len, _made(loss_fn), opt, clip, device, dtype)
    return result


def evaluate_ptb(
    model: nn.Module,
    data: Any,
    seq_len: int = 40,
    loss_fn: Callable[[], nn.Module] = nn.SoftmaxLoss,
    device: ndl.Device | None = None,
    dtype: Any = "float32",
) -> tuple[float, float]:
    """(accuracy, loss) of the model in eval mode."""
    np.random.seed(4)
    return epoch_general_ptb(data, model, seq_len, _made(loss_fn), device=device, dtype=dtype)


def _made(loss_fn: Any) -> nn.Module:
    """A loss, given as a module or as its class."""
    return loss_fn() if isinstance(loss_fn, type) else loss_fn


def _detached(state: Any) -> Any:
    return tuple(map(_detached, state)) if isinstance(state, tuple) else state.detach()
