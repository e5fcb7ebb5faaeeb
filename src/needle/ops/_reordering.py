"""Axes and elements in another order, and repeated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor, Untraceable
from ..backend_ndarray.layout import normalize_axes, normalize_axis, unpack, whole, wholes
from ..typing import Axis, ShapeLike
from ._indexing import getitem
from ._joining import concatenate
from ._reduction import cumsum
from ._search import by_values, searchsorted
from ._shape import broadcast_to, flip, permute, reshape, tile, unsqueeze
from ._views import clone, flatten, ravel


def movedim(a: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Move axes to other positions; the others keep their order.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    source : int or sequence of int
        The axes to move.
    destination : int or sequence of int
        Where each goes.

    Returns
    -------
    Tensor
        The axes in another order.

    Raises
    ------
    ValueError
        Where the two numbers of axes differ, or one is out of range or repeated.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.movedim(ndl.ones(2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    moved = normalize_axes(source, a.ndim, "movedim")
    to = normalize_axes(destination, a.ndim, "movedim")
    if len(moved) != len(to):
        raise ValueError(f"[movedim] {source} and {destination} name different numbers of axes")
    first = [source] if isinstance(source, int) else list(source)
    last = [destination] if isinstance(destination, int) else list(destination)
    target = {j % a.ndim: i % a.ndim for i, j in zip(first, last, strict=True)}
    rest = iter(i for i in range(a.ndim) if i not in moved)
    return permute(a, [target[j] if j in target else next(rest) for j in range(a.ndim)])


def swapaxes(a: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two axes exchanged.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis0 : int
        One axis. `dim0` is another name.
    axis1 : int
        The other. `dim1` is another name.

    Returns
    -------
    Tensor
        The two lengths exchanged.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.swapaxes(ndl.ones(2, 3, 4), 0, 2).shape
    (4, 3, 2)
    """
    i, j = (normalize_axis(axis, a.ndim, "swapaxes") for axis in (axis0, axis1))
    order = list(range(a.ndim))
    order[i], order[j] = j, i
    return permute(a, order)


def t(a: Tensor) -> Tensor:
    """A matrix with its axes exchanged; a vector or a number as it is.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The two lengths exchanged.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.t(ndl.ones(2, 3)).shape
    (3, 2)
    """
    if a.ndim > 2:
        raise ValueError(f"[t] needs at most 2 axes, got shape {a.shape}; permute takes more")
    return permute(a, (1, 0)) if a.ndim == 2 else a


def adjoint(a: Tensor) -> Tensor:
    """The last two axes exchanged.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The last two lengths exchanged.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.adjoint(ndl.ones(2, 3, 4)).shape
    (2, 4, 3)
    """
    return swapaxes(a, -2, -1)


def roll(a: Tensor, shifts: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Shift elements along axes; those that leave at one end come back at the other.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    shifts : int or sequence of int
        How far along each axis; negative to the front.
    axis : int or sequence of int, optional
        The axes; None shifts the flattened elements. `dims` is another name.

    Returns
    -------
    Tensor, the shape of `a`

    Raises
    ------
    ValueError
        If there are not as many shifts as axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.roll(ndl.Tensor([1, 2, 3]), 1)
    needle.Tensor([3. 1. 2.])
    """
    if axis is None:
        return reshape(roll(ravel(a), shifts, 0), a.shape)
    by = [shifts] if isinstance(shifts, int) else list(shifts)
    along = [axis] if isinstance(axis, int) else list(axis)
    if len(by) != len(along):
        raise ValueError(f"[roll] shifts {shifts} and axis {axis} differ in length")
    for shift, i in zip(by, along, strict=True):
        at = normalize_axis(i, a.ndim, "roll")
        n = a.shape[at]
        cut = -shift % n if n else 0
        if cut:
            lead = (slice(None),) * at
            a = concatenate([a[(*lead, slice(cut, None))], a[(*lead, slice(0, cut))]], at)
    return a


def fliplr(a: Tensor) -> Tensor:
    """The order along axis 1 reversed.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fliplr(ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    return flip(a, 1)


def flipud(a: Tensor) -> Tensor:
    """The order along axis 0 reversed.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.flipud(ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    return flip(a, 0)


def rot90(a: Tensor, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """`a` turned by k · 90° from the first of two axes towards the second.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    k : int, default 1
        How many quarter turns.
    axes : (int, int), default (0, 1)
        The plane.

    Returns
    -------
    Tensor
        The two lengths exchanged for an odd `k`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.rot90(ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    first, second = (normalize_axis(i, a.ndim, "rot90") for i in axes)
    if k % 4 == 2:
        return flip(a, (first, second))
    if k % 4 == 1:
        return swapaxes(flip(a, second), first, second)
    return flip(swapaxes(a, first, second), second) if k % 4 == 3 else a


def repeat(a: Tensor, *repeats: ShapeLike) -> Tensor:
    """`a` repeated as often as said along each axis: PyTorch's `repeat`, NumPy's `tile`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    *repeats : int
        As integers or one sequence.

    Returns
    -------
    Tensor
        Each length multiplied.

    Raises
    ------
    ValueError
        For fewer numbers than `a` has axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.repeat(ndl.Tensor([1, 2]), 2, 2).tolist()
    [[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    """
    counts = wholes(unpack(repeats), "repeat", "the shape")
    if len(counts) < a.ndim:
        raise ValueError(f"[repeat] needs a number for each axis of {a.shape}, got {counts}")
    repeated = tile(a, counts)
    # A broadcast view, or `a` itself, could not be written to apart.
    is_apart = repeated.is_contiguous() and math.prod(counts) != 1
    return repeated if is_apart else clone(repeated)


def repeat_interleave(
    a: Tensor,
    repeats: int | Sequence[int] | Tensor,
    axis: Axis = None,
    output_size: int | None = None,
) -> Tensor:
    """Repeat every element, or every slice along an axis, right after itself.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    repeats : int, sequence of int or Tensor of integers
        How often; one number, or one for each slice.
    axis : int, optional
        None repeats the flattened elements. `dim` is another name.
    output_size : int, optional
        The length of that axis of the result, the sum of `repeats`. A compiled function needs it
        where `repeats` is a Tensor.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there are not as many numbers as slices, one is negative, or `output_size` is another
        number. A compiled function raises IndexError where it is too large, later.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.repeat_interleave(ndl.Tensor([1, 2]), 2)
    needle.Tensor([1. 1. 2. 2.])
    """
    if axis is None:
        return repeat_interleave(ravel(a), repeats, 0, output_size)
    at = normalize_axis(whole(axis, "repeat_interleave", "axis"), a.ndim, "repeat_interleave")
    if isinstance(repeats, int):
        if repeats < 0:
            raise ValueError(f"[repeat_interleave] repeats must not be negative, got {repeats}")
        wide = unsqueeze(a, at + 1)
        shape = (*a.shape[: at + 1], repeats, *a.shape[at + 1 :])
        return flatten(broadcast_to(wide, shape), at, at + 1)
    try:
        given = repeats.numpy() if isinstance(repeats, Tensor) else np.asarray(repeats)
    except Untraceable as error:
        assert isinstance(repeats, Tensor)
        if output_size is None:
            raise by_values(error, "repeat_interleave", "give output_size") from None
        ends = cumsum(broadcast_to(repeats, (a.shape[at],)), 0)
        places = Tensor(np.arange(output_size), device=a.device, requires_grad=False)
        return getitem(a, ((slice(None),) * at) + (searchsorted(ends, places, right=True),))
    counts = wholes(given.reshape(-1).tolist(), "repeat_interleave", "repeats")
    if len(counts) not in (1, a.shape[at]) or any(n < 0 for n in counts):
        raise ValueError(
            f"[repeat_interleave] repeats must be {a.shape[at]} non-negative numbers, got {counts}"
        )
    order = np.repeat(np.arange(a.shape[at]), counts)
    if output_size not in (None, order.size):
        raise ValueError(
            f"[repeat_interleave] output_size is {output_size}, but repeats sum to {order.size}"
        )
    return getitem(a, ((slice(None),) * at) + (order,))


__all__ = [
    "adjoint",
    "fliplr",
    "flipud",
    "movedim",
    "repeat",
    "repeat_interleave",
    "roll",
    "rot90",
    "swapaxes",
    "t",
]
