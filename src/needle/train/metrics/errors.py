"""Errors of regression: mean absolute error, mean squared error, and R²."""

from __future__ import annotations

import math

import numpy as np

from ... import init, ops
from ...autograd import Tensor
from .base import Metric
from .mean import Mean


def difference(name: str, output: Tensor, target: Tensor, dtype: str = "float32") -> Tensor:
    """Target minus output. Raises ValueError where the shapes differ: they are not broadcast."""
    if output.shape != target.shape:
        raise ValueError(
            f"[{name}] output and target must have the same shape, got {output.shape} and "
            f"{target.shape}"
        )
    return target.astype(dtype) - output.astype(dtype)


class MeanAbsoluteError(Mean):
    """The mean of |target - output| over all elements.

    Raises ValueError, by `statistics` and `update`, where the shapes differ.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import MeanAbsoluteError
    >>> MeanAbsoluteError().update(ndl.tensor([1.0, 2.0]), ndl.tensor([1.0, 4.0])).compute()
    1.0
    """

    name = "mae"
    higher_is_better = False

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum of the absolute errors and the number of elements, shape (2,)."""
        error = ops.abs(difference("MeanAbsoluteError", output, target))
        return ops.stack([error.sum(), init.ones_like(error).sum()])


class MeanSquaredError(Mean):
    """The mean of (target - output)² over all elements.

    Raises ValueError, by `statistics` and `update`, where the shapes differ.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import MeanSquaredError
    >>> MeanSquaredError().update(ndl.tensor([1.0, 2.0]), ndl.tensor([1.0, 4.0])).compute()
    2.0
    """

    name = "mse"
    higher_is_better = False

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum of the squared errors and the number of elements, shape (2,)."""
        error = difference("MeanSquaredError", output, target)
        return ops.stack([(error * error).sum(), init.ones_like(error).sum()])


class R2(Metric):
    """The coefficient of determination, 1 - Σ(target - output)² / Σ(target - mean target)².

    1 is perfect; 0 is what the mean of the targets would reach. All elements count as one sample
    each. Its sums are exact to 48 bits, since the variance is a difference of large ones.

    Raises ValueError, by `statistics` and `update`, where the shapes differ.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train.metrics import R2
    >>> R2().update(ndl.tensor([1.0, 2.0, 4.0]), ndl.tensor([1.0, 2.0, 3.0])).compute()
    0.5
    """

    name = "r2"

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """Four sums, each in two floats, high and low, shape (2, 4).

        They are those of the squared errors, of the targets, of their squares, and the number.
        """
        error = difference("R2", output, target, "float64")
        true = target.astype("float64")
        count = init.ones_like(true)
        sums = ops.stack([x.sum() for x in (error * error, true, true * true, count)])
        high = sums.astype("float32")
        return ops.stack([high, (sums - high.astype("float64")).astype("float32")])

    def result(self, total: np.ndarray) -> float:
        """The coefficient; NaN where all targets are the same."""
        errors, sum_, squares, number = (float(x) for x in total.sum(0))
        if not number:
            return math.nan
        variation = squares - sum_ * sum_ / number
        return 1 - errors / variation if variation > 0 else math.nan
