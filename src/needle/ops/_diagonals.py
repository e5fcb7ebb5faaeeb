"""Diagonals and triangles of matrices."""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis
from ..typing import HostArray, Scalar
from ._indexing import PutItem
from ._joining import concatenate
from ._masks import masked_fill
from ._reordering import movedim
from ._shape import pad
from ._views import atleast_2d


def diagonal(a: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements a[…, i, …, i + offset, …] along a new last axis, which replaces two axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.
    axis1 : int, default 0
        The axis of rows. `dim1` is another name.
    axis2 : int, default 1
        The axis of columns. `dim2` is another name.

    Returns
    -------
    Tensor
        Two axes less, and a new last one.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.diagonal(ndl.Tensor([[1, 2], [3, 4]]))
    needle.Tensor([1. 4.])
    """
    first, second = (normalize_axis(i, a.ndim, "diagonal") for i in (axis1, axis2))
    if first == second:
        raise ValueError(f"[diagonal] needs two different axes, got {axis1} and {axis2}")
    moved = movedim(a, (first, second), (-2, -1))
    rows, columns = moved.shape[-2:]
    i = np.arange(
        max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    )
    return moved[(..., i - min(offset, 0), i + max(offset, 0))]


def diag(a: Tensor, offset: int = 0) -> Tensor:
    """The diagonal of a matrix, or a matrix with the vector `a` on its diagonal and 0 elsewhere.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.

    Returns
    -------
    Tensor
        A vector of a matrix, a matrix of a vector.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.diag(ndl.Tensor([1, 2])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    if a.ndim not in (1, 2):
        raise ValueError(f"[diag] needs a vector or a matrix, got shape {a.shape}")
    return diagonal(a, offset) if a.ndim == 2 else diag_embed(a, offset)


def diag_embed(a: Tensor, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """Matrices in two new axes with the last axis of `a` on a diagonal and 0 elsewhere.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.
    axis1, axis2 : int, default -2 and -1
        Where the rows and the columns of the matrices stand in the result. `dim1` and `dim2` are
        other names.

    Returns
    -------
    Tensor
        One axis more.

    Raises
    ------
    ValueError
        If the result does not have an axis, or the two are one.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.diag_embed(ndl.ones(2, 3)).shape
    (2, 3, 3)
    """
    down, right = max(-offset, 0), max(offset, 0)
    i = np.arange(a.shape[-1])
    n = a.shape[-1] + abs(offset)
    shape = (*a.shape[:-1], n, n)
    matrices = PutItem(shape, (..., i + down, i + right))(a)
    return movedim(matrices, (-2, -1), (axis1, axis2))


def trace(a: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        A number.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.trace(ndl.Tensor([[1, 2], [3, 4]])).item()
    5.0
    """
    return diag(a).sum()


def tril(a: Tensor, offset: int = 0) -> Tensor:
    """The lower triangles of matrices: elements above diagonal `offset` become 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.tril(ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[1.0, 0.0], [3.0, 4.0]]
    """
    above = np.logical_not(_on_or_below(a, offset, "tril"))
    return masked_fill(a, Tensor(above, device=a.device), 0)


def triu(a: Tensor, offset: int = 0) -> Tensor:
    """The upper triangles of matrices: elements below diagonal `offset` become 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.triu(ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[1.0, 2.0], [0.0, 4.0]]
    """
    below = _on_or_below(a, offset - 1, "triu")
    return masked_fill(a, Tensor(below, device=a.device), 0)


def _on_or_below(a: Tensor, offset: int, what: str) -> HostArray:
    """Whether each place of the matrices is on the diagonal `offset` or below it."""
    if a.ndim < 2:
        raise ValueError(f"[{what}] needs at least 2 axes, got shape {a.shape}")
    rows, columns = a.shape[-2:]
    return np.arange(columns) <= np.arange(rows)[:, None] + offset


def fill_diagonal(a: Tensor, value: Scalar, wrap: bool = False) -> Tensor:
    """`a` with `value` at [i, i, …].

    Parameters
    ----------
    a : Tensor
        Of two axes, or of more with one length.
    value : number
        What is written.
    wrap : bool, default False
        Whether the diagonal of a tall matrix begins again, one row below its end.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Raises
    ------
    ValueError
        For a vector, or for more than two axes of different lengths.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.fill_diagonal(ndl.zeros(2, 2), 5).tolist()
    [[5.0, 0.0], [0.0, 5.0]]
    """
    if a.ndim < 2 or (a.ndim > 2 and len(set(a.shape)) > 1):
        raise ValueError(
            f"[fill_diagonal] needs two axes, or more of one length, got shape {a.shape}"
        )
    mask = np.zeros(a.shape, bool)
    np.fill_diagonal(mask, True, wrap)
    return masked_fill(a, Tensor(mask, device=a.device, requires_grad=False), value)


def block_diag(*blocks: Tensor) -> Tensor:
    """A matrix with matrices along its diagonal and 0 elsewhere; numbers and vectors are rows.

    Parameters
    ----------
    *blocks : Tensor
        The matrices.

    Returns
    -------
    Tensor
        The sums of the heights and widths.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.block_diag(ndl.ones(1, 2), ndl.ones(1, 1)).tolist()
    [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    matrices = [atleast_2d(x) for x in blocks]
    if any(x.ndim > 2 for x in matrices):
        raise ValueError(f"[block_diag] needs matrices, got {[x.shape for x in blocks]}")
    width, before, rows = sum(x.shape[1] for x in matrices), 0, []
    for x in matrices:
        rows.append(pad(x, ((0, 0), (before, width - before - x.shape[1]))))
        before += x.shape[1]
    return concatenate(rows, 0)


__all__ = [
    "block_diag",
    "diag",
    "diag_embed",
    "diagonal",
    "fill_diagonal",
    "trace",
    "tril",
    "triu",
]
