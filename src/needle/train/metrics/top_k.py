"""TopK: how often the true class is among the k most likely ones."""

from __future__ import annotations

import numpy as np

from ... import init, ops
from ...autograd import Tensor
from ...given import shown
from .labels import scores
from .mean import Mean


class TopK(Mean):
    """The part of the samples whose true class has one of the k largest logits.

    Of equal logits, the one of the lower class counts as larger; a logit that is NaN is never among
    the largest.

    Parameters
    ----------
    k : int, default 5
    axis, ignore : int, optional
        As in `Accuracy`.

    Raises
    ------
    ValueError
        If k is not positive; by `statistics` and `update`, if shapes do not fit or there are less
        than k classes.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import TopK
    >>> logits = ndl.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    >>> TopK(2).update(logits, ndl.tensor([1, 2])).compute()
    0.5
    """

    def __init__(self, k: int = 5, axis: int | None = None, ignore: int | None = None) -> None:
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"[TopK] k must be a positive whole number, got {shown(k)}")
        self.k, self.axis, self.ignore = int(k), axis, ignore
        self.name = f"top{self.k}"

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The numbers of samples whose true class is among the k, and of all, shape (2,)."""
        found = scores("TopK", output, target, self.axis, self.ignore)
        n, classes = found.logits.shape
        if self.k > classes:
            raise ValueError(f"[TopK] k={self.k} needs as many classes, got {classes}")
        index = found.target.reshape((n, 1))
        true = ops.gather(found.logits, 1, index)  # (n, 1)
        # The rank of the true class. With NaN every comparison is false, and the rank is the last.
        behind = (found.logits < true).astype("float32")
        later = (
            init.arange(classes, dtype="int64", device=output.device).reshape((1, classes)) >= index
        )
        behind = behind + (found.logits == true).astype("float32") * later.astype("float32")
        rank = classes - behind.sum(1)
        hits = (rank < self.k).astype("float32") * found.counted
        return ops.stack([hits.sum(), found.counted.sum()])
