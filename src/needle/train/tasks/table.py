"""The task of a table: rows of numbers and categories in a CSV file, one column to predict."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ... import data, nn, ops
from ...autograd import Tensor
from ...typing import Json
from ..metrics import R2, Accuracy, MeanAbsoluteError, Metric
from ..options import unknown
from .task import Batches, Task, check_paths

MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
MOST_CATEGORIES = 1000  # values of a column; those beyond the most frequent ones are one
MOST_CLASSES_OF_NUMBERS = 20  # whole numbers with more values are predicted as numbers


@dataclass(frozen=True)
class Column:
    """How a column is read: numbers by `mean` and `deviation`, categories by their ids.

    Id 0 is a value that is missing or was not seen in training.
    """

    name: str
    mean: float = 0.0
    deviation: float = 1.0
    has_missing: bool = False
    categories: tuple[str, ...] | None = None

    def numbers(self, cells: Sequence[str]) -> np.ndarray:
        """Standardized numbers (n, 1), 0 where missing; (n, 2) with a column that tells which."""
        values = np.array([_number(cell) for cell in cells], np.float64)
        is_missing = np.isnan(values)
        scaled = np.where(is_missing, 0.0, (values - self.mean) / self.deviation)
        return np.stack([scaled, is_missing] if self.has_missing else [scaled], 1)

    def ids(self, cells: Sequence[str]) -> np.ndarray:
        """The ids (n, 1) of categories."""
        assert self.categories is not None
        known = {value: i for i, value in enumerate(self.categories, 1)}
        return np.array([[known.get(cell, 0)] for cell in cells], np.float64)


class SquaredError:
    """The mean of ((output - target) / scale)², so that a loss of 1 is that of the mean itself."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of outputs and targets (B,)."""
        loss: Tensor = ops.mean(((output - target) / self.scale) ** 2)
        return loss


def table(
    paths: Sequence[Path],
    state: Json | None,
    target: str = "",
    kind: str = "",
    validation: float = 0.2,
    delimiter: str = "",
) -> Task:
    """A CSV file with a header, of which the column `target` is predicted.

    Columns of numbers are standardized, the others are categories; empty cells are missing values.
    A target of texts, or of up to 20 whole numbers, is classified; `kind` "classification" or
    "regression" says otherwise. A part of the rows, always the same, is for validation.
    """
    if len(paths) != 1:
        raise ValueError(f"[csv] give one file, got {len(paths)}")
    check_paths(paths, "csv")
    if not 0 < validation < 1:
        raise ValueError(f"[csv] validation must lie in (0, 1), got {validation}")
    if kind not in ("", "classification", "regression"):
        raise ValueError(f'[csv] kind must be "classification" or "regression", got {kind!r}')
    path = paths[0]
    header, rows = read_csv(path, delimiter)
    if not target:
        raise ValueError(f"[csv] --target names the column to predict: {', '.join(header)}")
    if target not in header:
        raise ValueError(f"[csv] {unknown(repr(str(path)), 'column', target, header)}")
    place = header.index(target)
    rows = [row for row in rows if not _is_missing(row[place])]
    if len(rows) < 10:
        raise ValueError(
            f"[csv] {str(path)!r}: expected 10 rows or more with a {target}, found {len(rows)}"
        )
    order = np.random.RandomState(0).permutation(len(rows))
    held_out = np.sort(order[: max(1, round(validation * len(rows)))])
    trained = np.setdiff1d(np.arange(len(rows)), held_out)
    cells = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    answers = cells.pop(target)
    if state:
        columns, goal = _from_state(state)
        _check_columns(columns, cells, path)
    else:
        columns = [
            _column(name, values, [values[i] for i in trained]) for name, values in cells.items()
        ]
        goal = _goal(target, answers, [answers[i] for i in trained], kind)
    x, y = encode(columns, cells), _encode_target(goal, answers)
    return _task(path, columns, goal, x, y, trained, held_out)


def read_csv(path: Path, delimiter: str = "") -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV file, cells without the spaces around them.

    Without a delimiter it is found among , ; tab and |. Raises ValueError, which names the file and
    the line, where a row has more or fewer cells than the header.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = delimiter or _delimiter_of(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, [c.strip() for c in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error, TypeError) as error:
        raise ValueError(f"[csv] {str(path)!r}: expected a CSV file in UTF-8: {error}") from None
    if len(lines) < 2:
        raise ValueError(f"[csv] {str(path)!r}: expected a header and rows, found no rows")
    header = lines[0][1]
    if len(set(header)) < len(header) or "" in header:
        raise ValueError(
            f"[csv] {str(path)!r}: expected a different name for each column in the first line, "
            f"found {', '.join(map(repr, header[:10]))}"
        )
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"[csv] {str(path)!r}, line {number}: expected {len(header)} cells, as in the "
                f"header, found {len(row)}"
            )
    return header, [row for _, row in lines[1:]]


def encode(columns: Sequence[Column], cells: dict[str, list[str]]) -> np.ndarray:
    """Rows as a model takes them (n, features) float32: all numbers, then the ids of categories."""
    parts = [c.numbers(cells[c.name]) for c in columns if c.categories is None]
    parts += [c.ids(cells[c.name]) for c in columns if c.categories is not None]
    return np.concatenate(parts, 1).astype(np.float32)


def columns_of(state: Json) -> tuple[list[Column], Column]:
    """The columns and the target of a table's `Task.state`. Raises ValueError for any other."""
    return _from_state(state)


def _task(
    path: Path,
    columns: Sequence[Column],
    goal: Column,
    x: np.ndarray,
    y: np.ndarray,
    trained: np.ndarray,
    held_out: np.ndarray,
) -> Task:
    train = data.NDArrayDataset(x[trained], y[trained])
    validation = data.NDArrayDataset(x[held_out], y[held_out])

    def batches(batch_size: int, workers: int) -> Batches:
        return data.DataLoader(train, batch_size, shuffle=True, drop_last=True, num_workers=workers)

    classes = goal.categories
    metrics: dict[str, Metric] = {"accuracy": Accuracy()}
    loss = nn.SoftmaxLoss() if classes else SquaredError(goal.deviation)
    if not classes:
        metrics = {
            "mae": MeanAbsoluteError(), "r2": R2(),
        }  # fmt: skip
    categories = [len(c.categories) + 1 for c in columns if c.categories is not None]
    options = {
        "numbers": x.shape[1] - len(categories), "categories": categories,
        "num_classes": len(classes or ()), "shift": goal.mean, "scale": goal.deviation,
    }  # fmt: skip
    state = {"columns": [asdict(column) for column in columns], "target": asdict(goal)}
    return Task(
        "csv", f"{goal.name} of {path.name}", batches, data.DataLoader(validation, 1000),
        len(trained), len(held_out), "rows", loss, metrics,
        "validation/accuracy" if classes else "validation/loss", classes, _as_json(state), options,
    )  # fmt: skip


def _column(name: str, values: Sequence[str], seen: Sequence[str]) -> Column:
    """How to read a column, from its values in the rows to train on."""
    numbers = np.array([_number(cell) for cell in values], np.float64)
    if all(_is_missing(cell) or not math.isnan(n) for cell, n in zip(values, numbers, strict=True)):
        known = np.array([_number(cell) for cell in seen], np.float64)
        known = known[~np.isnan(known)]
        mean = float(known.mean()) if known.size else 0.0
        deviation = float(known.std()) if known.size else 0.0
        return Column(name, mean, deviation or 1.0, bool(np.isnan(numbers).any()))
    found, counts = np.unique([c for c in seen if not _is_missing(c)], return_counts=True)
    most = found[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]]
    return Column(name, categories=tuple(map(str, np.sort(most))))


def _goal(name: str, values: Sequence[str], seen: Sequence[str], kind: str) -> Column:
    """How to read the column to predict: its classes, or the mean and deviation of its numbers."""
    column = _column(name, values, seen)
    if column.categories is None:
        distinct = set(values)
        whole = all(float(value).is_integer() for value in distinct)
        few = whole and len(distinct) <= MOST_CLASSES_OF_NUMBERS
        if kind == "regression" or (not kind and not few):
            return column
    elif kind == "regression":
        raise ValueError(f"[csv] regression needs numbers, but {name} has texts")
    classes = sorted(set(values), key=lambda v: (_number(v) if column.categories is None else 0, v))
    if len(classes) < 2:
        raise ValueError(f"[csv] {name} has one value, {classes[0]!r}: there is nothing to predict")
    if len(classes) > MOST_CATEGORIES:
        raise ValueError(
            f"[csv] {name} has {len(classes):,} different values, the most are {MOST_CATEGORIES:,}"
        )
    return Column(name, categories=tuple(classes))


def _encode_target(goal: Column, cells: Sequence[str]) -> np.ndarray:
    if goal.categories is None:
        values = np.array([_number(cell) for cell in cells], np.float32)
        if np.isnan(values).any():
            wrong = cells[int(np.isnan(values).argmax())]
            raise ValueError(f"[csv] {goal.name} must be numbers, found {wrong!r}")
        return values
    ids = goal.ids(cells)[:, 0].astype(np.int64) - 1
    if (ids < 0).any():
        raise ValueError(
            f"[csv] {goal.name} has the value {cells[int((ids < 0).argmax())]!r}, which was not "
            "among the classes in training"
        )
    return ids


def _check_columns(columns: Sequence[Column], cells: dict[str, list[str]], path: Path) -> None:
    missing = [column.name for column in columns if column.name not in cells]
    if missing:
        raise ValueError(f"[csv] {str(path)!r} lacks the columns {', '.join(missing[:5])}")


def _from_state(state: Json) -> tuple[list[Column], Column]:
    def column(entry: Json) -> Column:
        names = entry["categories"]
        return Column(**{**entry, "categories": None if names is None else tuple(names)})

    try:
        return [column(entry) for entry in state["columns"]], column(state["target"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"[csv] state must hold 'columns' and 'target', got {repr(state)[:80]}"
        ) from None


def _as_json(state: Json) -> Json:
    """The state with lists in place of tuples, as JSON gives it back."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    return {key: plain(value) for key, value in state.items()}


def _delimiter_of(line: str) -> str:
    return max(",;\t|", key=line.count)


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _number(cell: str) -> float:
    """The number that a cell holds; NaN where it holds none or an infinity."""
    try:
        value = math.nan if _is_missing(cell) else float(cell.replace("_", "x"))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
