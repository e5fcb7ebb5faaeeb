"""The measure that a callback watches, and which of two values is better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...given import shown
from ...typing import Json
from ..rows import measures

if TYPE_CHECKING:
    from ..trainer import Trainer

SPLITS = ("train", "validation")


class Watched:
    """A measure of rows by name, such as "validation/loss", and its best value so far.

    Parameters
    ----------
    owner : str
        Whom errors name.
    metric : str
        "train/" or "validation/" and the name of the measure in rows.
    higher_is_better : bool, optional
        The metric's own by default; lower is better for the loss.
    least : float, default 0
        By how much a better value must differ.
    argument : str, default "metric"
        What the owner calls the name of the measure.

    Attributes
    ----------
    best : float or None
    step : int or None
        The step of the best value.

    Raises
    ------
    ValueError
        If the name does not begin with one of the two splits.

    Examples
    --------
    >>> from needle.train.callbacks.watched import Watched
    >>> Watched("EarlyStopping", "validation/loss").key
    'loss'
    """

    def __init__(
        self,
        owner: str,
        metric: str,
        higher_is_better: bool | None = None,
        least: float = 0.0,
        argument: str = "metric",
    ) -> None:
        split, _, key = metric.partition("/")
        if split not in SPLITS or not key:
            raise ValueError(
                f"[{owner}] {argument} must be such as 'validation/loss' or 'train/accuracy', got "
                f"{shown(metric)}"
            )
        self.owner, self.metric, self.split, self.key = owner, metric, split, key
        self.higher_is_better, self.least = higher_is_better, least
        self.best: float | None = None
        self.step: int | None = None

    def check(self, trainer: Trainer) -> None:
        """Raises ValueError where a `fit` that begins will not validate, and this is watched."""
        if self.split == "validation" and trainer._validation is None:
            raise ValueError(f"[{self.owner}] {self.metric!r} needs fit(…, validation)")

    def value(self, trainer: Trainer, row: Json) -> float | None:
        """The measure in a row; None in rows of the other split.

        Raises ValueError where a row of the split has no such measure.
        """
        if row.get("split") != self.split:
            return None
        if self.key not in row:
            raise ValueError(
                f"[{self.owner}] {self.metric!r} is not measured: rows of {self.split} have "
                + ", ".join(measures(row))
            )
        return math.nan if row[self.key] is None else float(row[self.key])

    def improves(self, trainer: Trainer, value: float) -> bool:
        """Whether a value is the best so far, which is then kept; NaN never is."""
        higher = self.higher_is_better
        if higher is None:
            higher = trainer.higher_is_better(self.key)
        if math.isnan(value):
            return False
        if self.best is not None:
            gain = value - self.best if higher else self.best - value
            if not gain > self.least:
                return False
        self.best, self.step = value, trainer.progress.step
        return True

    def state_dict(self) -> Json:
        """The best value and its step."""
        return {"metric": self.metric, "best": self.best, "step": self.step}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`; the best value of another measure is left out."""
        if state.get("metric") == self.metric:
            self.best, self.step = state["best"], state["step"]
