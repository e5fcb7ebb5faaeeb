"""Ops that move elements without changing them: views, joins, padding and indexing.

Their gradients need shapes only, and each is the transpose of another op here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import SparseGradients, Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray, Shape, indexing
from ..backend_ndarray.layout import normalize_axis, resolve_shape, whole, wholes

# ---- views ----------------------------------------------------------------------------------


class BroadcastTo(TensorOp):
    """Axes of length 1 (and new leading ones) repeated to reach a shape."""

    saves_values = False

    def __init__(self, shape: Shape) -> None:
        self.shape = tuple(shape)

    def compute(self, a: NDArray) -> NDArray:
        return a.broadcast_to(self.shape)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        shape = node.inputs[0].shape
        lead = len(self.shape) - len(shape)
        repeated = tuple(i for i, n in enumerate(self.shape) if i < lead or shape[i - lead] != n)
        return reshape(out_grad.sum(repeated), shape)


class Reshape(TensorOp):
    """The elements in row-major order under another shape."""

    saves_values = False

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def compute(self, a: NDArray) -> NDArray:
        return a.reshape(self.shape)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return reshape(out_grad, node.inputs[0].shape)


class Permute(TensorOp):
    """The axes in another order."""

    saves_values = False

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.permute(self.axes)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Permute(tuple(int(i) for i in np.argsort(self.axes)))(out_grad)


class Transpose(TensorOp):
    """Two axes exchanged, the last two by default; its own inverse."""

    saves_values = False

    def __init__(self, axes: tuple[int, int] | None = None) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.swapaxes(*(self.axes or (-2, -1)))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Transpose(self.axes)(out_grad)


class Flip(TensorOp):
    """The order along axes reversed; its own inverse."""

    saves_values = False

    def __init__(self, axes: Any = None) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.flip(self.axes)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Flip(self.axes)(out_grad)


def broadcast_to(a: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat axes of length 1, and add leading axes, to reach a shape.

    Parameters
    ----------
    a : Tensor
        Any dtype.
    shape : sequence of int
        The shape of the result.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the shape of `a` does not broadcast to `shape`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.broadcast_to(ndl.Tensor([1, 2]), (3, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """
    shape = wholes(shape, "broadcast_to", "the shape")
    return a if shape == a.realize_cached_data().shape else BroadcastTo(shape)(a)


def reshape(a: Tensor, shape: Any) -> Tensor:
    """Give the elements, in row-major order, another shape.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    shape : int or sequence of int
        The shape of the result; one entry may be -1, which stands for the length that fits.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the shape does not fit the number of elements.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.reshape(ndl.ones(2, 3, 4), (6, -1)).shape
    (6, 4)
    """
    shape = resolve_shape(shape, a.size)
    return a if shape == a.realize_cached_data().shape else Reshape(shape)(a)


def transpose(a: Tensor, axes: tuple[int, int] | None = None) -> Tensor:
    """Exchange two axes, the last two by default.

    This is not NumPy's `transpose`, which reverses all axes; `permute` takes any order.

    Parameters
    ----------
    a : Tensor
        At least two axes, any dtype.
    axes : (int, int), optional
        The two axes. `dims` is another name of this argument.

    Returns
    -------
    Tensor
        The elements of `a`, with the two lengths exchanged in the shape.

    Raises
    ------
    ValueError
        If `axes` does not name two axes of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.ones(2, 3, 4)
    >>> ndl.transpose(x).shape, ndl.transpose(x, (0, 1)).shape
    ((2, 4, 3), (3, 2, 4))
    """
    if a.ndim < 2 and axes is None:
        raise ValueError(f"[transpose] needs at least 2 axes, got shape {a.shape}")
    if axes is not None and len(axes) != 2:
        raise ValueError(f"[transpose] axes must name two axes, got {axes}; permute takes all")
    return Transpose(axes)(a)


def permute(a: Tensor, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis `axes[i]` of `a`.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    axes : sequence of int
        Every axis of `a` once. `dims` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.permute(ndl.ones(2, 3, 4), (2, 0, 1)).shape
    (4, 2, 3)
    """
    ndim = a.ndim
    order = tuple(normalize_axis(i, ndim, "permute") for i in axes)
    return Permute(order)(a)


def flip(a: Tensor, axes: Any = None) -> Tensor:
    """`a` with the order along `axes` (all by default) reversed."""
    return Flip(axes)(a)


def squeeze(a: Tensor, axis: Any = None) -> Tensor:
    """`a` without the given axes of length 1 (all of them by default)."""
    return reshape(a, a.realize_cached_data().squeeze(axis).shape)


def unsqueeze(a: Tensor, axis: int) -> Tensor:
    """`a` with a new axis of length 1 at `axis`."""
    at = normalize_axis(axis, a.ndim + 1, "unsqueeze")
    return reshape(a, (*a.shape[:at], 1, *a.shape[at:]))


# ---- tuples ---------------------------------------------------------------------------------


class MakeTensorTuple(TensorTupleOp):
    """Tensors as one TensorTuple."""

    saves_values = False

    def compute(self, *args: NDArray) -> tuple[NDArray, ...]:
        return args

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Tensor, ...]:
        return tuple(out_grad[i] for i in range(len(out_grad)))


class TupleGetItem(TensorOp):
    """One member of a TensorTuple; the gradient of the others is 0."""

    saves_values = False

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, a: TensorTuple, fold_const: bool = True) -> Tensor:  # type: ignore[override]
        # Taking a member out of a tuple that was just made is the member itself.
        if fold_const and isinstance(a.op, MakeTensorTuple):
            return a.inputs[self.index]
        return Tensor.make_from_op(self, [a])

    def compute(self, a: tuple[NDArray, ...]) -> NDArray:
        return a[self.index]

    def gradient(self, out_grad: Tensor, node: Tensor) -> SparseGradients:
        return SparseGradients(node.inputs[0], {self.index: out_grad})


class Stack(TensorOp):
    """The members of a TensorTuple joined along a new axis."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, args: Sequence[NDArray]) -> NDArray:
        return nd.stack(args, self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> TensorTuple:
        return split(out_grad, self.axis)


class Split(TensorTupleOp):
    """The slices along an axis, with that axis removed."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        along = normalize_axis(self.axis, a.ndim, "split")
        lead = (slice(None),) * along
        return tuple(a[(*lead, i)] for i in range(a.shape[along]))

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        return stack(out_grad, normalize_axis(self.axis, node.inputs[0].ndim, "split"))


class Chunk(TensorTupleOp):
    """Equal parts along an axis."""

    saves_values = False

    def __init__(self, chunks: int, axis: int) -> None:
        self.chunks, self.axis = chunks, axis

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        step, lead = a.shape[self.axis] // self.chunks, (slice(None),) * self.axis
        return tuple(a[(*lead, slice(i * step, (i + 1) * step))] for i in range(self.chunks))

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        return concatenate(out_grad, self.axis)


class Concatenate(TensorOp):
    """The members of a TensorTuple joined along an existing axis."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, args: Sequence[NDArray]) -> NDArray:
        return nd.concatenate(args, self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> TensorTuple:
        parts = node.inputs[0].realize_cached_data()
        lead = (slice(None),) * normalize_axis(self.axis, out_grad.ndim, "concatenate")
        ends = np.cumsum([x.shape[self.axis] for x in parts]).tolist()
        starts = [0, *ends[:-1]]
        return make_tuple(
            *(out_grad[(*lead, slice(a, b))] for a, b in zip(starts, ends, strict=True))
        )


def make_tuple(*args: Tensor) -> TensorTuple:
    """Tensors as one TensorTuple."""
    return MakeTensorTuple()(*args)


def tuple_get_item(value: TensorTuple, index: int) -> Tensor:
    """Member `index` of a TensorTuple; negative counts from the end."""
    n, index = len(value), whole(index, "tuple_get_item", "index")
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of range for a tuple of {n} tensors")
    return TupleGetItem(index % n)(value)


def stack(args: Sequence[Tensor] | TensorTuple, axis: int = 0) -> Tensor:
    """Join tensors of equal shape along a new axis.

    Parameters
    ----------
    args : sequence of Tensor or TensorTuple
        At least one tensor.
    axis : int, default 0
        The position of the new axis. `dim` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `args` is not a non-empty sequence of Tensors.
    ValueError
        If the shapes differ or the axis is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> a, b = ndl.Tensor([1, 2]), ndl.Tensor([3, 4])
    >>> ndl.stack([a, b], axis=1).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    return Stack(axis)(_as_tuple(args, "stack"))


def split(a: Tensor, axis: int) -> TensorTuple:
    """The slices of `a` along `axis`, which they lack."""
    return Split(axis)(a)


def concatenate(args: Sequence[Tensor] | TensorTuple, axis: int = 0) -> Tensor:
    """Join tensors along an existing axis.

    `cat` and `concat` are aliases.

    Parameters
    ----------
    args : sequence of Tensor or TensorTuple
        At least one tensor; the shapes agree outside `axis`.
    axis : int, default 0
        The axis along which the tensors are joined. `dim` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `args` is not a non-empty sequence of Tensors.
    ValueError
        If the shapes differ outside the axis or the axis is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.concatenate([ndl.Tensor([1, 2]), ndl.Tensor([3])])
    needle.Tensor([1. 2. 3.])
    """
    return Concatenate(axis)(_as_tuple(args, "concatenate"))


concat = cat = concatenate


def chunk(a: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """`a` cut into `chunks` equal parts along `axis`."""
    along = normalize_axis(axis, a.ndim, "chunk")
    n, chunks = a.shape[along], whole(chunks, "chunk", "chunks")
    if chunks < 1 or n % chunks:
        raise ValueError(f"[chunk] axis {axis} of length {n} has no {chunks} equal parts")
    return Chunk(chunks, along)(a).tuple()


def _as_tuple(args: Sequence[Tensor] | TensorTuple, what: str) -> TensorTuple:
    if isinstance(args, TensorTuple):
        return args
    if isinstance(args, Tensor) or not args or not all(isinstance(x, Tensor) for x in args):
        raise TypeError(f"[{what}] needs a non-empty list or tuple of Tensors")
    return make_tuple(*args)


# ---- padding and dilation -------------------------------------------------------------------


class Pad(TensorOp):
    """Surrounded with a value: `axes` gives (before, after) for every axis."""

    saves_values = False

    def __init__(self, axes: tuple[tuple[int, int], ...], value: float) -> None:
        self.axes, self.value = axes, value

    def compute(self, a: NDArray) -> NDArray:
        return a.pad(self.axes, self.value)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        shape = node.inputs[0].shape
        return out_grad[tuple(slice(b, b + n) for n, (b, _) in zip(shape, self.axes, strict=True))]


class Dilate(TensorOp):
    """`dilation` zeros inserted after every element along axes; axes out of range are ignored."""

    saves_values = False

    def __init__(self, axes: Sequence[int], dilation: int) -> None:
        self.axes, self.dilation = axes, dilation

    def compute(self, a: NDArray) -> NDArray:
        axes = _axes_in_range(self.axes, a.ndim)
        step = self.dilation + 1
        shape = tuple(n * step if i in axes else n for i, n in enumerate(a.shape))
        out = a.device.zeros(shape, a.dtype)
        out._put(
            tuple(slice(None, None, step) if i in axes else slice(None) for i in range(a.ndim)), a
        )
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return undilate(out_grad, self.axes, self.dilation)


class UnDilate(TensorOp):
    """The inverse of Dilate: every (dilation + 1)-th element along axes."""

    saves_values = False

    def __init__(self, axes: Sequence[int], dilation: int) -> None:
        self.axes, self.dilation = axes, dilation

    def compute(self, a: NDArray) -> NDArray:
        axes = _axes_in_range(self.axes, a.ndim)
        step = slice(None, None, self.dilation + 1)
        return a[tuple(step if i in axes else slice(None) for i in range(a.ndim))]

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return dilate(out_grad, self.axes, self.dilation)


def _axes_in_range(axes: Sequence[int], ndim: int) -> set[int]:
    return {axis % ndim for axis in axes if -ndim <= axis < ndim}


def pad(a: Tensor, axes: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """`a` surrounded with `value`; `axes` gives (before, after) for every axis."""
    return Pad(tuple(wholes(pair, "pad", "axes") for pair in axes), value)(a)  # type: ignore[misc]


def dilate(a: Tensor, axes: Sequence[int], dilation: int) -> Tensor:
    """`a` with `dilation` zeros after every element along `axes`: lengths n·(dilation + 1)."""
    return Dilate(*_dilation("dilate", axes, dilation))(a)


def undilate(a: Tensor, axes: Sequence[int], dilation: int) -> Tensor:
    """The inverse of `dilate`."""
    return UnDilate(*_dilation("undilate", axes, dilation))(a)


def _dilation(what: str, axes: Any, dilation: Any) -> tuple[Shape, int]:
    dilation = whole(dilation, what, "dilation")
    if dilation < 0:
        raise ValueError(f"[{what}] dilation must not be negative, got {dilation}")
    return wholes(axes, what, "axes"), dilation


def tile(a: Tensor, repeats: Sequence[int]) -> Tensor:
    """`a` repeated `repeats[i]` times along axis i."""
    repeats = wholes(repeats, "tile", "repeats")
    if any(r < 0 for r in repeats):
        raise ValueError(f"[tile] repeats must not be negative, got {repeats}")
    shape = (1,) * (len(repeats) - a.ndim) + a.shape
    repeats = (1,) * (len(shape) - len(repeats)) + repeats
    spread = reshape(
        a, tuple(n for pair in zip((1,) * len(shape), shape, strict=True) for n in pair)
    )
    wide = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    return reshape(
        broadcast_to(spread, wide), tuple(r * n for r, n in zip(repeats, shape, strict=True))
    )


# ---- indexing -------------------------------------------------------------------------------


class GetItem(TensorOp):
    """a[key] with NumPy's rules."""

    saves_values = False

    def __init__(self, key: Any) -> None:
        self.key = key

    def compute(self, a: NDArray) -> NDArray:
        return a[self.key]

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return PutItem(node.inputs[0].shape, self.key)(out_grad)


class PutItem(TensorOp):
    """Zeros of a shape with a tensor added at [key]: the transpose of GetItem."""

    saves_values = False

    def __init__(self, shape: Shape, key: Any) -> None:
        self.shape, self.key = shape, key

    def compute(self, a: NDArray) -> NDArray:
        out = a.device.zeros(self.shape, a.dtype)
        if not indexing.is_fancy(self.key):
            out._put(self.key, a)
        elif indexing.is_rows(self.key):
            indexing.scatter_add_rows(out, self.key, a)
        else:
            indexing.add_at(out, self.key, a)
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return GetItem(self.key)(out_grad)


def index_data(key: Any) -> Any:
    """`key` with every Tensor in it replaced by its array.

    Lists and NumPy arrays are copied: a gradient reads the key again, and who changes them says
    nothing.
    """
    if isinstance(key, tuple):
        return tuple(index_data(item) for item in key)
    if isinstance(key, list):
        return [index_data(item) for item in key]
    if isinstance(key, np.ndarray):
        return key.copy()
    return key.realize_cached_data() if isinstance(key, Tensor) else key


def getitem(a: Tensor, key: Any) -> Tensor:
    """a[key]: ints, slices, `...`, None, and integer or bool arrays or Tensors."""
    return GetItem(index_data(key))(a)


def _axis_key(shape: Shape, axis: int, index: Any) -> tuple[Any, ...]:
    """The key that picks index[i, j, …] along `axis` and keeps its other positions."""
    if getattr(axis, "ndim", 0):
        raise TypeError("[gather] takes (a, axis, index), as PyTorch does: axis must be an integer")
    along = normalize_axis(axis, len(shape), "gather")
    data = index_data(index)
    positions = data if isinstance(data, NDArray) else np.array(data)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"[gather] index must hold integers, got {positions.dtype}")
    rest = positions.shape[:along] + positions.shape[along + 1 :]
    if positions.ndim != len(shape) or rest != shape[:along] + shape[along + 1 :]:
        raise ValueError(
            f"[gather] index of shape {positions.shape} must equal {shape} outside axis {axis}"
        )
    return tuple(
        positions if i == along else np.arange(n).reshape((n, *[1] * (len(shape) - 1 - i)))
        for i, n in enumerate(positions.shape)
    )


def gather(a: Tensor, axis: int, index: Any) -> Tensor:
    """Pick elements along an axis by an array of indices.

    Position j along `axis` of the result is position index[…, j, …] of `a`: NumPy's
    `take_along_axis`.

    Parameters
    ----------
    a : Tensor
        Any dtype.
    axis : int
        The axis of the indices. `dim` is another name of this argument.
    index : Tensor or array of integers
        The shape of `a` except along `axis`; a negative index counts from the end.

    Returns
    -------
    Tensor, the shape of `index`

    Raises
    ------
    TypeError
        If the index does not hold integers, or index and axis have been exchanged.
    IndexError
        If an index is out of range.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2, 3], [4, 5, 6]])
    >>> ndl.gather(x, 1, [[2], [0]]).tolist()
    [[3.0], [4.0]]
    """
    return GetItem(_axis_key(a.shape, axis, index))(a)


def take(a: Tensor, index: Any, axis: int = 0) -> Tensor:
    """The slices of `a` at the integers `index` along `axis`, in the order of `index`."""
    along = normalize_axis(axis, a.ndim, "take")
    key = index_data(index)
    return getitem(a, key if along == 0 else ((slice(None),) * along + (key,)))


def scatter_add(a: Tensor, axis: int, index: Any, src: Tensor) -> Tensor:
    """`a` with src[…] added at the positions index[…] along `axis`, repeated ones every time."""
    rest = a.shape
    return a + PutItem(rest, _axis_key(rest, axis, index))(src)


def one_hot(index: Any, n: int, dtype: Any = "float32") -> Tensor:
    """Encode integers as rows of the n×n identity matrix. No gradient flows.

    Parameters
    ----------
    index : Tensor or array of integers
        The position of the 1 in each row.
    n : int
        The length of the rows.
    dtype : str or dtype, default "float32"
        The dtype of the result.

    Returns
    -------
    Tensor, shape (*index.shape, n)

    Raises
    ------
    TypeError
        If an index is not a whole number.
    ValueError
        If an index is outside 0 … n - 1.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.one_hot([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    data, n = index_data(index), whole(n, "one_hot", "n")
    if not isinstance(data, NDArray):
        return Tensor.make_const(nd.default_device().one_hot(n, data, dtype))
    if nd.is_traced(data):
        return Tensor.make_const(nd.traced_one_hot(data, n, dtype))
    return Tensor.make_const(data.device.one_hot(n, data, dtype))


__all__ = [
    "BroadcastTo", "Concatenate", "Dilate", "Flip", "GetItem", "MakeTensorTuple", "Pad", "Permute",
    "PutItem", "Reshape", "Split", "Stack", "Transpose", "TupleGetItem", "UnDilate",
    "broadcast_to", "cat", "chunk", "concat", "concatenate", "dilate", "flip", "gather", "getitem",
    "index_data", "make_tuple", "one_hot", "pad", "permute", "reshape", "scatter_add", "split",
    "squeeze", "stack", "take", "tile", "transpose", "tuple_get_item", "undilate", "unsqueeze",
]  # fmt: skip
