"""Epochs of supervised classification, with callbacks instead of printing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from .. import nn, optim
from ..autograd import Tensor, no_grad


class EpochResult(NamedTuple):
    """Means over the samples of one pass through the data."""

    loss: float
    accuracy: float
    samples_per_second: float


class Stepper(Protocol):
    """A learning-rate schedule."""

    def step(self) -> None: ...


@dataclass
class Meter:
    """Running sums of one epoch."""

    samples: int = 0
    correct: int = 0
    loss: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch; `loss` is its mean."""
        size = labels.shape[0]
        hits = np.asarray(logits).argmax(axis=1) == np.asarray(labels)
        self.samples += size
        self.correct += int(hits.sum())
        self.loss += loss.item() * size

    def result(self) -> EpochResult:
        """The means so far."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        n = max(self.samples, 1)
        return EpochResult(self.loss / n, self.correct / n, self.samples / seconds)


@dataclass
class History:
    """What `fit` measured, one entry an epoch."""

    train: list[EpochResult] = field(default_factory=list)
    test: list[EpochResult] = field(default_factory=list)
    seconds: float = 0.0


OnBatch = Callable[[EpochResult], None]


def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: optim.Optimizer,
    loss_fn: nn.Module,
    schedule: Stepper | None = None,
    on_batch: OnBatch | None = None,
    clip: float | None = None,
) -> EpochResult:
    """One pass over (inputs, labels) batches that updates the model after each.

    The schedule, if any, steps after every batch; `clip` limits the norm of all gradients
    together. Raises FloatingPointError when the loss is not
    finite, before the model is updated with it.
    """
    model.train()
    meter = Meter()
    for x, y in batches:
        optimizer.reset_grad()
        logits = model(x)
        loss = loss_fn(logits, y)
        if not np.isfinite(loss.item()):
            raise FloatingPointError(
                f"[train_epoch] the loss became {loss.item()}; lower the learning rate "
                f"(now {optimizer.lr})"
            )
        loss.backward()
        if clip is not None:
            optim.clip_grad_norm(optimizer.params, clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        meter.add(loss, logits, y)
        if on_batch is not None:
            on_batch(meter.result())
    return meter.result()


@no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: nn.Module,
    on_batch: OnBatch | None = None,
) -> tuple[EpochResult, np.ndarray]:
    """(means, confusion matrix) of the model in eval mode.

    confusion[i, j] counts samples of class i that were taken for class j.
    """
    model.eval()
    meter = Meter()
    true: list[np.ndarray] = []
    predicted: list[np.ndarray] = []
    classes = 0
    for x, y in batches:
        logits = model(x)
        meter.add(loss_fn(logits, y), logits, y)
        classes = logits.shape[1]
        true.append(np.asarray(y).astype(np.int64))
        predicted.append(np.asarray(logits).argmax(axis=1))
        if on_batch is not None:
            on_batch(meter.result())
    confusion = np.zeros((classes, classes), dtype=np.int64)
    if true:
        np.add.at(confusion, (np.concatenate(true), np.concatenate(predicted)), 1)
    return meter.result(), confusion


def fit(
    model: nn.Module,
    train_batches: Iterable[tuple[Tensor, Tensor]],
    test_batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: optim.Optimizer,
    loss_fn: nn.Module,
    epochs: int,
    schedule: Stepper | None = None,
    on_batch: Callable[[int, EpochResult], None] | None = None,
    on_epoch: Callable[[int, EpochResult, EpochResult], None] | None = None,
    clip: float | None = None,
) -> tuple[History, np.ndarray]:
    """Train for `epochs` passes, evaluating after each.

    Returns the history and the last confusion matrix. `on_batch(epoch, running means)` and
    `on_epoch(epoch, train, test)` report progress.
    """
    history = History()
    confusion = np.zeros((0, 0), dtype=np.int64)
    started = time.perf_counter()
    for epoch in range(epochs):
        report = None if on_batch is None else _bound(on_batch, epoch)
        trained = train_epoch(model, train_batches, optimizer, loss_fn, schedule, report, clip)
        tested, confusion = evaluate(model, test_batches, loss_fn)
        history.train.append(trained)
        history.test.append(tested)
        history.seconds = time.perf_counter() - started
        if on_epoch is not None:
            on_epoch(epoch, trained, tested)
    return history, confusion


def _bound(on_batch: Callable[[int, EpochResult], None], epoch: int) -> OnBatch:
    return lambda result: on_batch(epoch, result)
