"""ConfusionFile: the confusion matrix of the newest validation, in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...typing import Json
from ..evaluation import write_confusion
from ..tolerance import Tolerance
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class ConfusionFile(Callback):
    """Write `confusion.json` after each validation that has measured a confusion matrix.

    Reports and the dashboard draw it. Without a run, or a metric that is a square matrix, nothing
    is written.

    Parameters
    ----------
    classes : sequence of str, optional
        The names of the classes.
    data : str
        What was validated on: "359 validation images".
    metric : str
        The name of the metric.

    Examples
    --------
    >>> from needle.train.callbacks import ConfusionFile
    >>> from needle.train.metrics import Confusion
    >>> callbacks = [ConfusionFile(["cat", "dog"], "100 validation images")]
    >>> metrics = {"confusion": Confusion(2)}  # both are arguments of Trainer
    """

    def __init__(
        self, classes: Sequence[str] | None = None, data: str = "", metric: str = "confusion"
    ) -> None:
        self.classes, self.data, self.metric = classes, data, metric
        self._tolerance = Tolerance("[ConfusionFile] the confusion matrix")

    def on_validation_end(self, trainer: Trainer, row: Json) -> None:
        """Write the matrix that was just measured."""
        matrix = trainer.results.get(self.metric)
        if trainer.run is not None and isinstance(matrix, np.ndarray) and matrix.ndim == 2:
            with self._tolerance.writing():
                write_confusion(trainer.run, matrix, self.classes, trainer.progress.step, self.data)
