"""Measures of a model's outputs, as sums over batches: one metric a file."""

from .base import Metric

__all__ = ["Metric"]
