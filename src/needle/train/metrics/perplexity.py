"""Perplexity: how many choices a language model hesitates between."""

from __future__ import annotations

import math

import numpy as np

from ... import init, ops
from ...autograd import Tensor
from .labels import scores
from .mean import Mean


class Perplexity(Mean):
    """exp of the mean cross-entropy (in nats) of logits and true classes.

    Parameters
    ----------
    axis, ignore : int, optional
        As in `Accuracy`.

    Raises
    ------
    ValueError
        If shapes do not fit (by `statistics` and `update`).

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import Perplexity
    >>> round(Perplexity().update(ndl.zeros(3, 8), ndl.tensor([1, 2, 7])).compute(), 4)
    8.0
    """

    name = "perplexity"
    higher_is_better = False

    def __init__(self, axis: int | None = None, ignore: int | None = None) -> None:
        self.axis, self.ignore = axis, ignore

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum of the cross-entropies and the number of samples, shape (2,)."""
        found = scores("Perplexity", output, target, self.axis, self.ignore)
        n = found.logits.shape[0]
        true = ops.gather(found.logits, 1, found.target.reshape((n, 1))).reshape((n,))
        entropy = ops.logsumexp(found.logits, axis=1) - true
        is_counted = found.counted > 0
        entropy = ops.where(is_counted, entropy, init.zeros_like(entropy))
        return ops.stack([entropy.sum(), found.counted.sum()])

    def result(self, total: np.ndarray) -> float:
        """The perplexity; infinity beyond the largest float, NaN without samples."""
        try:
            return math.exp(super().result(total))
        except OverflowError:
            return math.inf
