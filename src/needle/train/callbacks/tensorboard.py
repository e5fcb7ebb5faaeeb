"""TensorBoard: curves in a browser."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...typing import Json
from ...utils.tensorboard import SummaryWriter
from ..rows import PLACE
from ..tolerance import Tolerance
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class TensorBoard(Callback):
    """Write rows of measurements as TensorBoard's events.

    needle writes the files itself; to look at them, install `tensorboard` and call
    `tensorboard --logdir runs`. A curve is called as "loss/train" and "loss/validation". A resumed
    run begins a new file that says from which step on TensorBoard forgets the old ones. Where the
    events can no longer be written, that is a warning; once they can, they are all there.

    Parameters
    ----------
    folder : str or path, optional
        The folder of the events; `tb` in the folder of the run by default.

    Attributes
    ----------
    writer : SummaryWriter or None
        While training, for what your own callbacks write: images, texts, histograms. None where
        the last row could not be written.

    Raises
    ------
    ValueError
        If there is neither a folder nor a run (when training starts).
    OSError
        If the folder cannot be written when training starts.

    Examples
    --------
    >>> from needle.train.callbacks import TensorBoard
    >>> TensorBoard("events").writer is None
    True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = None if folder is None else Path(os.fsdecode(folder))
        self.writer: SummaryWriter | None = None
        self._unwritten: list[Json] = []
        self._tolerance = Tolerance("[TensorBoard] events")

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.folder is None:
            if trainer.run is None:
                raise ValueError("[TensorBoard] needs a folder, or a Trainer with a run")
            self.folder = trainer.run.tensorboard
        step = trainer.progress.step
        self.writer = SummaryWriter(self.folder, purge_step=step + 1 if step else None)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        self._unwritten.append(row)
        with self._tolerance.writing():
            try:
                self._write()
            except OSError:
                self._close()  # a file that broke off ends there; the next one begins with the row
                raise

    def _write(self) -> None:
        assert self.folder is not None
        if self.writer is None or not self.writer.path.exists():
            self._close()
            self.writer = SummaryWriter(self.folder)
        for row in self._unwritten:
            for key, value in row.items():
                if key not in PLACE and isinstance(value, (int, float)):
                    self.writer.add_scalar(f"{key}/{row['split']}", value, row["step"])
        self.writer.flush()
        self._unwritten.clear()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._close()

    def _close(self) -> None:
        if self.writer is not None:
            with suppress(OSError):
                self.writer.close()
            with suppress(OSError):
                if not self.writer.path.stat().st_size:  # a full disk took nothing of it
                    self.writer.path.unlink()
            self.writer = None


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """The writer of a trainer's `TensorBoard` callback, or None where it has none."""
    for callback in trainer.callbacks:
        if isinstance(callback, TensorBoard):
            return callback.writer
    return None
