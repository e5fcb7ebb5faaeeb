"""The largest, smallest, middle and most frequent elements, with the indices where they are.

PyTorch's `dim` gives (values, indices) and NumPy's `axis` the values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import normalize_axis, whole
from ..typing import Axis
from ._classification import any, isnan
from ._comparison import equal, maximum, minimum, where
from ._cumulative import cummax
from ._indexing import gather
from ._joining import concatenate
from ._named import MinMax, ValuesIndices
from ._reduction import amax, amin
from ._shape import reshape, unsqueeze
from ._sorting import argmax, argmin, sort


@overload
def max(
    a: Tensor, dim: Tensor | Sequence[int] | None = None, keepdims: bool = False, *,
    axis: Axis = None,
) -> Tensor: ...  # fmt: skip
@overload
def max(a: Tensor, dim: int, keepdims: bool = False) -> ValuesIndices: ...
def max(
    a: Tensor, dim: Axis | Tensor = None, keepdims: bool = False, *, axis: Axis = None
) -> Tensor | ValuesIndices:
    """Largest element, along a dimension with its index; or the larger of two Tensors.

    NaN exceeds every number. The gradient of `max(a, dim)` goes to the elements at the indices;
    without indices equal elements share it evenly.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dim : int, tuple of int or Tensor, optional
        An int gives (values, indices) along that dimension, as in PyTorch. A tuple of axes, or
        None for all, gives the values alone. A Tensor is compared element by element: `maximum`.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    axis : int or tuple of int, optional
        As `dim`, by NumPy's name: it gives the values alone. `axes` is another name.

    Returns
    -------
    Tensor, or (values, indices) with an int as `dim`
        The maxima, in the dtype of `a`, and their int64 indices: the first of equal ones.

    Raises
    ------
    ValueError
        If there are no elements along the axes, `a` does not have an axis, or one is named twice.
    TypeError
        If both `dim` and `axis` are given.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 5], [7, 3]])
    >>> values, indices = ndl.max(x, 1)
    >>> values, indices.tolist()
    (needle.Tensor([5. 7.]), [1, 0])
    >>> x.max(dim=0).indices.tolist(), x.max(axis=0), x.max()
    ([1, 0], needle.Tensor([7. 5.]), needle.Tensor(7.0))
    """
    return _extreme("max", (amax, argmax, maximum), a, dim, keepdims, axis)


@overload
def min(
    a: Tensor, dim: Tensor | Sequence[int] | None = None, keepdims: bool = False, *,
    axis: Axis = None,
) -> Tensor: ...  # fmt: skip
@overload
def min(a: Tensor, dim: int, keepdims: bool = False) -> ValuesIndices: ...
def min(
    a: Tensor, dim: Axis | Tensor = None, keepdims: bool = False, *, axis: Axis = None
) -> Tensor | ValuesIndices:
    """Smallest element, along a dimension with its index; or the smaller of two Tensors.

    NaN is below every number. Gradients are those of `max`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dim : int, tuple of int or Tensor, optional
        An int gives (values, indices) along that dimension, as in PyTorch. A tuple of axes, or
        None for all, gives the values alone. A Tensor is compared element by element: `minimum`.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    axis : int or tuple of int, optional
        As `dim`, by NumPy's name: it gives the values alone. `axes` is another name.

    Returns
    -------
    Tensor, or (values, indices) with an int as `dim`
        The minima, in the dtype of `a`, and their int64 indices: the first of equal ones.

    Raises
    ------
    ValueError
        If there are no elements along the axes, `a` does not have an axis, or one is named twice.
    TypeError
        If both `dim` and `axis` are given.

    Examples
    --------
    >>> import needle as ndl
    >>> values, indices = ndl.min(ndl.Tensor([[1, 5], [7, 3]]), 1)
    >>> values, indices.tolist()
    (needle.Tensor([1. 3.]), [0, 1])
    """
    return _extreme("min", (amin, argmin, minimum), a, dim, keepdims, axis)


_Functions = tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]]


def _extreme(
    what: str, functions: _Functions, a: Tensor, dim: Axis | Tensor, keepdims: bool, axis: Axis
) -> Tensor | ValuesIndices:
    reduced, index_of, compared = functions
    _check_one(what, dim, axis)
    if isinstance(dim, Tensor):
        return compared(a, dim)
    if dim is None or isinstance(dim, (tuple, list)):
        return reduced(a, axis if dim is None else dim, keepdims)
    at = normalize_axis(dim, a.ndim, what)  # type: ignore[arg-type]
    return _taken(a, index_of(a, at, True), at, keepdims)


def _check_one(what: str, dim: object, axis: object) -> None:
    if dim is not None and axis is not None:
        raise TypeError(
            f"[{what}] dim gives (values, indices) and axis the values alone; give one of the two"
        )


def _taken(a: Tensor, index: Tensor, axis: int, keepdims: bool) -> ValuesIndices:
    """The elements at one index along an axis."""
    return ValuesIndices(
        without_axis(gather(a, axis, index), axis, keepdims), without_axis(index, axis, keepdims)
    )


def slice_at(axis: int, a: Tensor, index: int) -> Tensor:
    """One slice along an axis, which stays with length 1."""
    return a[(slice(None),) * axis + (slice(index, index + 1),)]


def without_axis(x: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """`x` without an axis of length 1, unless `keepdims`."""
    return x if keepdims else reshape(x, x.shape[:axis] + x.shape[axis + 1 :])


def aminmax(a: Tensor, axis: Axis = None, keepdims: bool = False) -> MinMax:
    """(smallest, largest) element over `axis`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    (min, max)
        The dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.aminmax(ndl.Tensor([[1, 2], [3, 4]])).max.item()
    4.0
    """
    return MinMax(amin(a, axis, keepdims), amax(a, axis, keepdims))


def kthvalue(a: Tensor, k: int, axis: int = -1, keepdims: bool = False) -> ValuesIndices:
    """(values, indices) of the k-th smallest elements along `axis`, counted from 1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    k : int
        1 for the smallest.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    (values, indices)
        The values, and their int64 indices.

    Raises
    ------
    ValueError
        Unless 1 ≤ k ≤ the length of the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> [t.item() for t in ndl.kthvalue(ndl.Tensor([5, 1, 3]), 2)]
    [3.0, 2]
    """
    at, k = normalize_axis(axis, a.ndim, "kthvalue"), whole(k, "kthvalue", "k")
    if not 1 <= k <= a.shape[at]:
        raise ValueError(f"[kthvalue] k must be in 1 … {a.shape[at]} for axis {axis}, got {k}")
    order = Tensor.make_const(a.realize_cached_data().argsort(at))
    return _taken(a, slice_at(at, order, k - 1), at, keepdims)


@overload
def median(
    a: Tensor, dim: None = None, keepdims: bool = False, *, axis: int | None = None
) -> Tensor: ...
@overload
def median(a: Tensor, dim: int, keepdims: bool = False) -> ValuesIndices: ...
def median(
    a: Tensor, dim: int | None = None, keepdims: bool = False, *, axis: int | None = None
) -> Tensor | ValuesIndices:
    """The median; of an even number of elements the lower of the middle two, as in PyTorch.

    Parameters
    ----------
    a : Tensor
        Any shape, not empty.
    dim : int, optional
        Gives (values, indices) along that dimension, as in PyTorch. None takes all elements.
    keepdims : bool, default False
        Whether the dimension stays, with length 1.
    axis : int, optional
        As `dim`, by NumPy's name: it gives the values alone.

    Returns
    -------
    Tensor, or (values, indices) with `dim`
        NaN where an element is NaN.

    Raises
    ------
    ValueError
        If there are no elements.
    TypeError
        If both `dim` and `axis` are given.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.median(ndl.Tensor([3, 1, 2, 9])).item()
    2.0
    >>> ndl.Tensor([[3, 1, 2]]).median(dim=1).indices.tolist()
    [2]
    """
    _check_one("median", dim, axis)
    if dim is not None:
        return _median(a, normalize_axis(dim, a.ndim, "median"), keepdims)
    if axis is not None:
        return _median(a, normalize_axis(axis, a.ndim, "median"), keepdims).values
    return _median(reshape(a, (-1,)), 0, False).values


def _median(a: Tensor, axis: int, keepdims: bool) -> ValuesIndices:
    n = a.shape[axis]
    if not n:
        raise ValueError(f"[median] there are no elements along axis {axis} of {a.shape}")
    order = a.detach().realize_cached_data().argsort(axis)
    middle = slice_at(axis, Tensor.make_const(order), (n - 1) // 2)
    if is_float(a.dtype):
        first_nan = unsqueeze(argmax(isnan(a), axis), axis)
        middle = where(any(isnan(a), axis, True), first_nan, middle)
    return _taken(a, middle, axis, keepdims)


def mode(a: Tensor, axis: int = -1, keepdims: bool = False) -> ValuesIndices:
    """(values, indices) of the most frequent elements along `axis`: the smallest of equal ones.

    Parameters
    ----------
    a : Tensor
        Any shape, not empty.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    keepdims : bool, default False
        Whether the axis stays, with length 1. `keepdim` is another name.

    Returns
    -------
    (values, indices)
        The values, and the int64 indices of their last occurrences.

    Raises
    ------
    ValueError
        If there are no elements along the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> [t.item() for t in ndl.mode(ndl.Tensor([3, 1, 3, 2]))]
    [3.0, 2]
    """
    at = normalize_axis(axis, a.ndim, "mode")
    n = a.shape[at]
    if not n:
        raise ValueError(f"[mode] there are no elements along axis {axis} of {a.shape}")
    values, order = sort(a.detach(), at)
    lead = (slice(None),) * at
    begins = equal(values[(*lead, slice(1, None))], values[(*lead, slice(0, n - 1))]) == 0
    begins = concatenate([equal(slice_at(at, order, 0), -1), begins], at)
    here = Tensor(
        np.arange(n).reshape((-1,) + (1,) * (a.ndim - 1 - at)), device=a.device, requires_grad=False
    )
    lengths = here - cummax(where(begins, here, 0), at).values  # of runs of equal elements
    return _taken(a, gather(order, at, argmax(lengths, at, True)), at, keepdims)


__all__ = ["aminmax", "kthvalue", "max", "median", "min", "mode"]
