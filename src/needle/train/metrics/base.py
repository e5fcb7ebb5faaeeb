"""Metric: a measure of outputs and targets, computed from sums over all batches."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from ...autograd import Tensor, no_grad

Self = TypeVar("Self", bound="Metric")


class Metric:
    """Base class of metrics: statistics that are added up, and a result of their sums.

    `statistics` is computed on the device, in the compiled step; the sums are read when a result is
    wanted. So measuring never makes a step wait. Alone, a metric is fed by `update`.

    Attributes
    ----------
    name : str
        What it is called in rows of measurements.
    higher_is_better : bool

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.train import Metric
    >>> class Bias(Metric):
    ...     def statistics(self, output, target):
    ...         return ndl.stack([(output - target).sum(), (output * 0 + 1).sum()])
    ...     def result(self, total):
    ...         return total[0] / total[1]
    """

    name: str = ""
    higher_is_better: bool = True
    _total: np.ndarray | None = None

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The statistics of a batch, float32 and of the same shape for every batch.

        Counts are exact up to 2²⁴ a batch; their sums over batches are float64.
        """
        raise NotImplementedError(f"{type(self).__name__} must define statistics")

    def result(self, total: np.ndarray) -> float | np.ndarray:
        """The metric, from the sum (float64) of the statistics of all batches."""
        raise NotImplementedError(f"{type(self).__name__} must define result")

    @no_grad()
    def update(self: Self, output: Tensor, target: Tensor) -> Self:
        """Count one batch; returns the metric."""
        found = self.statistics(output, target).numpy().astype(np.float64)
        self._total = found if self._total is None else self._total + found
        return self

    def compute(self) -> float | np.ndarray:
        """The metric over the batches since the last `reset`.

        Raises RuntimeError where there were none.
        """
        if self._total is None:
            raise RuntimeError(f"[{type(self).__name__}] compute needs an update before it")
        return self.result(self._total)

    def reset(self) -> None:
        """Forget all batches."""
        self._total = None
