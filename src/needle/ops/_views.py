"""The elements of a Tensor in another arrangement: compositions of views, joins and indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray
from ..backend_ndarray.layout import broadcast_shapes, normalize_axis, unpack, wholes
from ..typing import Shape, ShapeLike
from ._shape import broadcast_to, reshape, unsqueeze


class Clone(TensorOp):
    """A copy."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a.copy()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad


def clone(a: Tensor) -> Tensor:
    """A copy of `a` with memory of its own; gradients flow through it.

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
    >>> ndl.clone(ndl.Tensor([1, 2]))
    needle.Tensor([1. 2.])
    """
    return Clone()(a)


# ---- shapes -------------------------------------------------------------------------------------


def view_as(a: Tensor, other: Tensor) -> Tensor:
    """`a` in the shape of `other`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    other : Tensor
        Whose shape is taken.

    Returns
    -------
    Tensor
        The shape of `other`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.view_as(ndl.ones(4), ndl.ones(2, 2)).shape
    (2, 2)
    """
    return reshape(a, other.shape)


def expand(a: Tensor, *shape: ShapeLike) -> Tensor:
    """Repeat axes of length 1 to reach a shape, without a copy.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    *shape : int
        The shape of the result, as integers or one sequence; -1 keeps the length of an axis.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If an axis of another length than 1 would have to change.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.expand(ndl.ones(3, 1), 2, -1, 4).shape
    (2, 3, 4)
    """
    wanted = wholes(unpack(shape), "expand", "the shape")
    lead = len(wanted) - a.ndim
    if lead < 0:
        raise ValueError(f"[expand] {wanted} has fewer axes than the shape {a.shape}")
    full = tuple(a.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
    return broadcast_to(a, full)


def expand_as(a: Tensor, other: Tensor) -> Tensor:
    """`a` broadcast to the shape of `other`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    other : Tensor
        Whose shape is taken.

    Returns
    -------
    Tensor
        The shape of `other`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.expand_as(ndl.Tensor([1, 2]), ndl.ones(2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    return broadcast_to(a, other.shape)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The Tensors broadcast to their common shape.

    Parameters
    ----------
    *tensors : sequence of Tensor
        The Tensors.

    Returns
    -------
    tuple of Tensor
        All of the common shape.

    Examples
    --------
    >>> import needle as ndl
    >>> [t.shape for t in ndl.broadcast_tensors(ndl.ones(3, 1), ndl.ones(2))]
    [(3, 2), (3, 2)]
    """
    shape: Shape = ()
    for x in tensors:
        shape = broadcast_shapes(shape, x.shape, "broadcast_tensors")
    return tuple(broadcast_to(x, shape) for x in tensors)


def flatten(a: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Join the axes from `start_axis` to `end_axis`, both included, into one.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    start_axis, end_axis : int
        The first and the last axis. `start_dim` and `end_dim` are other names.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If an axis is out of range, or the end comes before the start.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.flatten(ndl.ones(2, 3, 4, 5), 1, 2).shape
    (2, 12, 5)
    """
    if not a.ndim:
        return reshape(a, (1,))
    start = normalize_axis(start_axis, a.ndim, "flatten")
    end = normalize_axis(end_axis, a.ndim, "flatten")
    if end < start:
        raise ValueError(f"[flatten] end_axis {end_axis} comes before start_axis {start_axis}")
    joined = math.prod(a.shape[start : end + 1])
    return reshape(a, (*a.shape[:start], joined, *a.shape[end + 1 :]))


def unflatten(a: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis cut into several of the lengths `sizes`; one of them may be -1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    sizes : sequence of int
        The lengths.

    Returns
    -------
    Tensor
        One axis more for each length but one.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.unflatten(ndl.ones(2, 6), 1, (3, -1)).shape
    (2, 3, 2)
    """
    at = normalize_axis(axis, a.ndim, "unflatten")
    sizes = wholes(sizes, "unflatten", "sizes")
    known = math.prod(n for n in sizes if n != -1)
    if -1 in sizes and known:
        sizes = tuple(a.shape[at] // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != a.shape[at]:
        raise ValueError(f"[unflatten] {sizes} does not fit axis {axis} of {a.shape}")
    return reshape(a, (*a.shape[:at], *sizes, *a.shape[at + 1 :]))


def ravel(a: Tensor) -> Tensor:
    """All elements along one axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        One axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ravel(ndl.Tensor([[1, 2], [3, 4]]))
    needle.Tensor([1. 2. 3. 4.])
    """
    return reshape(a, (-1,))


def atleast_1d(a: Tensor) -> Tensor:
    """`a` with at least one axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        At least one axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.atleast_1d(ndl.tensor(3)).shape
    (1,)
    """
    return a if a.ndim else reshape(a, (1,))


def atleast_2d(a: Tensor) -> Tensor:
    """`a` with at least two axes; new ones come first.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        At least two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.atleast_2d(ndl.ones(3)).shape
    (1, 3)
    """
    return a if a.ndim >= 2 else reshape(a, (1,) * (2 - a.ndim) + a.shape)


def atleast_3d(a: Tensor) -> Tensor:
    """`a` with at least three axes: a vector (n,) becomes (1, n, 1), a matrix (n, m, 1).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        At least three axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.atleast_3d(ndl.ones(3)).shape
    (1, 3, 1)
    """
    return a if a.ndim >= 3 else unsqueeze(atleast_2d(a), -1)


# ---- joins --------------------------------------------------------------------------------------


__all__ = [
    "Clone",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_tensors",
    "clone",
    "expand",
    "expand_as",
    "flatten",
    "ravel",
    "unflatten",
    "view_as",
]
