"""CSVLog: the rows of measurements as a table."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import written_whole
from ...typing import Json
from ..tolerance import Tolerance
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class CSVLog(Callback):
    """Write every row of measurements into a CSV file, which any spreadsheet reads.

    A line is added for each row. When a measure comes for the first time the file is written anew,
    with a column for it. A resumed run goes on from the rows of its checkpoint. Where the file can
    no longer be written, that is a warning; once it can, it has all rows.

    Parameters
    ----------
    path : str or path, optional
        The file; `metrics.csv` in the folder of the run by default.

    Raises
    ------
    ValueError
        If there is neither a path nor a run (when training starts).
    OSError
        If the file cannot be written when training starts.

    Examples
    --------
    >>> from needle.train.callbacks import CSVLog
    >>> CSVLog("losses.csv").path.name
    'losses.csv'
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(os.fsdecode(path))
        self._columns: list[str] = []
        self._tolerance = Tolerance("[CSVLog] rows")

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write the rows of what was trained before."""
        if self.path is None:
            if trainer.run is None:
                raise ValueError("[CSVLog] needs a path, or a Trainer with a run")
            self.path = trainer.run.metrics_csv
        self._write(self.path, trainer.history.rows)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Add a line."""
        assert self.path is not None
        columns, self._columns = self._columns, []  # if this fails, the next row writes all anew
        with self._tolerance.writing():
            if columns and row.keys() <= set(columns) and self.path.exists():
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, columns).writerow(row)
                self._columns = columns
            else:
                self._write(self.path, trainer.history.rows)

    def _write(self, path: Path, rows: list[Json]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        if columns:
            writer.writeheader()
        writer.writerows(rows)
        with written_whole(path) as file:
            file.write(text.getvalue().encode())
        self._columns = columns
