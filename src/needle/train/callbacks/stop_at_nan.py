"""StopAtNaN: training ends at the first loss that is no number, and what made it is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...autograd import Tensor
from ...given import shown
from ...io import save
from ...ops import stack
from ...typing import Json
from .base import Callback
from .weights import Floats, kept

if TYPE_CHECKING:
    from ..trainer import Trainer

STEPS_ON_DEVICES = 32  # between looks, where a look would make each step wait


class Step(NamedTuple):
    """What a step was made of, by reference."""

    number: int
    learning_rate: float
    batches: list[Any]  # (inputs, target), several where gradients are accumulated
    loss: Tensor  # the first entry is the loss, not read yet
    weights: dict[str, Tensor]  # before the step; empty if unknown


class StopAtNaN(Callback):
    """End training with an error when the loss is NaN or infinite, and keep the batch.

    On the CPU every loss is looked at, and the weights before the step are known: an optimizer
    makes new ones, so the old ones need no copy. Other devices are not waited for at each step:
    every 32 steps the losses are read together, and of these steps losses and batches are kept by
    reference. The error names the very step in both cases.

    The run's folder gets the file `nan-step-N.safetensors` (`ndl.load` reads it): "batches", the
    step's (inputs, target), "weights" before the step where they are known, "step", "loss" and
    "learning_rate". If the weights before the step are not finite themselves, then the step before
    has made them so by its gradient, and the file is about that one.

    Parameters
    ----------
    folder : str or path, optional
        Where the file is written; the folder of the run by default. Without either no file is.
    every : int, optional
        Steps between looks at the losses: 1 on the CPU and 32 on other devices by default.
    keep_weights : bool, default True
        Whether the weights before a step are kept where each loss is looked at. They take the
        memory of two more copies of the weights.

    Raises
    ------
    ValueError
        If `every` is not positive.
    FloatingPointError
        While training, when a loss is not finite.

    Examples
    --------
    >>> from needle.train.callbacks import StopAtNaN
    >>> StopAtNaN(every=10).every
    10
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        every: int | None = None,
        keep_weights: bool = True,
    ) -> None:
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ValueError(f"[StopAtNaN] every must be a positive int, got {shown(every)}")
        self.folder = None if folder is None else Path(os.fsdecode(folder))
        self.every, self.keep_weights = every, keep_weights
        self._forget()

    def _forget(self) -> None:
        self._before: Step | None = None  # the last one that was looked at
        self._steps: list[Step] = []
        self._floats: Floats | None = None
        self._weights: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer) -> None:
        """Find the weights."""
        self._forget()
        self._floats = Floats(trainer.model)
        tensors = self._floats.now()
        on_cpu = all(x.device.type == "cpu" for x in tensors.values())
        self._every = self.every or (1 if on_cpu else STEPS_ON_DEVICES)
        self._keeps_weights = self.keep_weights and self._every == 1
        self._weights = kept(tensors) if self._keeps_weights else {}

    def on_step_end(self, trainer: Trainer) -> None:
        """Note what the step was made of, and look at the losses if it is time."""
        rate, number = float(trainer.optimizer.lr), trainer.progress.step
        assert trainer.last_loss is not None
        step = Step(number, rate, trainer.last_batches, trainer.last_loss, self._weights)
        self._steps.append(step)
        if self._keeps_weights and self._floats is not None:
            self._weights = kept(self._floats.now())
        if len(self._steps) >= self._every:
            self._look(trainer)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Look at the losses: the row has made the device wait anyway."""
        self._look(trainer)

    def on_validation_start(self, trainer: Trainer) -> None:
        """Look at the losses before the model is measured."""
        self._look(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Let go of batches and weights."""
        self._forget()

    def _look(self, trainer: Trainer) -> None:
        steps, self._steps = self._steps, []
        if not steps:
            return
        for step, loss in zip(steps, _losses(steps), strict=True):
            if not np.isfinite(loss):
                self._stop(trainer, step, loss)
            self._before = step

    def _stop(self, trainer: Trainer, step: Step, loss: float) -> None:
        text = f"[StopAtNaN] the loss of step {step.number} is {loss}"
        cause = step
        bad = [name for name, x in step.weights.items() if not np.isfinite(np.asarray(x)).all()]
        if bad:
            text += f": {bad[0]} was not finite before it"
            if self._before is not None:
                cause = self._before
                text += f", the update of step {cause.number} has made it so"
        text += f" (learning rate {cause.learning_rate:g})."
        if self.folder is None and trainer.run is not None:
            self.folder = trainer.run.path
        if self.folder is not None:
            file = self.folder / f"nan-step-{cause.number}.safetensors"
            try:
                save(_content(cause, loss), file)
                what = (
                    "Its batch and the weights before it are" if cause.weights else "Its batch is"
                )
                text += f" {what} in {str(file)!r}."
            except (OSError, TypeError) as error:
                text += f" Its batch could not be written: {error}."
        raise FloatingPointError(
            f"{text} Lower the learning rate or clip gradients; `with ndl.detect_anomaly():` "
            "around fit names the line that makes the first NaN"
        )


def _losses(steps: list[Step]) -> list[float]:
    """The losses of some steps, read in one go."""
    if len(steps) == 1:
        return [float(np.asarray(steps[0].loss)[0])]
    return [float(x) for x in np.asarray(stack([step.loss for step in steps]))[:, 0]]


def _content(step: Step, loss: float) -> Json:
    return {
        "step": step.number,
        "loss": loss,
        "learning_rate": step.learning_rate,
        "batches": step.batches,
        "weights": step.weights,
    }
