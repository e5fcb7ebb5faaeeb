"""Running products, extremes and sums of exponentials along an axis.

All are prefix scans of an associative function: in step k every element takes in the one 2^k before
it, so that log2 n steps suffice (Hillis & Steele 1986, "Data parallel algorithms"). The steps are
ordinary ops, so gradients and compiled code follow from them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..autograd import Tensor, TensorOp, no_grad
from ..backend_ndarray import NDArray
from ..backend_ndarray.layout import normalize_axis
from ..typing import DTypeLike
from ._common import rounds_once
from ._comparison import equal, less_equal, logical_or, maximum, minimum, not_equal, where
from ._exponential import logaddexp
from ._indexing import PutItem, gather, getitem, index_data
from ._joining import concatenate
from ._named import ValuesIndices
from ._reduction import summation
from ._shape import unsqueeze
from ._sorting import argsort


def _prefix_scan(a: Tensor, axis: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    n, lead, step = a.shape[axis], (slice(None),) * axis, 1
    while step < n:
        joined = join(a[(*lead, slice(0, n - step))], a[(*lead, slice(step, n))])
        a = concatenate([a[(*lead, slice(0, step))], joined], axis)
        step *= 2
    return a


def cumprod(a: Tensor, axis: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """Running products along `axis`; int64 for integers.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cumprod(ndl.Tensor([1, 2, 3]), 0)
    needle.Tensor([1. 2. 6.])
    """
    at = normalize_axis(axis, a.ndim, "cumprod")
    if dtype is not None or a.dtype.kind in "iub":
        a = a.astype("int64" if dtype is None else dtype)
    return _prefix_scan(a, at, lambda before, here: before * here)


@rounds_once
def logcumsumexp(a: Tensor, axis: int) -> Tensor:
    """The logarithm of running sums of exponentials along `axis`, safe for large elements.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logcumsumexp(ndl.zeros(1), 0)
    needle.Tensor([0.])
    """
    return _prefix_scan(a, normalize_axis(axis, a.ndim, "logcumsumexp"), logaddexp)


def cummax(a: Tensor, axis: int) -> ValuesIndices:
    """(values, indices) of the running maximum along `axis`; the last of equal ones counts.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.

    Returns
    -------
    (values, indices)
        Both of the shape of `a`; the indices int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cummax(ndl.Tensor([1, 3, 2]), 0)[0]
    needle.Tensor([1. 3. 3.])
    """
    return _running_extreme(a, axis, maximum, "cummax")


def cummin(a: Tensor, axis: int) -> ValuesIndices:
    """(values, indices) of the running minimum along `axis`; the last of equal ones counts.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.

    Returns
    -------
    (values, indices)
        Both of the shape of `a`; the indices int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cummin(ndl.Tensor([3, 1, 2]), 0)[0]
    needle.Tensor([3. 1. 1.])
    """
    return _running_extreme(a, axis, minimum, "cummin")


def _running_extreme(
    a: Tensor, axis: int, better: Callable[[Tensor, Tensor], Tensor], what: str
) -> ValuesIndices:
    at = normalize_axis(axis, a.ndim, what)
    with no_grad():
        x = a.detach()
        best = _prefix_scan(x, at, better)
        positions = np.arange(a.shape[at]).reshape((-1,) + (1,) * (a.ndim - 1 - at))
        is_best = logical_or(equal(x, best), not_equal(x, x))
        found = where(is_best, Tensor(positions, device=a.device, requires_grad=False), 0)
        indices = _prefix_scan(found, at, maximum)
    return ValuesIndices(gather(a, at, indices), indices)


# ---- reductions of segments ---------------------------------------------------------------------


class _SegmentExtreme(TensorOp):
    """The largest or smallest of the values of each place; equal ones share the gradient."""

    def __init__(
        self, place: NDArray, size: int, better: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.place, self.size, self.better = place, size, better

    def compute(self, a: NDArray) -> NDArray:
        with no_grad():
            values = Tensor.make_const(a)
            place = Tensor.make_const(self.place)
            data: NDArray = _segmented(values, place, self.size, self.better).realize_cached_data()
            return data

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        with no_grad():
            best = getitem(node.detach(), self.place)
            hit = logical_or(equal(x, best), not_equal(x, x)).astype(x.dtype)
            count = PutItem((self.size,), self.place)(hit)
            share = hit / getitem(count, self.place)
        return getitem(out_grad, self.place) * share


def segmented_reduce(values: Tensor, place: Tensor, size: int, reduce: str) -> Tensor:
    """The product, or the extreme, of the values of each place 0 … size - 1.

    `values` and `place` are vectors; reduce is "prod", "amax" or "amin". A place without values has
    no meaningful result.
    """
    if reduce == "prod":
        return _segmented(values, place, size, lambda before, here: before * here)
    better = maximum if reduce == "amax" else minimum
    return _SegmentExtreme(place.realize_cached_data(), size, better)(values)


def _segmented(
    values: Tensor, place: Tensor, size: int, join: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """A prefix scan of the values in the order of their places that stops where the place changes.

    The last value of a place then joins all of it.
    """
    order = argsort(place)
    values, place = getitem(values, index_data(order)), getitem(place, index_data(order))
    n, step = values.shape[0], 1
    if not n:
        return Tensor.make_const(values.device.zeros((size,), values.dtype))
    while step < n:
        same = equal(place[: n - step], place[step:])
        joined = where(same, join(values[: n - step], values[step:]), values[step:])
        values = concatenate([values[:step], joined], 0)
        step *= 2
    places = Tensor(np.arange(size), device=place.device, requires_grad=False)
    last = summation(less_equal(place, unsqueeze(places, 1)), 1) - 1
    return getitem(values, index_data(maximum(last, 0)))


__all__ = ["cummax", "cummin", "cumprod", "logcumsumexp", "segmented_reduce"]
