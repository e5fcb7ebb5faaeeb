"""F1: the harmonic mean of precision and recall."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...given import shown
from .base import Metric
from .labels import labels, number_of_classes

AVERAGES = ("macro", "micro", "weighted", "binary", None)


class F1(Metric):
    """The F1 score, 2 · precision · recall / (precision + recall), of the classes.

    Parameters
    ----------
    classes : int
        The number of classes.
    average : {"macro", "micro", "weighted", "binary", None}, default "macro"
        "macro" is the mean over classes, "weighted" the same by numbers of true samples, "micro"
        counts all classes together, "binary" is the score of class 1 of two, None gives an array of
        the scores. Classes that neither occur nor are predicted do not enter the mean; their score
        in an array is 0.
    axis, ignore : int, optional
        As in `Accuracy`.

    Raises
    ------
    ValueError
        If an argument is none of these; by `statistics` and `update`, if shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import F1
    >>> logits = ndl.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> F1(2).update(logits, ndl.tensor([0, 1, 1])).compute()
    0.6666666666666666
    """

    name = "f1"

    def __init__(
        self,
        classes: int,
        average: str | None = "macro",
        axis: int | None = None,
        ignore: int | None = None,
    ) -> None:
        self.classes = number_of_classes("F1", classes)
        if average not in AVERAGES:
            raise ValueError(f"[F1] average must be one of {AVERAGES}, got {shown(average)}")
        if average == "binary" and classes != 2:
            raise ValueError(f"[F1] average='binary' needs classes=2, got {classes}")
        self.average, self.axis, self.ignore = average, axis, ignore

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """Right, predicted and true samples of each class, shape (3, classes)."""
        found = labels("F1", output, target, self.axis, self.ignore)
        counted = found.counted.reshape((-1, 1))
        true = ops.one_hot(found.target, self.classes) * counted
        predicted = ops.one_hot(found.predicted, self.classes) * counted
        return ops.stack([(true * predicted).sum(0), predicted.sum(0), true.sum(0)])

    def result(self, total: np.ndarray) -> float | np.ndarray:
        """The score; NaN without samples."""
        right, predicted, true = total
        if not true.sum():
            return math.nan
        if self.average == "micro":
            return float(2 * right.sum() / (predicted.sum() + true.sum()))
        occurs = predicted + true > 0
        score: np.ndarray = 2 * right / np.where(occurs, predicted + true, 1)
        if self.average is None:
            return score
        if self.average == "binary":
            return float(score[1])
        if self.average == "weighted":
            return float((score * true).sum() / true.sum())
        return float(score[occurs].mean())
