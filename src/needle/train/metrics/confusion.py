"""Confusion: which classes are taken for which."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...autograd import Tensor
from .base import Metric
from .labels import labels, number_of_classes


class Confusion(Metric):
    """The confusion matrix: row i, column j counts samples of class i that were taken for class j.

    It is an array, and so it is in the results of `Trainer.evaluate` but not in rows.

    Parameters
    ----------
    classes : int
        The number of classes.
    axis, ignore : int, optional
        As in `Accuracy`.

    Raises
    ------
    ValueError
        If there are less than two classes; by `statistics` and `update`, if shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import Confusion
    >>> logits = ndl.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> Confusion(2).update(logits, ndl.tensor([0, 1, 1])).compute().tolist()
    [[1, 0], [1, 1]]
    """

    name = "confusion"

    def __init__(self, classes: int, axis: int | None = None, ignore: int | None = None) -> None:
        self.classes = number_of_classes("Confusion", classes)
        self.axis, self.ignore = axis, ignore

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The matrix of one batch, shape (classes, classes)."""
        found = labels("Confusion", output, target, self.axis, self.ignore)
        true = ops.one_hot(found.target, self.classes) * found.counted.reshape((-1, 1))
        return ops.transpose(true) @ ops.one_hot(found.predicted, self.classes)

    def result(self, total: np.ndarray) -> np.ndarray:
        """The matrix, int64."""
        matrix: np.ndarray = np.rint(total).astype(np.int64)
        return matrix
