"""Functions that arrange, join, cut and repeat, with NumPy's names and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..typing import Axis, DTypeLike, Scalar, Shape, ShapeLike
from ._calls import on_host


def shape(a: Tensor) -> Shape:
    return a.shape


def ndim(a: Tensor) -> int:
    return a.ndim


def size(a: Tensor, axis: int | None = None) -> int:
    return int(a.size) if axis is None else a.shape[axis]


def reshape(a: Tensor, shape: Any = None, order: str = "C", *, newshape: Any = None) -> Tensor:
    lengths = newshape if shape is None else shape
    if order == "C":
        return a.reshape(lengths)
    if order == "F":
        lengths = (lengths,) if isinstance(lengths, int) else tuple(lengths)
        return a.T.reshape(lengths[::-1]).T
    raise TypeError(f"[np.reshape] order must be 'C' or 'F' for a Tensor, got {order!r}")


def ravel(a: Tensor, order: str = "C") -> Tensor:
    return reshape(a, -1, order)


def transpose(a: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return a.T if axes is None else ops.permute(a, axes)


def matrix_transpose(x: Tensor, /) -> Tensor:
    return ops.swapaxes(x, -1, -2)


def moveaxis(a: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    return ops.movedim(a, source, destination)


def rollaxis(a: Tensor, axis: int, start: int = 0) -> Tensor:
    axis, start = axis % a.ndim, start + (a.ndim if start < 0 else 0)
    return ops.movedim(a, axis, start - (axis < start))


def swapaxes(a: Tensor, axis1: int, axis2: int) -> Tensor:
    return ops.swapaxes(a, axis1, axis2)


def expand_dims(a: Tensor, axis: int | Sequence[int]) -> Tensor:
    axes = (axis,) if isinstance(axis, int) else axis
    total = a.ndim + len(axes)
    for at in sorted(i % total for i in axes):
        a = ops.unsqueeze(a, at)
    return a


def squeeze(a: Tensor, axis: Axis = None) -> Tensor:
    for at in () if axis is None else (axis,) if isinstance(axis, int) else axis:
        if a.shape[at] != 1:
            raise ValueError(f"[np.squeeze] axis {at} of {a.shape} has a length other than 1")
    return ops.squeeze(a, axis)


def atleast_1d(*arys: Tensor) -> Tensor | tuple[Tensor, ...]:
    return _one_or_all(tuple(map(ops.atleast_1d, arys)))


def atleast_2d(*arys: Tensor) -> Tensor | tuple[Tensor, ...]:
    return _one_or_all(tuple(map(ops.atleast_2d, arys)))


def atleast_3d(*arys: Tensor) -> Tensor | tuple[Tensor, ...]:
    return _one_or_all(tuple(map(ops.atleast_3d, arys)))


def _one_or_all(tensors: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return tensors[0] if len(tensors) == 1 else tensors


def broadcast_to(array: Tensor, shape: ShapeLike) -> Tensor:
    return ops.broadcast_to(array, (shape,) if isinstance(shape, int) else shape)


def broadcast_arrays(*args: Any) -> Any:
    if not all(isinstance(x, Tensor) for x in args):  # texts and None among them, as in plt.bar
        return on_host("np.broadcast_arrays", np.broadcast_arrays, args, {})
    return ops.broadcast_tensors(*args)


def flip(m: Tensor, axis: Axis = None) -> Tensor:
    return ops.flip(m, axis)


def fliplr(m: Tensor) -> Tensor:
    return ops.fliplr(m)


def flipud(m: Tensor) -> Tensor:
    return ops.flipud(m)


def rot90(m: Tensor, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    return ops.rot90(m, k, axes)


def roll(a: Tensor, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    if isinstance(shift, int) and isinstance(axis, (list, tuple)):
        shift = (shift,) * len(axis)
    return ops.roll(a, shift, axis)


def copy(a: Tensor) -> Tensor:
    return ops.clone(a)


# ---- joining and cutting ------------------------------------------------------------------------


def concatenate(
    arrays: Sequence[Tensor], axis: int | None = 0, out: Any = None, *,
    dtype: DTypeLike | None = None,
) -> Tensor:  # fmt: skip
    parts = [x if dtype is None else x.astype(dtype) for x in arrays]
    return ops.concatenate([ops.ravel(x) for x in parts] if axis is None else parts, axis or 0)


def append(arr: Tensor, values: Tensor, axis: int | None = None) -> Tensor:
    return concatenate([arr, values], axis)


def stack(arrays: Sequence[Tensor], axis: int = 0, out: Any = None) -> Tensor:
    return ops.stack(arrays, axis)


def vstack(tup: Sequence[Tensor]) -> Tensor:
    return ops.vstack(tup)


def hstack(tup: Sequence[Tensor]) -> Tensor:
    return ops.hstack(tup)


def dstack(tup: Sequence[Tensor]) -> Tensor:
    return ops.dstack(tup)


def column_stack(tup: Sequence[Tensor]) -> Tensor:
    return ops.column_stack(tup)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    return ops.unbind(x, axis)


def array_split(
    ary: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0
) -> list[Tensor]:
    return list(ops.tensor_split(ary, indices_or_sections, axis))


def split(ary: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    parts = indices_or_sections
    if isinstance(parts, int) and ary.shape[axis] % parts:
        raise ValueError(f"[np.split] {ary.shape[axis]} slices make no {parts} equal parts")
    return array_split(ary, parts, axis)


def hsplit(ary: Tensor, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    return split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


def vsplit(ary: Tensor, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    return split(ary, indices_or_sections, 0)


def dsplit(ary: Tensor, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    return split(ary, indices_or_sections, 2)


def meshgrid(*xi: Tensor, indexing: str = "xy") -> tuple[Tensor, ...]:
    return ops.meshgrid(*xi, indexing=indexing)


# ---- repeating and padding ----------------------------------------------------------------------


def tile(A: Tensor, reps: int | Sequence[int]) -> Tensor:
    return ops.tile(A, (reps,) if isinstance(reps, int) else reps)


def repeat(a: Tensor, repeats: Any, axis: int | None = None) -> Tensor:
    return ops.repeat_interleave(a, repeats, axis)


def pad(
    array: Tensor, pad_width: Any, mode: str = "constant", *, constant_values: float = 0
) -> Tensor:
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    if mode == "constant":
        return ops.pad(array, [(int(i), int(j)) for i, j in widths], constant_values)
    for axis, (before, after) in enumerate(widths):
        places = np.pad(np.arange(array.shape[axis]), (before, after), mode)  # type: ignore[call-overload]
        array = ops.take(array, places, axis)
    return array


# ---- Tensors of one value ---------------------------------------------------------------------


def zeros_like(a: Tensor, dtype: DTypeLike | None = None, *, shape: ShapeLike | None = None) -> Any:
    return full_like(a, 0, dtype, shape=shape)


def ones_like(a: Tensor, dtype: DTypeLike | None = None, *, shape: ShapeLike | None = None) -> Any:
    return full_like(a, 1, dtype, shape=shape)


def full_like(
    a: Tensor, fill_value: Scalar, dtype: DTypeLike | None = None, *,
    shape: ShapeLike | None = None,
) -> Tensor:  # fmt: skip
    return a.new_full(a.shape if shape is None else shape, fill_value, dtype)


# ---- triangles and diagonals --------------------------------------------------------------------


def diag(v: Tensor, k: int = 0) -> Tensor:
    return ops.diag(v, k)


def diagonal(a: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return ops.diagonal(a, offset, axis1, axis2)


def trace(
    a: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: None = None, out: Any = None
) -> Tensor:
    return ops.summation(ops.diagonal(a, offset, axis1, axis2), -1)


def tril(m: Tensor, k: int = 0) -> Tensor:
    return ops.tril(m, k)


def triu(m: Tensor, k: int = 0) -> Tensor:
    return ops.triu(m, k)


# ---- products -----------------------------------------------------------------------------------


def dot(a: Tensor, b: Tensor, out: Any = None) -> Tensor:
    if not a.ndim or not b.ndim:
        return a * b
    if b.ndim == 1 or a.ndim <= 2 >= b.ndim:
        return ops.matmul(a, b)
    return ops.tensordot(a, b, ([a.ndim - 1], [b.ndim - 2]))


def vdot(a: Tensor, b: Tensor, /) -> Tensor:
    return ops.dot(ops.ravel(a), ops.ravel(b))


def inner(a: Tensor, b: Tensor, /) -> Tensor:
    return ops.inner(a, b)


def outer(a: Tensor, b: Tensor, out: Any = None) -> Tensor:
    return ops.outer(ops.ravel(a), ops.ravel(b))


def kron(a: Tensor, b: Tensor) -> Tensor:
    return ops.kron(a, b)


def tensordot(a: Tensor, b: Tensor, axes: Any = 2) -> Tensor:
    if not isinstance(axes, int):
        axes = [[x] if isinstance(x, int) else x for x in axes]
    return ops.tensordot(a, b, axes)


def cross(a: Tensor, b: Tensor, *, axis: int = -1) -> Tensor:
    return ops.cross(a, b, axis)


def einsum(*operands: Any, out: Any = None, optimize: Any = False) -> Tensor:
    return ops.einsum(*operands)


__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays",
    "broadcast_to", "column_stack", "concatenate", "copy", "cross", "diag", "diagonal", "dot",
    "dsplit", "dstack", "einsum", "expand_dims", "flip", "fliplr", "flipud", "full_like", "hsplit",
    "hstack", "inner", "kron", "matrix_transpose", "meshgrid", "moveaxis", "ndim", "ones_like",
    "outer", "pad", "ravel", "repeat", "reshape", "roll", "rollaxis", "rot90", "shape", "size",
    "split", "squeeze", "stack", "swapaxes", "tensordot", "tile", "trace", "transpose", "tril",
    "triu", "unstack", "vdot", "vsplit", "vstack", "zeros_like",
]  # fmt: skip
