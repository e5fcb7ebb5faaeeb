"""The learning-rate range test: which learning rates a model can be trained with."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...given import shown
from ..checks import check_repeatable
from ..state import generators_of, random_states, set_random_states
from .base import Callback
from .weights import copy_of

if TYPE_CHECKING:
    from ..trainer import Trainer

SMOOTHING = 0.9  # of the losses, that the picture and the suggestion go by
SKIPPED = 0.1  # of the steps at the beginning, where the smoothed loss is that of a few batches


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` has measured.

    Attributes
    ----------
    lrs : ndarray, shape (n,)
        The learning rates.
    losses : ndarray, shape (n,)
        The loss of the step with each.
    suggestion : float
        The learning rate where the smoothed loss falls fastest.
    """

    lrs: np.ndarray
    losses: np.ndarray
    suggestion: float

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw the losses over the learning rates into a PNG file; needs matplotlib."""
        from ..pictures import canvas

        figure = canvas.new_figure(7, 4)
        axes = figure.subplots()
        axes.plot(self.lrs, self.losses, color=canvas.TRAINING, alpha=0.25, linewidth=1)
        axes.plot(self.lrs, smoothed(self.losses), color=canvas.TRAINING, label="loss, smoothed")
        axes.axvline(
            self.suggestion, color=canvas.BEST, linestyle="--", label=f"{self.suggestion:.2g}"
        )
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        canvas.save(figure, path)


def find_learning_rate(
    trainer: Trainer,
    batches: Any,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    stop_factor: float = 4.0,
) -> LearningRates:
    """Train for some steps with a learning rate that grows from one to the next, and look.

    Afterwards the model, the optimizer and the random numbers are what they were before.

    Parameters
    ----------
    trainer : Trainer
        Before its `fit`. Its callbacks and its schedule take no part.
    batches : iterable
        The batches of training; they are repeated where there are less than `steps`.
    lowest, highest : float
        The first and the last learning rate; in between they grow by the same factor. Further
        parameter groups keep their ratios to the first one.
    steps : int, default 100
        How many steps there are at most.
    stop_factor : float, default 4
        The test ends where the smoothed loss is this many times its lowest value, or not finite.

    Returns
    -------
    LearningRates

    Raises
    ------
    ValueError
        If an argument is out of range, or the loss is not finite from the beginning.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train import Trainer, callbacks
    >>> x, model = ndl.randn(8, 2), ndl.nn.Linear(2, 1)
    >>> trainer = Trainer(model, ndl.optim.SGD(model.parameters(), lr=1.0), ndl.nn.MSELoss())
    >>> found = callbacks.find_learning_rate(trainer, [(x, x.sum(1, keepdims=True))], steps=50)
    >>> 1e-7 < found.suggestion < 10
    True

    References
    ----------
    L. N. Smith, "Cyclical learning rates for training neural networks", 2015 (section 3.3).
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(
            f"[find_learning_rate] needs 0 < lowest < highest, got {lowest} and {highest}"
        )
    if not isinstance(steps, int) or steps < 10:
        raise ValueError(f"[find_learning_rate] steps must be at least 10, got {shown(steps)}")
    if not stop_factor > 1:
        raise ValueError(f"[find_learning_rate] stop_factor must be above 1, got {stop_factor}")
    check_repeatable("batches", batches, "afterwards")
    from ..trainer import Trainer

    sweep = _Sweep(np.geomspace(lowest, highest, steps), stop_factor)
    with _unchanged(trainer, batches):
        Trainer(
            trainer.model, trainer.optimizer, trainer.criterion, callbacks=[sweep],
            amp=trainer.amp, accumulate=trainer.accumulate, clip=trainer.clip,
            device=trainer.device, compiled=trainer.compiled,
        ).fit(batches, steps=steps)  # fmt: skip
    losses = np.array(sweep.losses)
    if len(losses) < 3:
        raise ValueError(
            f"[find_learning_rate] the loss is not finite after {len(losses)} steps: begin with a "
            f"smaller learning rate than {lowest:g}"
        )
    lrs = sweep.lrs[: len(losses)]
    return LearningRates(lrs, losses, suggestion(lrs, losses))


class _Sweep(Callback):
    """Sets the learning rates, and keeps the losses."""

    def __init__(self, lrs: np.ndarray, stop_factor: float) -> None:
        self.lrs, self.stop_factor = lrs, stop_factor
        self.losses: list[float] = []
        self._ratios: list[float] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        groups = trainer.optimizer.param_groups
        first = float(groups[0]["lr"]) or 1.0
        self._ratios = [float(group["lr"]) / first for group in groups]
        self._ratios[0] = 1.0
        self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        lr = float(self.lrs[len(self.losses)])
        for group, ratio in zip(trainer.optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = lr * ratio

    def on_step_end(self, trainer: Trainer) -> None:
        loss = trainer.loss()
        if not math.isfinite(loss):
            trainer.stop("the loss is not finite")
            return
        self.losses.append(loss)
        curve = smoothed(np.array(self.losses))
        if len(self.losses) == len(self.lrs):
            return
        if len(curve) > SKIPPED * len(self.lrs) and curve[-1] > self.stop_factor * curve.min():
            trainer.stop("the loss grows")
            return
        self._set(trainer)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Exponential means of the losses, free of the bias of their beginning."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(loss)
        found.append(mean / (1 - SMOOTHING**number))
    return np.array(found)


def suggestion(lrs: np.ndarray, losses: np.ndarray) -> float:
    """Where the smoothed loss falls fastest over the logarithm of the learning rate."""
    slope = np.gradient(smoothed(losses), np.log(lrs))
    begin = min(int(SKIPPED * len(lrs)), len(lrs) - 2)
    return float(lrs[begin + int(slope[begin:].argmin())])


@contextmanager
def _unchanged(trainer: Trainer, batches: Any) -> Iterator[None]:
    """Afterwards weights, optimizer and random numbers are what they were before."""
    generators = generators_of(trainer.model, trainer.objects, train=batches)
    random = random_states(generators)
    weights = {name: copy_of(x) for name, x in trainer.model.state_dict().items()}
    optimizer = trainer.optimizer.state_dict()
    try:
        yield
    finally:
        trainer.model.load_state_dict(weights)
        trainer.optimizer.load_state_dict(optimizer)
        set_random_states(random, generators)
