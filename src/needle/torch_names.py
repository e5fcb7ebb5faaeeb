"""Names that programs written for PyTorch begin with: dtypes and devices."""

from __future__ import annotations

import builtins

import numpy as np

from .autograd import Tensor, no_grad
from .backend_ndarray import as_dtype
from .backend_ndarray.dtypes import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    UINT8,
)
from .backend_selection import Device, as_device
from .typing import DType, DTypeLike


def device(name: str | Device, index: builtins.int | None = None) -> Device:
    """The device of a name such as "cpu", "cuda" or "cuda:1", or of a name and a number."""
    return as_device(name if index is None else f"{name}:{index}")


def finfo(dtype: DTypeLike) -> np.finfo[np.floating]:
    """The limits of a floating dtype, as `numpy.finfo` has them: `min`, `max`, `eps`, `tiny`."""
    found = as_dtype(dtype)
    if found is BFLOAT16:
        raise TypeError("[finfo] NumPy has no bfloat16; its range is that of float32")
    return np.finfo(found)


def iinfo(dtype: DTypeLike) -> np.iinfo[np.integer]:
    """The limits of an integer dtype, as `numpy.iinfo` has them: `min`, `max`, `bits`."""
    return np.iinfo(as_dtype(dtype))


def is_tensor(x: object) -> builtins.bool:
    """Whether `x` is a Tensor."""
    return isinstance(x, Tensor)


def numel(x: Tensor) -> builtins.int:
    """The number of elements of `x`."""
    return x.numel()


inference_mode = no_grad  # PyTorch's also forbids to use the results in a graph later
bfloat16: DType = BFLOAT16
bool: DType = BOOL
float16: DType = FLOAT16
half: DType = FLOAT16
float32: DType = FLOAT32
float: DType = FLOAT32
float64: DType = FLOAT64
double: DType = FLOAT64
int32: DType = INT32
int: DType = INT32
int64: DType = INT64
long: DType = INT64
uint8: DType = UINT8

__all__ = [
    "bfloat16", "bool", "device", "double", "finfo", "float", "float16", "float32", "float64",
    "half", "iinfo", "inference_mode", "int", "int32", "int64", "is_tensor", "long", "numel",
    "uint8",
]  # fmt: skip
