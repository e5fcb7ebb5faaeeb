"""Order: the places of extremes, and sorting. Gradients flow to the places of the values."""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis, whole
from ._indexing import gather
from ._named import ValuesIndices


def argmax(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int, optional
        The axis; None takes the elements in row-major order. `dim` is another name.
    keepdims : bool, default False
        Whether the axis stays, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        Of dtype int64. No gradient flows.

    Raises
    ------
    ValueError
        If there are no elements along the axis or `a` does not have it.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.argmax(ndl.Tensor([[1, 5], [7, 3]]), axis=1).tolist()
    [1, 0]
    """
    return Tensor.make_const(a.realize_cached_data().argmax(axis, keepdims))


def argmin(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int, optional
        The axis; None takes the elements in row-major order. `dim` is another name.
    keepdims : bool, default False
        Whether the axis stays, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        Of dtype int64. No gradient flows.

    Raises
    ------
    ValueError
        If there are no elements along the axis or `a` does not have it.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.argmin(ndl.Tensor([[1, 5], [7, 3]]), axis=1).tolist()
    [0, 1]
    """
    return Tensor.make_const(a.realize_cached_data().argmin(axis, keepdims))


def argsort(a: Tensor, axis: int = -1, descending: bool = False, *, stable: bool = True) -> Tensor:
    """Indices that sort along an axis; the sort is stable, and a NaN is the largest.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    descending : bool, default False
        Whether the largest element is first.
    stable : bool, default True
        Of no effect: equal elements always keep their order.

    Returns
    -------
    Tensor
        Of dtype int64 and the shape of `a`. No gradient flows.

    Raises
    ------
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.argsort(ndl.Tensor([3, 1, 2])).tolist()
    [1, 2, 0]
    """
    return Tensor.make_const(a.realize_cached_data().argsort(axis, descending))


def sort(
    a: Tensor, axis: int = -1, descending: bool = False, *, stable: bool = True
) -> ValuesIndices:
    """Sorted elements along an axis, and their indices.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    descending : bool, default False
        Whether the largest element is first.
    stable : bool, default True
        Of no effect: equal elements always keep their order.

    Returns
    -------
    (values, indices)
        The values, and the int64 indices that `argsort` gives. Gradients flow to the places that
        the values come from.

    Raises
    ------
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> values, indices = ndl.sort(ndl.Tensor([3, 1, 2]))
    >>> values, indices.tolist()
    (needle.Tensor([1. 2. 3.]), [1, 2, 0])
    """
    order = argsort(a, axis, descending)
    return ValuesIndices(gather(a, axis, order), order)


def topk(
    a: Tensor, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """The k largest elements along an axis, best first, and their indices.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    k : int
        How many.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    largest : bool, default True
        Whether the largest are wanted; False gives the smallest.
    sorted : bool, default True
        Of no effect: the best is always first.

    Returns
    -------
    (values, indices)
        The values and their int64 indices.

    Raises
    ------
    ValueError
        Unless 0 ≤ k ≤ the length of the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> values, indices = ndl.topk(ndl.Tensor([3, 1, 2]), 2)
    >>> values, indices.tolist()
    (needle.Tensor([3. 2.]), [0, 2])
    """
    along, k = normalize_axis(axis, a.ndim, "topk"), whole(k, "topk", "k")
    if not 0 <= k <= a.shape[along]:
        raise ValueError(f"[topk] k must be in 0 … {a.shape[along]} for axis {axis}, got {k}")
    order = argsort(a, along, descending=largest)
    order = order[(slice(None),) * along + (slice(0, k),)]
    return ValuesIndices(gather(a, along, order), order)


__all__ = ["argmax", "argmin", "argsort", "sort", "topk"]
