"""Functions of arrays: making, choosing and joining them, and the course's names of methods."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..typing import Axis, DTypeLike, ShapeLike
from . import versions
from .device import BackendDevice, as_device
from .dtypes import (
    BOOL,
    FLOAT32,
    INT32,
    INT64,
    SCALARS,
    as_dtype,
    is_float,
    promote,
    promote_scalar,
    python_number,
)
from .layout import (
    broadcast_shapes,
    check_ndim,
    compact_strides,
    normalize_axis,
    whole,
)
from .ndarray import NDArray

_Device: TypeAlias = BackendDevice | str | None


def array(a: object, dtype: DTypeLike = "float32", device: _Device = None) -> NDArray:
    """A copy of `a` as an NDArray of `dtype`."""
    return NDArray(a, device=device, dtype=dtype)


def from_numpy(a: np.ndarray, device: _Device = None) -> NDArray:
    """An NDArray over the memory of `a`: no copy on a CPU device, and writes show on both sides.

    What NumPy writes between a forward and its backward pass is not noticed.
    A read-only or unaligned array, one whose layout needs it, or another device makes one copy.
    Raises TypeError for an unsupported dtype.
    """
    device = as_device(device)
    if not isinstance(a, np.ndarray):
        raise TypeError(f"[from_numpy] a must be a numpy.ndarray, got {type(a).__name__}")
    dtype = as_dtype(a.dtype)
    if not (a.flags.carray and a.dtype.isnative):
        return NDArray(a, device=device, dtype=dtype)
    check_ndim(a.ndim)
    handle = device.wrap(a.reshape(-1))
    if device.shares_memory:
        versions.share(handle)
    return NDArray._view(a.shape, compact_strides(a.shape), 0, handle, device, dtype)


def from_dlpack(x: Any, device: _Device = None) -> NDArray:
    """An NDArray over the CPU memory of an object with `__dlpack__`; no copy if possible."""
    return from_numpy(np.from_dlpack(x), device)


def empty(shape: ShapeLike, dtype: DTypeLike = "float32", device: _Device = None) -> NDArray:
    """An array with unspecified contents."""
    return as_device(device).empty(shape, dtype)


def full(
    shape: ShapeLike,
    fill_value: object,
    dtype: DTypeLike = "float32",
    device: _Device = None,
) -> NDArray:
    """An array with every element `fill_value`."""
    return as_device(device).full(shape, fill_value, dtype)


def where(cond: NDArray, a: object, b: object) -> NDArray:
    """`a` where `cond` is nonzero, else `b`; shapes broadcast, dtypes promote."""
    x = a if isinstance(a, NDArray) else _scalar_like(a, b, cond)
    y = b if isinstance(b, NDArray) else _scalar_like(b, x, cond)
    dtype = promote(x._dtype, y._dtype)
    shape = broadcast_shapes(broadcast_shapes(cond._shape, x._shape, "where"), y._shape, "where")
    out = NDArray._empty(shape, cond._device, dtype)
    cond._device.where(
        cond.astype(BOOL)._broadcast(shape),
        cond._coerce(x).astype(dtype)._broadcast(shape),
        cond._coerce(y).astype(dtype)._broadcast(shape),
        out,
    )
    return out


def _scalar_like(value: object, other: object, cond: NDArray) -> NDArray:
    if isinstance(value, SCALARS):
        number = python_number(value)
        dtype = other._dtype if isinstance(other, NDArray) else FLOAT32
        return cond._device.full((), number, promote_scalar(dtype, number))
    return cond._coerce(value)


def required(values: NDArray, ok: NDArray) -> NDArray:
    """`values`, of a function that is being compiled: there is nothing to look at yet.

    A call of the program raises IndexError where `ok`, of the same shape, does not hold everywhere.
    """
    # Zeros, looked up in a table of one row: `gather_rows` refuses the row 1 that is not there.
    zero = NDArray(np.zeros(1, np.int64), device=ok._device, dtype=INT64)
    row = where(ok, zero.broadcast_to(ok._shape), 1)
    return values + zero[row].astype(values._dtype)


def one_hot(index: NDArray, n: int, dtype: DTypeLike = "float32") -> NDArray:
    """Rows of the n×n identity chosen by integers; shape index.shape + (n,).

    An index outside 0 … n-1 gives a row of zeros.
    """
    n = whole(n, "one_hot", "n")
    index = index if index._dtype is INT64 else index.astype(INT32)
    # As int32, of which a processor compares twice as many at once; what is out of range is -1.
    inside = index.compare("ge", 0)._binary("logical_and", index.compare("lt", n))
    narrow = where(inside, index, -1).astype(INT32)
    columns = NDArray(np.arange(n), device=index._device, dtype=INT32)
    return narrow.unsqueeze(index.ndim).compare("eq", columns).astype(dtype)


def traced_one_hot(index: NDArray, n: int, dtype: DTypeLike = "float32") -> NDArray:
    """`one_hot` in a function that is being compiled: a call raises where `device.one_hot` does."""
    whole = index.astype(INT64)
    inside = whole.compare("ge", 0)._binary("logical_and", whole.compare("lt", n))
    if is_float(index._dtype):
        inside = inside._binary("logical_and", index.compare("eq", whole))
    return one_hot(required(whole, inside), n, dtype)


def concatenate(arrays: Sequence[NDArray], axis: int = 0) -> NDArray:
    """Arrays joined along an existing axis; the other axes must agree."""
    if not arrays:
        raise ValueError("[concatenate] needs at least one array, got none")
    first = arrays[0]
    along = normalize_axis(axis, first.ndim, "concatenate")
    rest = first._shape[:along] + first._shape[along + 1 :]
    dtype = first._dtype
    for x in arrays:
        if x.ndim != first.ndim or x._shape[:along] + x._shape[along + 1 :] != rest:
            shapes = [a._shape for a in arrays]
            raise ValueError(f"[concatenate] shapes {shapes} differ outside axis {axis}")
        dtype = promote(dtype, x._dtype)
    lengths = [x._shape[along] for x in arrays]
    shape = (*first._shape[:along], builtins.sum(lengths), *first._shape[along + 1 :])
    out = NDArray._empty(shape, first._device, dtype)
    start, lead = 0, (slice(None),) * along
    for x, n in zip(arrays, lengths, strict=True):
        out._put((*lead, slice(start, start + n)), x)
        start += n
    return out


def stack(arrays: Sequence[NDArray], axis: int = 0) -> NDArray:
    """Arrays of one shape joined along a new axis."""
    if not arrays:
        raise ValueError("[stack] needs at least one array, got none")
    if any(x._shape != arrays[0]._shape for x in arrays):
        raise ValueError(f"[stack] shapes {[x._shape for x in arrays]} must be equal")
    at = normalize_axis(axis, arrays[0].ndim + 1, "stack")
    return concatenate([x.unsqueeze(at) for x in arrays], at)


def broadcast_to(a: NDArray, new_shape: Sequence[int]) -> NDArray:
    """`a.broadcast_to(new_shape)`."""
    return a.broadcast_to(tuple(new_shape))


def reshape(a: NDArray, new_shape: Sequence[int]) -> NDArray:
    """`a.reshape(new_shape)`."""
    return a.reshape(tuple(new_shape))


def maximum(a: NDArray, b: object) -> NDArray:
    """`a.maximum(b)`."""
    return a.maximum(b)


def log(a: NDArray) -> NDArray:
    """`a.log()`."""
    return a.log()


def exp(a: NDArray) -> NDArray:
    """`a.exp()`."""
    return a.exp()


def tanh(a: NDArray) -> NDArray:
    """`a.tanh()`."""
    return a.tanh()


def sum(a: NDArray, axis: Axis = None, keepdims: bool = False) -> NDArray:
    """`a.sum(axis, keepdims)`."""
    return a.sum(axis, keepdims)


def flip(a: NDArray, axes: Axis = None) -> NDArray:
    """`a.flip(axes)`."""
    return a.flip(axes)
