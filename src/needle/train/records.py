"""What the folder of a run says, for everything that looks at runs.

A run may be in the middle of writing, may have been killed, or may have been damaged. Nothing here
raises for a file that is missing, half written or of another format: it is left out, and
`Record.problems` says so in words.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..typing import Json
from .rows import Rows, is_number, measures
from .run import FORMAT, RunFolder, is_run


@dataclass(frozen=True)
class Confusion:
    """Counts by true class (rows) and predicted class (columns), and what they were counted on."""

    classes: tuple[str, ...]
    matrix: np.ndarray
    step: int | None
    data: str


@dataclass(frozen=True)
class Record:
    """What is known of a run at one moment.

    Attributes
    ----------
    run : RunFolder
    state : str
        "new", "running", "finished", "interrupted", "failed" or "killed".
    config, status : dict
        What `config.toml` and `status.json` say.
    rows : Rows
        The measurements.
    confusion : Confusion or None
    samples : list of path
        In the order of their steps.
    problems : list of str
        What could not be read, in words.
    """

    run: RunFolder
    state: str
    config: Json
    status: Json
    rows: Rows
    confusion: Confusion | None
    samples: list[Path]
    problems: list[str]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def title(self) -> str:
        """The data that was really used, or the name of the task, or that of the run."""
        for table, key in (("data", "title"), ("run", "task")):
            found = _table(self.config, table).get(key)
            if isinstance(found, str) and found:
                return found
        return self.name

    def curve(self, split: str, key: str, x: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """(x, values) of the rows of a split that have both; values may be NaN or infinite."""
        if split not in self.rows.splits:
            return np.empty(0), np.empty(0)
        columns = self.rows.splits[split]
        (places, placed), (values, there) = columns.column(x), columns.column(key)
        both = placed & there & np.isfinite(places)
        return places[both], values[both]

    def metrics(self) -> list[str]:
        """The names of the metrics in the rows, without the loss, in their order there."""
        return [key for key in measures(self.rows.keys()) if key != "loss"]

    def measured_on(self, key: str) -> str:
        """The split that tells most of `key`: "validation" where a row of it has one."""
        return "validation" if len(self.curve("validation", key)[0]) else "train"

    def last(self, key: str) -> float | None:
        """The newest value of `key`, on the validation data where there is one."""
        _, values = self.curve(self.measured_on(key), key)
        return float(values[-1]) if len(values) else None

    def progress(self, key: str) -> float | None:
        """How far the run is ("step", "steps", "epoch", "epochs", "seconds", "updated")."""
        value = self.status.get(key)
        if is_number(value):
            return value
        ends = [
            values[-1] for split in self.rows.splits if len(values := self.curve(split, key)[1])
        ]
        return float(max(ends)) if ends else None

    def best(self) -> tuple[str, float, int] | None:
        """(metric, value, step) of the best validation, as the run says or by the lowest loss."""
        best = self.status.get("best")
        if isinstance(best, dict):
            metric, value, step = best.get("metric"), best.get("value"), best.get("step")
            if is_number(value) and is_number(step) and math.isfinite(step):
                return str(metric), float(value), int(step)
        steps, losses = self.curve("validation", "loss")
        if not np.isfinite(losses).any():
            return None
        i = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))
        return "validation/loss", float(losses[i]), int(steps[i])

    def updated(self) -> Record:
        """The same run now. Of the measurements only those that are new are read."""
        return _read(self.run, self.rows)


def find_runs(folder: Path) -> list[Path]:
    """The runs in a folder, or the folder itself where it is one, those begun last first.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(
            f"[runs] there is no folder {os.fspath(folder)!r}; `needle train` makes one"
        )
    if is_run(folder):
        return [folder]
    runs = [path for path in folder.iterdir() if path.is_dir() and is_run(path)]
    return sorted(runs, key=lambda path: (-_begun(path), path.name))


def read_record(folder: Path, last: int = 0) -> Record:
    """Read a run's folder; of its measurements only so many bytes at their end, 0 for all.

    Raises
    ------
    FileNotFoundError
        If it is no folder of a run.
    """
    if not is_run(folder):
        raise FileNotFoundError(
            f"[runs] {os.fspath(folder)!r} is no run: a run's folder has a config.toml, a "
            "status.json or a metrics.jsonl"
        )
    return _read(RunFolder(folder), Rows(last))


def _read(run: RunFolder, rows: Rows) -> Record:
    problems: list[str] = []
    try:
        config = run.config()
    except (OSError, ValueError, RecursionError):
        config = {}
        problems.append("config.toml cannot be read")
    if (declared := _table(config, "run").get("format", FORMAT)) != FORMAT:
        problems.append(f"config.toml has format {declared!r}, this needle knows {FORMAT}")
    status = run.status()
    if not status and run.status_file.exists():
        problems.append("status.json cannot be read")
    try:
        rows.update(run.metrics)
    except FileNotFoundError:
        rows = Rows()
    except OSError as error:
        problems.append(f"metrics.jsonl: {error.strerror}")
    if rows.broken:
        problems.append(f"metrics.jsonl: lines that are no rows and are left out: {rows.broken}")
    confusion = _read_confusion(run.confusion, problems)
    return Record(
        run, run.state(), config, status, rows, confusion, _samples(run.samples), problems
    )


def _begun(folder: Path) -> float:
    run = RunFolder(folder)
    for file in (run.config_file, run.status_file, run.metrics):
        try:
            return file.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _read_confusion(path: Path, problems: list[str]) -> Confusion | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        matrix = np.array(found["matrix"], np.float64)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        matrix = np.empty(0)
    is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not is_square or not ((matrix >= 0) & (matrix < 2**53)).all():
        problems.append(f"{path.name} holds no square matrix of counts")
        return None
    names = found.get("classes")
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) != len(matrix):
        names = range(len(matrix))
    step, data = found.get("step"), found.get("data")
    return Confusion(
        tuple(map(str, names)), matrix.astype(np.int64),
        step if isinstance(step, int) else None, data if isinstance(data, str) else "",
    )  # fmt: skip


def _samples(folder: Path) -> list[Path]:
    """The samples, in the order of their steps."""
    found = [p for p in folder.glob("*") if p.suffix in (".txt", ".png") and p.is_file()]

    def step(path: Path) -> tuple[int, str]:
        digits = "".join(filter(str.isdecimal, path.stem))
        return int(digits or 0), path.name

    return sorted(found, key=step)


def _table(config: Json, name: str) -> Json:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
