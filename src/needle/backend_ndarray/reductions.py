"""Reductions over axes, running sums and sorting. `NDArray` lists these functions as its methods.

Functions here have the names of NumPy's, also those of Python's built-in functions.
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING

from ..typing import Axis
from .arithmetic import binary, in_float32, unary
from .dtypes import BOOL, FLOAT32, FLOAT64, INT64, UINT8, is_float, is_stored, widened
from .layout import normalize_axes, normalize_axis, reduced_shape

if TYPE_CHECKING:
    from .ndarray import NDArray


def reduce(x: NDArray, op: str, axis: Axis, keepdims: bool) -> NDArray:
    """The device's reduction of that name over `axis`."""
    if is_stored(x._dtype):
        return in_float32(reduce, x, op, axis, keepdims)
    axes = normalize_axes(axis, len(x._shape), op)
    dtype = x._dtype
    if op in ("sum", "prod") and not is_float(dtype):
        dtype = INT64  # as in NumPy: sums of small integers do not wrap
    if op in ("max", "min") and builtins.any(x._shape[i] == 0 for i in axes):
        raise ValueError(f"[{op}] shape {x._shape} has no elements along axes {axes}")
    if not axes:
        return x.astype(dtype).copy()
    out = x._new(reduced_shape(x._shape, axes, keepdims=True), dtype)
    x._device.reduce(op, x, axes, out)
    return out if keepdims else out._without(axes)


def sum(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """The sum over `axis` (None, an int or a tuple); integers sum to int64."""
    return reduce(x, "sum", axis, keepdims)


def prod(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """The product over `axis`."""
    return reduce(x, "prod", axis, keepdims)


def max(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """The largest element over `axis`; NaN wins. Raises ValueError over nothing."""
    return reduce(x, "max", axis, keepdims)


def min(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """The smallest element over `axis`; NaN wins. Raises ValueError over nothing."""
    return reduce(x, "min", axis, keepdims)


def any(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """Whether any element over `axis` is nonzero, as a bool array."""
    is_nonzero = binary(x.astype(BOOL), "ne", 0, BOOL)
    return sum(is_nonzero.astype(UINT8), axis, keepdims).astype(BOOL)


def all(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """Whether all elements over `axis` are nonzero, as a bool array."""
    is_zero = unary(x.astype(BOOL), "logical_not", BOOL)
    return unary(any(is_zero, axis, keepdims), "logical_not")


def mean(x: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """The arithmetic mean over `axis`; that of integers is float32, rounded once."""
    if is_stored(x._dtype):
        return in_float32(mean, x, axis, keepdims)
    axes = normalize_axes(axis, len(x._shape), "mean")
    count = math.prod(x._shape[i] for i in axes)
    share = 1.0 / count if count else float("nan")
    if is_float(x._dtype):
        return sum(x, axes, keepdims) * share
    # Sums of narrow integers are exact in int64, which those of int64 may exceed.
    wide = x.astype(FLOAT64) if x._dtype is INT64 else x
    return (sum(wide, axes, keepdims).astype(FLOAT64) * share).astype(FLOAT32)


def _arg_reduce(x: NDArray, op: str, axis: int | None, keepdims: bool) -> NDArray:
    values = x.astype(widened(x._dtype))
    if axis is None:
        values = values.flatten()
    along = normalize_axis(0 if axis is None else axis, len(values._shape), op)
    if values._shape[along] == 0:
        raise ValueError(f"[{op}] shape {x._shape} has no elements along axis {axis}")
    out = values._new(reduced_shape(values._shape, (along,), True), INT64)
    values._device.argreduce(op, values, along, out)
    if axis is None:
        return out.reshape((1,) * len(x._shape) if keepdims else ())
    return out if keepdims else out._without((along,))


def argmax(x: NDArray, axis: int | None = None, keepdims: bool = False) -> NDArray:
    """The int64 index of the first largest element along `axis` (flattened for None)."""
    return _arg_reduce(x, "argmax", axis, keepdims)


def argmin(x: NDArray, axis: int | None = None, keepdims: bool = False) -> NDArray:
    """The int64 index of the first smallest element along `axis` (flattened for None)."""
    return _arg_reduce(x, "argmin", axis, keepdims)


def cumsum(x: NDArray, axis: int) -> NDArray:
    """Running sums along `axis`; integers sum to int64."""
    if is_stored(x._dtype):
        return in_float32(cumsum, x, axis)
    terms = x if is_float(x._dtype) else x.astype(INT64)
    out = terms._new(terms._shape, terms._dtype)
    terms._device.cumsum(terms, normalize_axis(axis, len(x._shape), "cumsum"), out)
    return out


def argsort(x: NDArray, axis: int = -1, descending: bool = False) -> NDArray:
    """The int64 order that sorts along `axis`; stable, a NaN is the largest."""
    values = x.astype(widened(x._dtype))
    out = values._new(values._shape, INT64)
    along = normalize_axis(axis, len(x._shape), "argsort")
    values._device.argsort(values, along, descending, out)
    return out
