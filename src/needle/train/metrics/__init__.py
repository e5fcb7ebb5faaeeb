"""Measures of a model's outputs, as sums over batches: one metric a file."""

from .accuracy import Accuracy
from .base import Metric
from .confusion import Confusion
from .errors import R2, MeanAbsoluteError, MeanSquaredError
from .f1 import F1
from .mean import Mean
from .perplexity import Perplexity
from .top_k import TopK

__all__ = [
    "F1",
    "R2",
    "Accuracy",
    "Confusion",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "TopK",
]
