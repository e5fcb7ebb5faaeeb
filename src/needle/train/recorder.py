"""Recorder: makes rows of measurements, and writes them and the status into the run's folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..backend_ndarray import get_num_threads, simd_level
from ..backend_selection import default_device
from ..typing import Json
from .run import FORMAT, RunFolder
from .tolerance import Tolerance

if TYPE_CHECKING:
    from .trainer import Trainer

SECONDS = 1.0  # between rows of training, and between writes of the status


class Recorder:
    """The rows of one trainer. A file that cannot be written is told of once; training goes on."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._run: RunFolder | None = None
        self._tolerance = Tolerance("[Trainer] measurements")
        self._is_whole = True  # whether the file has all rows so far
        self._next_row = self._next_status = math.inf
        self._row_began = 0.0

    def open(self, run: RunFolder) -> Json:
        """Begin to write into a folder; returns its configuration."""
        self._run = run
        config = run.config()
        if not config:
            config = {"run": self._facts(run)}
            run.write_config(config)
        rows = self._trainer.history.rows
        if rows or run.metrics.exists():  # which may have rows after the checkpoint, or without one
            run.keep_rows(rows)
        return config

    def _facts(self, run: RunFolder) -> Json:
        from .. import __version__

        return {
            "name": run.name,
            "needle": __version__,
            "format": FORMAT,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "device": str(self._trainer.device or default_device()),
            "threads": get_num_threads(),
            "simd": simd_level(),
        }

    def begin(self) -> None:
        """Begin to measure."""
        now = time.perf_counter()
        self._row_began, self._next_row, self._next_status = now, now + SECONDS, now
        self._every = self._trainer.log_every
        self.status("running", force=True)

    def is_due(self, now: float) -> bool:
        """Whether a row of training is due after this step."""
        if self._every is not None:
            return self._trainer.progress.step % self._every == 0
        return now >= self._next_row

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose time is not counted as that of training steps."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._row_began += time.perf_counter() - began

    def train_row(self) -> None:
        """Make a row of what was trained since the last one, if anything was."""
        trainer, now = self._trainer, time.perf_counter()
        sums = trainer._sums
        samples = sums.samples
        results = sums.results()
        if not results:
            return
        seconds = max(now - self._row_began, 1e-9)
        row = self._row("train", results)
        row["lr"] = float(trainer.optimizer.lr)
        row["samples_per_second"] = samples / seconds
        row["memory"] = resident_bytes()
        sums.reset()
        self._row_began, self._next_row = now, now + SECONDS
        self._add(row)

    def validation_row(self, results: dict[str, float | np.ndarray]) -> Json:
        """Make a row of a validation."""
        row = self._row("validation", results)
        self._add(row)
        return row

    def _row(self, split: str, results: dict[str, float | np.ndarray]) -> Json:
        progress = self._trainer.progress
        row: Json = {
            "step": progress.step,
            "epoch": self._trainer.epochs_done(),
            "seconds": progress.seconds,
            "split": split,
        }
        row |= {name: x for name, x in results.items() if not isinstance(x, np.ndarray)}
        return row

    def _add(self, row: Json) -> None:
        self._trainer.history.rows.append(row)
        self._trainer.notify_row(row)
        if self._run is not None:
            with self._tolerance.writing():
                self._write_rows()
        self.status("running")

    def _write_rows(self) -> None:
        """Write the last row, or all of them where the file lacks earlier ones."""
        run, rows = self._run, self._trainer.history.rows
        assert run is not None
        is_whole = self._is_whole and (len(rows) == 1 or run.metrics.exists())
        self._is_whole = False
        if is_whole:
            run.append(rows[-1])
        else:
            if not run.config_file.exists():  # the folder has vanished
                run.path.mkdir(parents=True, exist_ok=True)
                run.write_config(self._trainer.config)
            run.keep_rows(rows)
        self._is_whole = True

    def status(self, state: str, message: str = "", force: bool = False) -> None:
        """Write `status.json`, at most once a second."""
        now = time.perf_counter()
        if self._run is None or (now < self._next_status and not force):
            return
        self._next_status = now + SECONDS
        trainer, run = self._trainer, self._run
        progress, rows = trainer.progress, trainer.history.rows
        status = {
            "state": state,
            "step": progress.step,
            "steps": trainer.total_steps,
            "epoch": progress.epoch,
            "epochs": trainer.total_epochs,
            "seconds": progress.seconds,
            "message": message,
            "row": rows[-1] if rows else None,
            "best": trainer.best_so_far(),
        }
        with self._tolerance.writing():
            run.write_status(status)

    def end(self, state: str, message: str) -> None:
        """Write the last status."""
        self.status(state, message, force=True)


def resident_bytes() -> int | None:
    """The memory of this process in bytes, where the system tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
