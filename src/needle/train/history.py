"""The rows of measurements of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..typing import Json


@dataclass
class History:
    """What `fit` has measured: rows of training and of validation, in the order of their steps.

    Attributes
    ----------
    rows : list of dict
        Each has "step", "epoch", "seconds", "split", "loss" and the metrics; rows of training also
        "lr", "samples_per_second" and "memory" (bytes).

    Examples
    --------
    >>> from needle.train import History
    >>> history = History([{"step": 1, "split": "train", "loss": 2.0}])
    >>> history.last("train")["loss"]
    2.0
    """

    rows: list[Json] = field(default_factory=list)

    @classmethod
    def of_file(cls, rows: Iterable[Json]) -> History:
        """The history that a file's rows tell: null stands for NaN, which JSON does not have."""
        return cls(
            [
                {k: math.nan if x is None and k != "memory" else x for k, x in row.items()}
                for row in rows
            ]
        )

    @property
    def train(self) -> list[Json]:
        """The rows of training."""
        return [row for row in self.rows if row["split"] == "train"]

    @property
    def validation(self) -> list[Json]:
        """The rows of validation."""
        return [row for row in self.rows if row["split"] == "validation"]

    def last(self, split: str) -> Json | None:
        """The last row of "train" or "validation"."""
        return next((row for row in reversed(self.rows) if row["split"] == split), None)

    def best(self, measure: str = "validation/loss", higher: bool = False) -> Json | None:
        """The row with the lowest, or highest, value of a measure; the first one of several.

        NaN is never the best.
        """
        split, _, name = measure.partition("/")
        rows = [r for r in self.rows if r["split"] == split and not _is_nan(r.get(name))]
        if not rows:
            return None
        return max(rows, key=lambda r: r[name] if higher else -r[name])

    def __iter__(self) -> Iterator[Json]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _is_nan(value: float | None) -> bool:
    return value is None or math.isnan(value)
