"""Checkpoint: when a run is saved, and what is kept."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...typing import Json
from ..checkpoints import CheckpointWarning, Writer
from ..numbers import check_number
from ..run import RunFolder
from .base import Callback
from .watched import Watched

if TYPE_CHECKING:
    from ..trainer import Trainer


class Checkpoint(Callback):
    """Saves a run: after epochs, every few minutes, and whenever its best measure improves.

    A trainer with a run has one by default. Files are written in the background. The link `last`
    leads to the newest checkpoint, `best` to the best one, which is kept beside the newest `keep`.

    Parameters
    ----------
    every_seconds : float or None
        The most time between two checkpoints; None: no matter how long.
    every_epochs : int or None
        Save after every so many epochs; None: not after epochs.
    keep : int
        How many of the newest checkpoints are kept.
    best : str or None
        The measure that says which checkpoint is the best, as "validation/loss"; "train/…" is that
        of rows of training. None: there is no best.
    on_error : {"warn", "stop"}
        What a checkpoint that cannot be written does: a warning, or an OSError that ends training.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from needle.train import Checkpoint
    >>> Checkpoint(every_seconds=60, keep=5, best="validation/accuracy").keep
    5
    """

    def __init__(
        self,
        every_seconds: float | None = 300.0,
        every_epochs: int | None = 1,
        keep: int = 3,
        best: str | None = "validation/loss",
        on_error: Literal["warn", "stop"] = "warn",
    ) -> None:
        if every_seconds is not None:
            check_number("Checkpoint", "every_seconds", every_seconds, whole=False)
        if every_epochs is not None:
            check_number("Checkpoint", "every_epochs", every_epochs, least=1)
        check_number("Checkpoint", "keep", keep, least=1)
        if on_error not in ("warn", "stop"):
            raise ValueError(f"[Checkpoint] on_error must be 'warn' or 'stop', got {on_error!r}")
        self.every_seconds, self.every_epochs = every_seconds, every_epochs
        self.keep, self.best, self._on_error = keep, best, on_error
        self._watched = None if best is None else Watched("Checkpoint", best, argument="best")
        self._best_saved = self.state_dict()
        self._bests: dict[int, Json] = {}  # those of the checkpoints that are being written
        self._writer: Writer | None = None
        self._due = math.inf
        self._wanted = False

    @property
    def value(self) -> float | None:
        """The best value of the measure so far."""
        return None if self._watched is None else self._watched.best

    @property
    def step(self) -> int | None:
        """The step of the best value."""
        return None if self._watched is None else self._watched.step

    def open(self, run: RunFolder, resumed_at: int | None) -> None:
        """Begin to save into a run's folder."""
        self._writer = Writer(run, self.keep)
        self._writer.go_on_after(resumed_at)
        self._bests.clear()
        self._wanted = False
        self._wait_again()

    def _wait_again(self) -> None:
        self._due = math.inf if self.every_seconds is None else _now() + self.every_seconds

    def want(self) -> None:
        """Save after this step."""
        self._wanted = True

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Note whether the measure has improved."""
        if self._watched is None:
            return
        value = self._watched.value(trainer, row)
        if value is not None and self._watched.improves(trainer, value):
            self._wanted = True

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, if it is the turn of this epoch."""
        if self.every_epochs is not None and trainer.progress.epoch % self.every_epochs == 0:
            self._wanted = True

    def after_step(self, trainer: Trainer) -> None:
        """Save if that is due; called when everything else of a step or an epoch is done."""
        writer = self._writer
        if writer is None:
            return
        if writer.has_news:
            self._tell(trainer)
        if self._wanted or (_now() >= self._due and not writer.is_busy):
            self.save(trainer)

    def save(self, trainer: Trainer, wait: bool = False) -> None:
        """Save now; returns when the snapshot is made, or with `wait` when it is on the disk."""
        writer = self._writer
        if writer is None:
            return
        writer.make_room()
        self._tell(trainer)
        self._wanted = False
        self._wait_again()
        step = trainer.progress.step
        self._bests[step] = self.state_dict()
        writer.write(step, trainer.state_dict(), self.step)
        if wait:
            self.finish(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Wait for the checkpoint that is being written."""
        if self._writer is not None:
            self._writer.wait()
            self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        """Say what became of checkpoints."""
        assert self._writer is not None
        for step, outcome in self._writer.outcomes():
            best = self._bests.get(step, self._best_saved)
            self._bests = {later: best for later, best in self._bests.items() if later > step}
            if isinstance(outcome, Path):
                self._best_saved = best
                trainer.notify_checkpoint(outcome)
                continue
            if self._on_error == "stop" or not isinstance(outcome, OSError):
                raise outcome
            self._give_up(step)
            warnings.warn(
                f"[Checkpoint] cannot be written: {outcome}; the one before stays, "
                "training goes on",
                CheckpointWarning,
                stacklevel=2,
            )

    def _give_up(self, step: int) -> None:
        """The checkpoint of a step is not on the disk, so it is not the best."""
        saved = self._best_saved
        self._bests = {
            later: saved if best["step"] == step else best for later, best in self._bests.items()
        }
        if self.step == step:
            self._set_best(saved)

    def state_dict(self) -> Json:
        """The best measure so far."""
        return {"value": self.value, "step": self.step}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`."""
        self._set_best(state)
        self._best_saved = self.state_dict()

    def _set_best(self, state: Json) -> None:
        if self._watched is not None:
            self._watched.best, self._watched.step = state["value"], state["step"]


def _now() -> float:
    return time.monotonic()
