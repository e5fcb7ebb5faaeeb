"""Accuracy: how many predictions are right."""

from __future__ import annotations

from ... import ops
from ...autograd import Tensor
from .labels import labels
from .mean import Mean


class Accuracy(Mean):
    """The part of the samples whose predicted class, that of the largest logit, is the true one.

    Outputs have one axis more than targets, that of the classes: axis 1, as in `(N, C)` and
    `(N, C, H, W)`, or the last one, as in `(N, T, C)`. An output of the target's own shape holds
    logits of the class 1 of two; each of its elements is a sample.

    Parameters
    ----------
    axis : int, optional
        The axis of the classes, where the shapes leave a choice.
    ignore : int, optional
        Samples of this target do not count, such as padding.

    Raises
    ------
    ValueError
        If shapes do not fit (by `statistics` and `update`).

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import Accuracy
    >>> logits = ndl.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> Accuracy().update(logits, ndl.tensor([0, 1, 1])).compute()
    0.6666666666666666
    """

    name = "accuracy"

    def __init__(self, axis: int | None = None, ignore: int | None = None) -> None:
        self.axis, self.ignore = axis, ignore

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The numbers of right predictions and of samples, shape (2,)."""
        found = labels("Accuracy", output, target, self.axis, self.ignore)
        right = (found.predicted == found.target).astype("float32") * found.counted
        return ops.stack([right.sum(), found.counted.sum()])
