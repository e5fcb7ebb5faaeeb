"""Epochs of supervised classification, with callbacks instead of printing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from .. import nn, optim
from ..autograd import Tensor, no_grad
from ..jit import jit


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
# (inputs, labels) of a batch → (mean loss, logits).
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_step(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss_fn: nn.Module,
    clip: float | None = None,
    compiled: bool = True,
) -> Step:
    """A function that updates `model` with one batch and returns its loss and logits.

    Forward pass, backward pass and update are one program, which is compiled the first time that
    a batch of another shape comes (see `needle.jit`), or run op by op unless `compiled`. `clip`
    limits the norm of all gradients together. The step raises FloatingPointError when the loss is
    not finite: a compiled one after the model was updated with it, the other one before.
    """

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.reset_grad()
        logits = model(x)
        loss = loss_fn(logits, y)
        if not compiled:
            _check_finite(loss, optimizer)
        loss.backward()
        if clip is not None:
            optim.clip_grad_norm(optimizer.params, clip)
        optimizer.step()
        return loss, logits

    if not compiled:
        return step
    program = jit(step)

    def checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = program(x, y)
        _check_finite(loss, optimizer)
        return loss, logits

    return checked


def _check_finite(loss: Tensor, optimizer: optim.Optimizer) -> None:
    if not np.isfinite(loss.item()):
        raise FloatingPointError(
            f"[train] the loss became {loss.item()}; lower the learning rate (now {optimizer.lr})"
        )


def make_measure(model: nn.Module, loss_fn: nn.Module, compiled: bool = True) -> Step:
    """A function that returns the loss and logits of a batch, compiled as in `make_step`."""

    def measure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x)
        return loss_fn(logits, y), logits

    return jit(measure) if compiled else measure


def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: optim.Optimizer,
    loss_fn: nn.Module,
    schedule: Stepper | None = None,
    on_batch: OnBatch | None = None,
    clip: float | None = None,
    compiled: bool = True,
) -> EpochResult:
    """One pass over (inputs, labels) batches that updates the model after each.

    The schedule, if any, steps after every batch. See `make_step` for `clip`, `compiled` and the
    FloatingPointError of a loss that is not finite. What is compiled serves this call; `fit` keeps
    it for all of its epochs.
    """
    _check_batches("train_epoch", batches=batches)
    step = make_step(model, optimizer, loss_fn, clip, compiled)
    return _train_epoch(model, step, batches, schedule, on_batch)


def _train_epoch(
    model: nn.Module,
    step: Step,
    batches: Iterable[tuple[Tensor, Tensor]],
    schedule: Stepper | None,
    on_batch: OnBatch | None,
) -> EpochResult:
    model.train()
    meter = Meter()
    for x, y in batches:
        loss, logits = step(x, y)
        if schedule is not None:
            schedule.step()
        meter.add(loss, logits, y)
        if on_batch is not None:
            on_batch(meter.result())
    return meter.result()


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: nn.Module,
    on_batch: OnBatch | None = None,
    compiled: bool = True,
) -> tuple[EpochResult, np.ndarray]:
    """(means, confusion matrix) of the model in eval mode; it is in its own modes again afterwards.

    confusion[i, j] counts samples of class i that were taken for class j. See `make_measure` for
    `compiled`.
    """
    _check_batches("evaluate", batches=batches)
    return _evaluate(model, make_measure(model, loss_fn, compiled), batches, on_batch)


@contextmanager
def _own_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in the mode, train or eval, that it was in before."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@no_grad()
def _evaluate(
    model: nn.Module,
    measure: Step,
    batches: Iterable[tuple[Tensor, Tensor]],
    on_batch: OnBatch | None,
) -> tuple[EpochResult, np.ndarray]:
    meter = Meter()
    true: list[np.ndarray] = []
    predicted: list[np.ndarray] = []
    classes = 0
    with _own_modes(model):
        model.eval()
        for x, y in batches:
            loss, logits = measure(x, y)
            meter.add(loss, logits, y)
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
    compiled: bool = True,
) -> tuple[History, np.ndarray]:
    """Train for `epochs` passes, evaluating after each.

    Returns the history and the last confusion matrix. `on_batch(epoch, running means)` and
    `on_epoch(epoch, train, test)` report progress. What `make_step` and `make_measure` compile
    serves all epochs. The model is in its own modes again afterwards.

    Raises ValueError, before anything is trained, for several epochs of batches that can be gone
    through only once, as those of a generator; and where there are none to train on. Raises
    TypeError for what cannot be gone through, as a function.
    """
    _check_batches("fit", train_batches=train_batches, test_batches=test_batches)
    if epochs > 1:
        _check_repeatable("train_batches", train_batches, epochs)
        _check_repeatable("test_batches", test_batches, epochs)
    step = make_step(model, optimizer, loss_fn, clip, compiled)
    measure = make_measure(model, loss_fn, compiled)
    history = History()
    confusion = np.zeros((0, 0), dtype=np.int64)
    started = time.perf_counter()
    with _own_modes(model):
        for epoch in range(epochs):
            report = None if on_batch is None else _bound(on_batch, epoch)
            trained = _train_epoch(model, step, _some(train_batches, epoch), schedule, report)
            tested, confusion = _evaluate(model, measure, test_batches, None)
            history.train.append(trained)
            history.test.append(tested)
            history.seconds = time.perf_counter() - started
            if on_epoch is not None:
                on_epoch(epoch, trained, tested)
    return history, confusion


def _check_batches(what: str, **arguments: object) -> None:
    """Raises TypeError, which names the argument, for one that cannot be gone through."""
    for name, batches in arguments.items():
        if not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
            raise TypeError(
                f"[{what}] {name} must give batches when it is gone through, as a DataLoader or a "
                f"list does, got {type(batches).__name__}"
            )


def _check_repeatable(name: str, batches: Iterable[object], epochs: int) -> None:
    if isinstance(batches, Iterator) and not hasattr(batches, "__len__"):
        raise ValueError(
            f"[fit] {name} must give its batches anew for each of {epochs} epochs, but a "
            f"{type(batches).__name__} gives them once; pass a DataLoader, a list, or an object "
            "whose __iter__ makes a new iterator"
        )


Item = TypeVar("Item")


def _some(batches: Iterable[Item], epoch: int) -> Iterator[Item]:
    """The batches, of which there must be one."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise ValueError(f"[fit] train_batches gave no batch in epoch {epoch + 1}")


def _bound(on_batch: Callable[[int, EpochResult], None], epoch: int) -> OnBatch:
    return lambda result: on_batch(epoch, result)
