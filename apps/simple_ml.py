"""The functions of the course's `simple_ml`: those on arrays, and those on Tensors."""

from __future__ import annotations

from needle.simple_ml import (
    add,
    loss_err,
    nn_epoch,
    parse_mnist,
    softmax_loss,
    softmax_regression_epoch,
    softmax_regression_epoch_cpp,
)

__all__ = [
    "add",
    "loss_err",
    "nn_epoch",
    "parse_mnist",
    "softmax_loss",
    "softmax_regression_epoch",
    "softmax_regression_epoch_cpp",
]
