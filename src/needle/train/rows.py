"""The rows of a run's measurements as columns, read on from where the last reading ended.

A run of days has some hundred thousand rows. Whoever follows it reads each of them once, and keeps
9 bytes a value.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

# What a row holds beside the loss and the metrics: where in training it was made, and how it went.
PLACE = ("step", "epoch", "seconds", "split")
CIRCUMSTANCES = ("lr", "samples_per_second", "memory")

_CHUNK = 2**20  # bytes read at once
_REMEMBERED = 256  # bytes before the place of reading, by which a rewritten file is recognized


class Columns:
    """The rows of one split ("train" or "validation"), by columns."""

    def __init__(self) -> None:
        self.count = 0
        self._columns: dict[str, tuple[array[float], bytearray]] = {}

    def append(self, row: dict[str, float]) -> None:
        """Add a row."""
        for key in row:
            if key not in self._columns:
                self._columns[key] = array("d", bytes(8 * self.count)), bytearray(self.count)
        for key, (values, there) in self._columns.items():
            values.append(row.get(key, 0.0))
            there.append(key in row)
        self.count += 1

    def keys(self) -> list[str]:
        """The names of the columns, in the order in which they first came."""
        return list(self._columns)

    def column(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(values, whether the row has one), each (rows,); a value may be NaN or infinite."""
        if key not in self._columns:
            return np.zeros(self.count), np.zeros(self.count, bool)
        values, there = self._columns[key]
        return np.array(values, np.float64), np.array(there, bool)


class Rows:
    """The rows of a file of metrics.

    Parameters
    ----------
    last : int
        Only the rows in so many bytes at the end of the file are read; 0 for all.

    Attributes
    ----------
    splits : dict of str to Columns
    broken : int
        Lines that are no rows and were left out.

    Examples
    --------
    >>> rows = Rows()
    >>> rows.add(b'{"step": 1, "split": "train", "loss": 2.5}')
    >>> rows.splits["train"].column("loss")[0].tolist()
    [2.5]
    """

    def __init__(self, last: int = 0) -> None:
        self.splits: dict[str, Columns] = {}
        self.broken = 0
        self._offset, self._before, self._last = 0, b"", last

    def __len__(self) -> int:
        return sum(columns.count for columns in self.splits.values())

    def keys(self) -> list[str]:
        """The names of the columns of all splits, each once."""
        return list(dict.fromkeys(key for c in self.splits.values() for key in c.keys()))  # noqa: SIM118

    def update(self, path: Path) -> None:
        """Read what has been added to the file, or all of it where it was written anew.

        A last line without an end is left for the next time. Raises OSError.
        """
        if self._last:
            self._skip(path)
        with open(path, "rb") as file:
            file.seek(max(0, self._offset - len(self._before)))
            if file.read(len(self._before)) != self._before:
                self.__init__()  # type: ignore[misc]
                file.seek(0)
            rest = b""
            while chunk := file.read(_CHUNK):
                read = rest + chunk
                *lines, rest = read.split(b"\n")
                for line in lines:
                    self.add(line)
                whole = len(read) - len(rest)
                self._offset += whole
                self._before = (self._before + read[:whole])[-_REMEMBERED:]

    def _skip(self, path: Path) -> None:
        """Go to the first line in the last bytes of the file."""
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - self._last))
            if file.tell():
                file.readline()
            self._offset, self._last = file.tell(), 0

    def add(self, line: bytes) -> None:
        """Add a line of the file."""
        if not line.strip():
            return
        try:
            split, row = _row(json.loads(line))
        except (ValueError, RecursionError):
            self.broken += 1
        else:
            self.splits.setdefault(split, Columns()).append(row)


def _row(found: object) -> tuple[str, dict[str, float]]:
    """(split, the numbers of the row, NaN for null). Raises ValueError for what is no row."""
    if not isinstance(found, dict) or not isinstance(found.get("split"), str):
        raise ValueError("no row")
    row = {
        key: math.nan if value is None else float(value)
        for key, value in found.items()
        if value is None or is_number(value)
    }
    if not math.isfinite(row.get("step", math.nan)):
        raise ValueError("no row")
    return found["split"], row


def finite(value: Any) -> Any:
    """`value` with null in place of the numbers that JSON does not have, NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def measures(names: Iterable[str]) -> list[str]:
    """The loss and the metrics among the names in a row, in their order."""
    return [name for name in names if name not in (*PLACE, *CIRCUMSTANCES)]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a float, or an int in the range of floats; NaN is one, True is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000
    return isinstance(value, float)
