"""Mean: the base of metrics that are a sum over samples, divided by their number."""

from __future__ import annotations

import math

import numpy as np

from .base import Metric


class Mean(Metric):
    """Base class of metrics whose statistics are a sum and the number of samples, shape (2,).

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import Mean
    >>> class Bias(Mean):
    ...     def statistics(self, output, target):
    ...         return ndl.stack([(output - target).sum(), (output * 0 + 1).sum()])
    >>> Bias().update(ndl.tensor([1.0, 4.0]), ndl.tensor([1.0, 2.0])).compute()
    1.0
    """

    def result(self, total: np.ndarray) -> float:
        """The mean; NaN without samples."""
        return float(total[0] / total[1]) if total[1] else math.nan
