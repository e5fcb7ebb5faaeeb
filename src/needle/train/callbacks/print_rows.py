"""PrintRows: the rows of measurements as lines of text."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

from ...typing import Json
from ..rows import PLACE
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

HIDDEN = (*PLACE, "memory", "samples_per_second")


class PrintRows(Callback):
    """Print each row of measurements as one line.

    Parameters
    ----------
    file : text file, optional
        Where to; the standard output by default.
    splits : tuple of str, default ("train", "validation")
        Whose rows are printed.

    Examples
    --------
    >>> from needle.train.callbacks import PrintRows
    >>> PrintRows(splits=("validation",)).splits
    ('validation',)
    """

    def __init__(
        self, file: IO[str] | None = None, splits: tuple[str, ...] = ("train", "validation")
    ) -> None:
        self.file, self.splits = file, tuple(splits)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        if row["split"] in self.splits:
            print(line(row), file=self.file or sys.stdout, flush=True)


def line(row: Json) -> str:
    """A row as text."""
    measures = [f"{key} {_text(value)}" for key, value in row.items() if key not in HIDDEN]
    where = f"step {row['step']:>6}  epoch {row['epoch']:6.2f}  {row['split']:10}"
    return "  ".join([where, *measures])


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
