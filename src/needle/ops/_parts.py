"""Tensors taken apart along an axis, and joined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis
from ._joining import concatenate, split_by_size, stack
from ._shape import broadcast_to, reshape, unsqueeze
from ._views import atleast_1d, atleast_2d, atleast_3d, ravel


def unbind(a: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, which they lack.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int, default 0
        The axis. `dim` is another name of this argument.

    Returns
    -------
    tuple of Tensor
        One axis less.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.unbind(ndl.Tensor([[1, 2], [3, 4]]))[1]
    needle.Tensor([3. 4.])
    """
    at = normalize_axis(axis, a.ndim, "unbind")
    return tuple(a[(slice(None),) * at + (i,)] for i in range(a.shape[at]))


def narrow(a: Tensor, axis: int, start: int, length: int) -> Tensor:
    """`length` slices along an axis from `start` on.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    start : int
        The first slice; negative counts from the end.
    length : int
        How many slices.

    Returns
    -------
    Tensor
        `length` along the axis.

    Raises
    ------
    ValueError
        Unless all exist.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.narrow(ndl.arange(6), 0, 2, 3)
    needle.Tensor([2 3 4])
    """
    at = normalize_axis(axis, a.ndim, "narrow")
    n = a.shape[at]
    begin = start + n if start < 0 else start
    if not 0 <= begin <= begin + length <= n:
        raise ValueError(
            f"[narrow] {length} slices from {start} on are not all in axis {axis} of {a.shape}"
        )
    return a[(slice(None),) * at + (slice(begin, begin + length),)]


def select(a: Tensor, axis: int, index: int) -> Tensor:
    """The slice at `index` along an axis, which it lacks.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    index : int
        Which slice; negative counts from the end.

    Returns
    -------
    Tensor
        One axis less.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.select(ndl.Tensor([[1, 2], [3, 4]]), 1, 0)
    needle.Tensor([1. 3.])
    """
    at = normalize_axis(axis, a.ndim, "select")
    return a[(slice(None),) * at + (index,)]


def split_with_sizes(a: Tensor, sizes: Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Parts of the lengths `sizes` along an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    sizes : sequence of int
        The lengths.
    axis : int, default 0
        The axis. `dim` is another name of this argument.

    Returns
    -------
    tuple of Tensor
        One for each length.

    Raises
    ------
    ValueError
        Unless they add up to it.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.split_with_sizes(ndl.arange(3), [1, 2])]
    [[0], [1, 2]]
    """
    return split_by_size(a, tuple(sizes), axis)


def tensor_split(a: Tensor, parts: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """`parts` parts along an axis whose lengths differ by at most 1, or cut at given positions.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    parts : int or sequence of int
        How many parts, or where to cut.
    axis : int, default 0
        The axis. `dim` is another name of this argument.

    Returns
    -------
    tuple of Tensor
        The parts.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.tensor_split(ndl.arange(3), 2)]
    [[0, 1], [2]]
    """
    n = a.shape[normalize_axis(axis, a.ndim, "tensor_split")]
    if isinstance(parts, int):
        if parts < 1:
            raise ValueError(f"[tensor_split] parts must be positive, got {parts}")
        sizes = [n // parts + (i < n % parts) for i in range(parts)]
        return split_with_sizes(a, sizes, axis)
    lead = (slice(None),) * normalize_axis(axis, a.ndim, "tensor_split")
    cuts = [None, *parts, None]
    return tuple(a[(*lead, slice(i, j))] for i, j in pairwise(cuts))


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along axis 1; vectors along axis 0.

    Parameters
    ----------
    tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    Tensor
        Joined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.hstack([ndl.ones(2, 1), ndl.zeros(2, 2)]).tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    parts = [atleast_1d(x) for x in tensors]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along axis 0; vectors become rows.

    Parameters
    ----------
    tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    Tensor
        Joined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.vstack([ndl.ones(2), ndl.zeros(2)]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    return concatenate([atleast_2d(x) for x in tensors], 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along axis 2, which vectors and matrices get.

    Parameters
    ----------
    tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    Tensor
        Joined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.dstack([ndl.ones(2), ndl.zeros(2)]).shape
    (1, 2, 2)
    """
    return concatenate([atleast_3d(x) for x in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along axis 1; vectors become columns.

    Parameters
    ----------
    tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    Tensor
        Joined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.column_stack([ndl.ones(2), ndl.zeros(2)]).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return concatenate([unsqueeze(atleast_1d(x), 1) if x.ndim < 2 else x for x in tensors], 1)


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid.

    Parameters
    ----------
    *tensors : Tensor
        Vectors, the coordinates along each axis.
    indexing : {"ij", "xy"}
        "xy" exchanges the first two axes of the results.

    Returns
    -------
    tuple of Tensor
        One for each vector, all of the shape of the grid.

    Raises
    ------
    ValueError
        For another `indexing`, or a Tensor with more than one axis.

    Examples
    --------
    >>> import needle as ndl
    >>> y, x = ndl.meshgrid(ndl.arange(2), ndl.arange(3))
    >>> x.tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    if indexing not in ("ij", "xy"):
        raise ValueError(f"[meshgrid] indexing must be 'ij' or 'xy', got {indexing!r}")
    if any(x.ndim > 1 for x in tensors):
        raise ValueError(f"[meshgrid] needs vectors, got {[x.shape for x in tensors]}")
    vectors = list(tensors)
    if indexing == "xy":
        vectors[:2] = vectors[1::-1]
    shape = tuple(x.size for x in vectors)
    grids = [
        broadcast_to(reshape(x, (1,) * i + (x.size,) + (1,) * (len(shape) - 1 - i)), shape)
        for i, x in enumerate(vectors)
    ]
    if indexing == "xy":
        grids[:2] = grids[1::-1]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of an element of each vector, a row each.

    Parameters
    ----------
    *tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    Tensor
        A row for each combination.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cartesian_prod(ndl.arange(2), ndl.arange(2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if len(tensors) == 1:
        return tensors[0]
    return stack([ravel(x) for x in meshgrid(*tensors)], 1)


__all__ = [
    "cartesian_prod",
    "column_stack",
    "dstack",
    "hstack",
    "meshgrid",
    "narrow",
    "select",
    "split_with_sizes",
    "tensor_split",
    "unbind",
    "vstack",
]
