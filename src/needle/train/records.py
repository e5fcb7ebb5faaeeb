"""What the folder of a run says, for everything that looks at runs.

A run may be in the middle of writing, may have been killed, or may have been damaged. Nothing here
raises for a file that is missing, half written or of another format: it is left out, and
`Record.problems` says so in words.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np

from ..typing import Json

METRICS, STATUS, CONFIG, CONFUSION = "metrics.jsonl", "status.json", "config.toml", "confusion.json"
_LARGEST = 64 * 2**20  # bytes of a file that is read whole

Row = dict[str, float | str]


@dataclass(frozen=True)
class Confusion:
    """Counts by true class (rows) and predicted class (columns), and what they were counted on."""

    classes: tuple[str, ...]
    matrix: np.ndarray
    step: int | None
    data: str


@dataclass(frozen=True)
class Record:
    """What is known of a run; `state` is "unknown" where its status cannot be read."""

    folder: Path
    name: str
    state: str
    config: Json
    status: Json
    rows: list[Row]
    confusion: Confusion | None
    samples: list[Path]
    problems: list[str]

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
        points = [
            (row[x], row[key]) for row in self.rows
            if row["split"] == split and x in row and key in row
        ]  # fmt: skip
        found = np.array(points, np.float64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def metrics(self) -> list[str]:
        """The names of the metrics in the rows, without the loss, in their order there."""
        return [name for name in names_in(self.rows) if name not in (*MEASURES, "loss")]

    def measured_on(self, key: str) -> str:
        """The split that tells most of `key`: "validation" where a row of it has one."""
        found = any(key in row and row["split"] == "validation" for row in self.rows)
        return "validation" if found else "train"

    def last(self, key: str) -> float | None:
        """The newest value of `key`, on the validation data where there is one."""
        _, values = self.curve(self.measured_on(key), key)
        return float(values[-1]) if len(values) else None

    def best(self) -> tuple[str, float, int] | None:
        """(metric, value, step) of the best validation, as the run says or by the lowest loss."""
        best = self.status.get("best")
        if isinstance(best, dict):
            metric, value, step = best.get("metric"), best.get("value"), best.get("step")
            if isinstance(metric, str) and is_number(value) and is_number(step):
                return metric, float(value), int(step)
        steps, losses = self.curve("validation", "loss")
        if not np.isfinite(losses).any():
            return None
        i = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))
        return "validation/loss", float(losses[i]), int(steps[i])


# What a row holds beside the loss and the metrics.
MEASURES = ("step", "epoch", "seconds", "split", "lr", "samples_per_second", "memory")


def names_in(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all rows, each once, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float; NaN is one, True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_run(folder: Path) -> bool:
    """Whether the folder looks like that of a run."""
    return any((folder / name).is_file() for name in (CONFIG, STATUS, METRICS))


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


def read_record(folder: Path, with_rows: bool = True) -> Record:
    """Read a run's folder.

    Raises
    ------
    FileNotFoundError
        If it is no folder of a run.
    """
    if not is_run(folder):
        raise FileNotFoundError(
            f"[runs] {os.fspath(folder)!r} is no run: it has none of {CONFIG}, {STATUS}, {METRICS}"
        )
    problems: list[str] = []
    config = _read_toml(folder / CONFIG, problems)
    status = _read_json(folder / STATUS, problems)
    rows = read_rows(folder / METRICS, problems) if with_rows else []
    declared = _table(config, "run").get("format", 1)
    if declared != 1:
        problems.append(f"{CONFIG} has format {declared!r}, this version of needle knows 1")
    return Record(
        folder, folder.resolve().name, _state(folder, status), config, status, rows,
        _read_confusion(folder / CONFUSION, problems), _samples(folder), problems,
    )  # fmt: skip


def read_rows(path: Path, problems: list[str]) -> list[Row]:
    """The rows of a file of metrics; lines that are none are counted in `problems`."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
        return []
    rows, broken = [], 0
    lines.pop()  # empty, or a line that is being written
    for line in lines:
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line.strip():
            broken += 1
    if broken:
        problems.append(f"{path.name}: lines that are no rows and are left out: {broken}")
    return rows


def _row(line: bytes) -> Row | None:
    try:
        found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get("split"), str):
            return None
        row = {key: float(value) for key, value in found.items() if is_number(value)}
    except (ValueError, RecursionError, OverflowError):
        return None
    return {**row, "split": found["split"]} if math.isfinite(row.get("step", math.nan)) else None


def _state(folder: Path, status: Json) -> str:
    state = status.get("state")
    if state not in ("running", "finished", "interrupted", "failed"):
        return "unknown"
    return "killed" if state == "running" and not _lock_is_held(folder / "run.lock") else str(state)


def _lock_is_held(path: Path) -> bool:
    try:
        import fcntl

        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except ImportError:  # Windows
        return True
    except OSError:
        return False
    return False


def _begun(folder: Path) -> float:
    for name in (CONFIG, STATUS, METRICS):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _read_text(path: Path, problems: list[str]) -> str | None:
    try:
        if path.stat().st_size > _LARGEST:
            problems.append(f"{path.name} is larger than {_LARGEST // 2**20} MiB")
            return None
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{path.name} is no text")
    return None


def _read_json(path: Path, problems: list[str]) -> Json:
    text = _read_text(path, problems)
    try:
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    problems.append(f"{path.name} is no JSON object")
    return {}


def _read_toml(path: Path, problems: list[str]) -> Json:
    text = _read_text(path, problems)
    try:
        return {} if text is None else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        problems.append(f"{path.name} is no TOML")
        return {}


def _read_confusion(path: Path, problems: list[str]) -> Confusion | None:
    found = _read_json(path, problems)
    if not found:
        return None
    try:
        matrix = np.array(found.get("matrix"), np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
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
    found = [p for p in folder.glob("samples/*") if p.suffix in (".txt", ".png") and p.is_file()]

    def step(path: Path) -> tuple[int, str]:
        digits = "".join(filter(str.isdecimal, path.stem))
        return int(digits or 0), path.name

    return sorted(found, key=step)


def _table(config: Json, name: str) -> Json:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
