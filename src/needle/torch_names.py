"""Names that programs written for PyTorch begin with: dtypes and devices."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from .autograd import Tensor, enable_grad, no_grad
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
    promote,
    promote_scalar,
)
from .backend_selection import Device, as_device
from .typing import DType, DTypeLike, Scalar


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


def inference_mode(mode: Any = True) -> Any:
    """`no_grad`, or `enable_grad` for a false `mode`: a context and a decorator.

    PyTorch's also forbids to use the results in a graph later.
    """
    context: Any = no_grad if mode else enable_grad
    return context(mode) if callable(mode) else context()


def is_floating_point(x: Tensor) -> builtins.bool:
    """Whether the dtype of `x` is one of floats."""
    return x.is_floating_point()


def is_complex(x: Tensor) -> builtins.bool:
    """False: Tensors are not complex."""
    return False


def is_nonzero(x: Tensor) -> builtins.bool:
    """Whether the only element of `x` is not 0. Raises ValueError where there are several."""
    return builtins.bool(x.item())


def promote_types(a: DTypeLike, b: DTypeLike) -> DType:
    """The dtype of an operation on Tensors of two dtypes."""
    return promote(as_dtype(a), as_dtype(b))


def result_type(a: Tensor | Scalar, b: Tensor | Scalar) -> DType:
    """The dtype of an operation on two Tensors or numbers, of which a number changes the kind only.

    Raises TypeError for two numbers.
    """
    if isinstance(a, Tensor):
        return promote(a.dtype, b.dtype) if isinstance(b, Tensor) else promote_scalar(a.dtype, b)
    if isinstance(b, Tensor):
        return promote_scalar(b.dtype, a)
    raise TypeError("[result_type] needs a Tensor among its arguments")


inf, nan, pi, e = math.inf, math.nan, math.pi, math.e
newaxis = None
dtype = np.dtype  # the class of most dtypes, for annotations
strided = "strided"  # what `layout=` is given
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
    "bfloat16",
    "bool",
    "device",
    "double",
    "dtype",
    "e",
    "finfo",
    "float",
    "float16",
    "float32",
    "float64",
    "half",
    "iinfo",
    "inf",
    "inference_mode",
    "int",
    "int32",
    "int64",
    "is_complex",
    "is_floating_point",
    "is_nonzero",
    "is_tensor",
    "long",
    "nan",
    "newaxis",
    "numel",
    "pi",
    "promote_types",
    "result_type",
    "strided",
    "uint8",
]  # fmt: skip
