"""Elements picked by an index, and added at one.

The gradients need shapes only: `GetItem` and `PutItem` are each other's transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp, Untraceable
from ..backend_ndarray import NDArray, Shape, indexing
from ..backend_ndarray.layout import normalize_axis, whole
from ..operands import ArrayLike, Index
from ..typing import DTypeLike, HostArray
from ._shape import reshape


class GetItem(TensorOp):
    """a[key] with NumPy's rules."""

    saves_values = False

    def __init__(self, key: Index) -> None:
        self.key = key

    def compute(self, a: NDArray) -> NDArray:
        return a[self.key]

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return PutItem(node.inputs[0].shape, self.key)(out_grad)


class PutItem(TensorOp):
    """Zeros of a shape with a tensor added at [key]: the transpose of GetItem."""

    saves_values = False

    def __init__(self, shape: Shape, key: Index) -> None:
        self.shape, self.key = shape, key

    def compute(self, a: NDArray) -> NDArray:
        out = a.device.zeros(self.shape, a.dtype)
        if not indexing.is_fancy(self.key):
            out._put(self.key, a)
        elif isinstance(self.key, NDArray) and indexing.is_rows(self.key):
            indexing.scatter_add_rows(out, self.key, a)
        else:
            indexing.add_at(out, self.key, a)
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return GetItem(self.key)(out_grad)


def index_data(key: object) -> Any:
    """Index with every Tensor in it replaced by its array.

    Parameters
    ----------
    key : object
        What stands in brackets.

    Returns
    -------
    object
        The same key. Lists and NumPy arrays are copied, because a gradient reads them again.

    Examples
    --------
    >>> import needle as ndl
    >>> key = ndl.ops.index_data((0, ndl.Tensor([1], dtype='int64')))
    >>> type(key[1]).__name__
    'NDArray'
    """
    if isinstance(key, tuple):
        return tuple(index_data(item) for item in key)
    if isinstance(key, list):
        return [index_data(item) for item in key]
    if isinstance(key, np.ndarray):
        return key.copy()
    return key.realize_cached_data() if isinstance(key, Tensor) else key


def getitem(a: Tensor, key: Index) -> Tensor:
    """Elements that an index selects, with NumPy's rules: `a[key]`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    key : int, slice, None, ..., array or Tensor, or a tuple of them
        Arrays hold integers or bools.

    Returns
    -------
    Tensor
        A view for ints and slices, a copy for arrays.

    Raises
    ------
    IndexError
        If an index is out of range, or there are too many.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.getitem(ndl.Tensor([5, 6, 7]), slice(1, None))
    needle.Tensor([6. 7.])
    """
    data = index_data(key)
    try:
        return GetItem(data)(a)
    except Untraceable as error:
        if not indexing.has_mask(data):
            raise
        raise error.saying(
            "[getitem] the shape of x[mask] depends on values, which a compiled function does not "
            "know: write ndl.where(mask, x, 0) and the like, x = ndl.where(mask, x + y, x) for "
            "x[mask] += y, or take positions from ndl.nonzero_static(mask, size=n)."
        ) from None


def axis_key(
    shape: Shape, axis: int, index: ArrayLike, what: str = "gather"
) -> tuple[NDArray | HostArray, ...]:
    """The key that picks index[i, j, …] along `axis` and keeps its other positions."""
    if getattr(axis, "ndim", 0):
        raise TypeError(
            f"[{what}] takes (a, axis, index), as PyTorch does: axis must be an integer"
        )
    along = normalize_axis(axis, len(shape), what)
    data = index_data(index)
    positions = data if isinstance(data, NDArray) else np.array(data)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"[{what}] index must hold integers, got {positions.dtype}")
    if positions.ndim != len(shape) or any(
        n > m for i, (n, m) in enumerate(zip(positions.shape, shape, strict=True)) if i != along
    ):
        raise ValueError(
            f"[{what}] index of shape {positions.shape} does not fit into {shape} outside axis "
            f"{axis}"
        )
    return tuple(
        positions if i == along else np.arange(n).reshape((n, *[1] * (len(shape) - 1 - i)))
        for i, n in enumerate(positions.shape)
    )


def gather(a: Tensor, axis: int, index: ArrayLike) -> Tensor:
    """Pick elements along an axis by an array of indices.

    Position j along `axis` of the result is position index[…, j, …] of `a`: NumPy's
    `take_along_axis`.

    Parameters
    ----------
    a : Tensor
        Of any dtype.
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
    return GetItem(axis_key(a.shape, axis, index))(a)


def take(a: Tensor, index: ArrayLike | int, axis: int | None = None) -> Tensor:
    """Elements at given positions, or slices at positions along an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    index : int, Tensor or array of integers
        The positions; a negative one counts from the end.
    axis : int, optional
        The axis; None counts all elements, row by row, as NumPy and PyTorch do. `dim` is another
        name.

    Returns
    -------
    Tensor
        The axes of `index` stand in the place of `axis`, or of all axes.

    Raises
    ------
    IndexError
        If an index is out of range.
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.take(ndl.Tensor([5, 6, 7]), [2, 0, 2])
    needle.Tensor([7. 5. 7.])
    """
    if axis is None:
        a, axis = reshape(a, (-1,)), 0
    along = normalize_axis(axis, a.ndim, "take")
    key = index_data(index)
    return getitem(a, key if along == 0 else ((slice(None),) * along + (key,)))


def scatter_add(a: Tensor, axis: int, index: ArrayLike, src: Tensor) -> Tensor:
    """Add elements at given positions along an axis; the transpose of `gather`.

    Parameters
    ----------
    a : Tensor
        What is added to.
    axis : int
        The axis of the positions. `dim` is another name of this argument.
    index : Tensor or array of integers
        The positions; one that occurs twice is added to twice.
    src : Tensor, at least as long as `index` along every axis
        What is added.

    Returns
    -------
    Tensor, the shape of `a`

    Raises
    ------
    TypeError
        If `index` does not hold integers.
    ValueError
        If the shapes do not fit.
    IndexError
        If an index is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.scatter_add(ndl.zeros(3), 0, [0, 2, 2], ndl.Tensor([1, 2, 3]))
    needle.Tensor([1. 0. 5.])
    """
    key = axis_key(a.shape, axis, index, "scatter_add")
    return a + PutItem(a.shape, key)(covered(src, key, "scatter_add"))


def covered(src: Tensor, key: tuple[NDArray | HostArray, ...], what: str) -> Tensor:
    """The part of `src` that an index covers. Raises ValueError where the index is longer."""
    shape = np.broadcast_shapes(*(part.shape for part in key))
    if len(shape) != src.ndim or any(n > m for n, m in zip(shape, src.shape, strict=True)):
        raise ValueError(f"[{what}] index of shape {shape} does not fit into src {src.shape}")
    return src if shape == src.shape else getitem(src, tuple(slice(0, n) for n in shape))


def one_hot(index: ArrayLike | int, n: int, dtype: DTypeLike = "float32") -> Tensor:
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
    "GetItem",
    "PutItem",
    "gather",
    "getitem",
    "index_data",
    "one_hot",
    "scatter_add",
    "take",
]
