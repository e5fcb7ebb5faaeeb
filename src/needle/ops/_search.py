"""Where elements are, which there are, and how often.

Shapes that depend on values are read from the device, which a compiled function cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor, Untraceable
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import compact_strides, whole
from ..typing import HostArray, Scalar
from ._arithmetic import floor_divide, remainder
from ._common import as_tensor
from ._comparison import (
    equal,
    greater_equal,
    less,
    less_equal,
    logical_and,
    not_equal,
    where,
)
from ._indexing import PutItem, gather, index_data
from ._joining import concatenate, stack
from ._reduction import summation
from ._shape import reshape, unsqueeze
from ._sorting import argsort


def nonzero(a: Tensor, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
    """The indices of the elements that are not 0, a row each; by axis with `as_tuple`. int64.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    as_tuple : bool, default False
        Whether there is a vector for each axis.

    Returns
    -------
    Tensor or tuple of Tensor
        int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nonzero(ndl.Tensor([0, 5])).tolist()
    [[1]]
    """
    host = read(
        a, "nonzero", "use ndl.nonzero_static(x, size=n), or ndl.where in place of a selection"
    )
    found = np.nonzero(host if a.ndim else np.atleast_1d(host))
    if as_tuple:
        return tuple(_constant(i, a) for i in found)
    rows = np.stack(found, 1) if a.ndim else np.zeros((len(found[0]), 0), np.int64)
    return _constant(rows, a)


def read(a: Tensor, what: str, instead: str = "") -> HostArray:
    """The numbers of a Tensor on which the shape of a result depends.

    Raises Untraceable, which says what to do instead, where a compiled function has none.
    """
    try:
        return a.numpy()
    except Untraceable as error:
        raise by_values(error, what, instead) from None


def by_values(error: Untraceable, what: str, instead: str) -> Untraceable:
    """The error that a shape depends on values, at the line that `error` names."""
    return error.saying(
        f"[{what}] the shape of the result depends on values, which a compiled function does not "
        f"know: call it outside of ndl.jit and pass its result in{instead and ', or ' + instead}."
    )


def nonzero_static(a: Tensor, size: int, fill_value: int = -1) -> Tensor:
    """The indices of the first `size` elements that are not 0, a row each; int64.

    The shape does not depend on the values, so that compiled functions may contain it.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    size : int
        The number of rows.
    fill_value : int, default -1
        What stands in the rows beyond the number of such elements.

    Returns
    -------
    Tensor
        (size, axes), int64.

    Raises
    ------
    ValueError
        If `size` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nonzero_static(ndl.Tensor([0, 5, 0, 7]), size=3).tolist()
    [[1], [3], [-1]]
    """
    size = whole(size, "nonzero_static", "size")
    if size < 0:
        raise ValueError(f"[nonzero_static] size must not be negative, got {size}")
    is_found = not_equal(reshape(a, (-1,)), 0)
    count = min(size, is_found.shape[0])
    # The sort is stable: the elements that are not 0 come first, in their order.
    places = argsort(equal(is_found, False).astype("int32"))[:count]
    columns = [
        remainder(floor_divide(places, stride), n)
        for n, stride in zip(a.shape, compact_strides(a.shape), strict=True)
    ]
    rows = stack(columns, 1) if columns else reshape(places, (count, 0))
    numbers = _constant(np.arange(count), a)
    is_row = reshape(less(numbers, summation(is_found)), (count, 1))
    rows = where(is_row, rows, fill_value)
    if count == size:
        return rows
    rest = np.full((size - count, a.ndim), fill_value)
    return concatenate([rows, _constant(rest, a)], 0)


def argwhere(a: Tensor) -> Tensor:
    """The indices of the elements that are not 0, a row each; int64.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        (n, axes), int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.argwhere(ndl.Tensor([0, 5])).tolist()
    [[1]]
    """
    found = nonzero(a)
    assert isinstance(found, Tensor)
    return found


def _constant(host: HostArray, like: Tensor) -> Tensor:
    return Tensor(host, device=like.device, requires_grad=False)


def unique(
    a: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """The different elements in increasing order, or the different slices along an axis.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    sorted : bool, default True
        Accepted as in PyTorch; the result is always sorted.
    return_inverse : bool, default False
        Whether to return where each element is in the result, too.
    return_counts : bool, default False
        Whether to return how often each occurs, too.
    axis : int, optional
        None takes the elements. `dim` is another name.

    Returns
    -------
    Tensor, or a tuple of Tensors

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.unique(ndl.Tensor([3, 1, 3]))
    needle.Tensor([1. 3.])
    """
    host = read(a, "unique")
    found = np.unique(host, return_inverse=True, return_counts=True, axis=axis)
    values = Tensor(found[0], device=a.device, dtype=a.dtype, requires_grad=False)
    inverse = found[1].reshape(a.shape if axis is None else -1)
    extra = [
        _constant(x, a)
        for x, wanted in ((inverse, return_inverse), (found[2], return_counts))
        if wanted
    ]
    return (values, *extra) if extra else values


def unique_consecutive(
    a: Tensor, return_inverse: bool = False, return_counts: bool = False, axis: int | None = None
) -> Tensor | tuple[Tensor, ...]:
    """`a` without the elements, or slices along an axis, that equal the one before them.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    return_inverse : bool, default False
        Whether to return where each element is in the result.
    return_counts : bool, default False
        Whether to return how often each occurs.
    axis : int, optional
        None takes the elements. `dim` is another name.

    Returns
    -------
    Tensor or tuple of Tensor
        The values, and what else is asked for.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.unique_consecutive(ndl.Tensor([1, 1, 2, 1]))
    needle.Tensor([1. 2. 1.])
    """
    numbers = read(a, "unique_consecutive")
    host = numbers.reshape(-1) if axis is None else np.moveaxis(numbers, axis, 0)
    differs = np.ones(len(host), bool)
    if len(host):
        differs[1:] = (host[1:] != host[:-1]).any(axis=tuple(range(1, host.ndim)))
    starts = np.flatnonzero(differs)
    kept = host[starts] if axis is None else np.moveaxis(host[starts], 0, axis)
    values = Tensor(kept, device=a.device, dtype=a.dtype, requires_grad=False)
    inverse = np.cumsum(differs) - 1
    counts = np.diff(np.append(starts, len(host)))
    extra = []
    if return_inverse:
        extra.append(_constant(inverse.reshape(a.shape if axis is None else -1), a))
    if return_counts:
        extra.append(_constant(counts, a))
    return (values, *extra) if extra else values


def bincount(a: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number 0, 1, 2, … occurs in a vector of integers, or the sums of weights.

    Parameters
    ----------
    a : Tensor, shape (n,), integers
        Not negative.
    weights : Tensor, shape (n,), optional
        What is added instead of 1.
    minlength : int, default 0
        The least length of the result.

    Returns
    -------
    Tensor
        (max(minlength, largest + 1),): int64, or the dtype of the weights, float64 for integers.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bincount(ndl.tensor([0, 2, 2]))
    needle.Tensor([1 0 2])
    """
    if a.dtype.kind not in "iu" or a.ndim != 1:
        raise TypeError(f"[bincount] needs a vector of integers, got {a.dtype} of shape {a.shape}")
    try:
        host = a.numpy()
    except Untraceable as error:
        if not minlength:
            raise by_values(error, "bincount", "give minlength") from None
        return _counted(a, weights, whole(minlength, "bincount", "minlength"))
    if host.size and host.min() < 0:
        raise ValueError("[bincount] the integers must not be negative")
    n = max(whole(minlength, "bincount", "minlength"), int(host.max()) + 1 if host.size else 0)
    if weights is None:
        return _constant(np.bincount(host, minlength=n).astype(np.int64), a)
    added = weights if is_float(weights.dtype) else weights.astype("float64")
    return PutItem((n,), (index_data(a),))(added)


def _counted(a: Tensor, weights: Tensor | None, n: int) -> Tensor:
    """`bincount` of length `n`; a number beyond is an IndexError, when it is known."""
    if weights is None:
        weights = Tensor.make_const(a.device.ones(a.shape, "int64"))
    elif not is_float(weights.dtype):
        weights = weights.astype("float64")
    return PutItem((n,), (index_data(where(less(a, 0), n, a)),))(weights)


def isin(a: Tensor, values: Tensor | Sequence[Scalar], invert: bool = False) -> Tensor:
    """Whether each element is among `values`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    values : Tensor or sequence of numbers
        What is looked for.
    invert : bool, default False
        Whether each element is not among them.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isin(ndl.Tensor([1, 2]), [2, 3])
    needle.Tensor([False  True])
    """
    among = (
        values
        if isinstance(values, Tensor)
        else Tensor(np.asarray(values), device=a.device, requires_grad=False)
    )
    hits = summation(equal(unsqueeze(a, -1), reshape(among, (-1,))), -1)
    return equal(hits, 0) if invert else not_equal(hits, 0)


def searchsorted(
    sorted_sequence: Tensor,
    values: Tensor | Scalar,
    right: bool = False,
    side: str | None = None,
    *,
    out_int32: bool = False,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would be inserted to keep a sequence sorted.

    The sequence is a vector, or has the leading axes of `values`. With `right`, or side="right",
    after equal elements instead of before them.

    Parameters
    ----------
    sorted_sequence : Tensor
        Increasing along its last axis.
    values : Tensor or number
        What is inserted.
    right : bool, default False
        Whether after equal elements instead of before them.
    side : {"left", "right"}, optional
        `right` in words.
    out_int32 : bool, default False
        Whether the result is int32 instead of int64.
    sorter : Tensor of integers, optional
        Indices that sort the sequence, which need not be sorted then.

    Returns
    -------
    Tensor
        The shape of `values`; int64.

    Raises
    ------
    ValueError
        For another `side`, or one that contradicts `right`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.searchsorted(ndl.Tensor([1, 3]), ndl.Tensor([2]))
    needle.Tensor([1])
    """
    if side not in (None, "left", "right") or (right and side == "left"):
        raise ValueError(
            "[searchsorted] side must be 'left' or 'right' and agree with right, got "
            f"side={side!r} and right={right}"
        )
    x = values if isinstance(values, Tensor) else as_tensor(values, sorted_sequence)
    if sorter is not None:
        sorted_sequence = gather(sorted_sequence, -1, sorter)
    after = less_equal if right or side == "right" else less
    rows = sorted_sequence if sorted_sequence.ndim == 1 else unsqueeze(sorted_sequence, -2)
    found = summation(after(rows, unsqueeze(x, -1)), -1)
    return found.astype("int32") if out_int32 else found


def bucketize(
    a: Tensor | Scalar, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the bucket between sorted boundaries in which each element is.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    boundaries : Tensor
        An increasing vector.
    out_int32 : bool, default False
        Whether the result is int32 instead of int64.
    right : bool, default False
        Whether after equal elements instead of before them.

    Returns
    -------
    Tensor
        The shape of `a`; int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bucketize(ndl.Tensor([2]), ndl.Tensor([1, 3]))
    needle.Tensor([1])
    """
    return searchsorted(boundaries, a, right, out_int32=out_int32)


def histc(a: Tensor, bins: int = 100, min: float = 0.0, max: float = 0.0) -> Tensor:
    """How many elements are in each of `bins` equal intervals of [min, max], in the dtype of `a`.

    With min = max the range is that of the data.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    bins : int, default 100
        How many intervals.
    min : float, default 0
        Where the first begins.
    max : float, default 0
        Where the last ends.

    Returns
    -------
    Tensor
        (bins,), the dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.histc(ndl.Tensor([1, 2, 2]), 2)
    needle.Tensor([1. 2.])
    """
    try:
        host = a.numpy()
    except Untraceable as error:
        if min == max:
            raise by_values(error, "histc", "give min and max") from None
        return _histogram(reshape(a, (-1,)), bins, min, max)
    if min == max:
        min, max = (float(host.min()), float(host.max())) if host.size else (0.0, 1.0)
    if min == max:
        min, max = min - 1, max + 1
    counts, _ = np.histogram(host, bins, (min, max))
    return Tensor(counts, device=a.device, dtype=a.dtype, requires_grad=False)


def _histogram(a: Tensor, bins: int, low: float, high: float) -> Tensor:
    edges = Tensor(np.linspace(low, high, bins + 1), device=a.device, dtype=a.dtype)
    bucket = searchsorted(edges.detach(), a, right=True) - 1
    bucket = where(equal(a, high), bins - 1, bucket)
    is_inside = logical_and(greater_equal(a, low), less_equal(a, high))
    bucket = where(is_inside, bucket, 0)
    return PutItem((bins,), (index_data(bucket),))(is_inside.astype(a.dtype))


__all__ = [
    "argwhere",
    "bincount",
    "bucketize",
    "histc",
    "isin",
    "nonzero",
    "nonzero_static",
    "searchsorted",
    "unique",
    "unique_consecutive",
]
