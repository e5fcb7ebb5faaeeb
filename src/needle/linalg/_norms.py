"""Norms of vectors and matrices, condition numbers and ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis
from ..synonyms import accepts_synonyms
from ..typing import Axis
from ._factorizations import svdvals
from ._host import as_floats, as_matrix, constant, to_host
from ._solving import Tolerance, _threshold, inv, symmetric, tolerances

Order = float | str | None


@accepts_synonyms
def vector_norm(x: Tensor, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The vector norm (Σ|x|^ord)^(1/ord) over some axes.

    Parameters
    ----------
    x : Tensor
    ord : float
        inf is the largest |x|, -inf the least, 0 the number of elements that are not 0.
    axis : int or sequence of int, optional
        All of them by default.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `x` is not of a floating dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.vector_norm(ndl.Tensor([3, 4])).item()
    5.0
    """
    return ops.norm(as_floats(x, "vector_norm"), ord, axis, keepdims)


@accepts_synonyms
def matrix_norm(
    A: Tensor, ord: float | str = "fro", axis: Sequence[int] = (-2, -1), keepdims: bool = False
) -> Tensor:
    """A norm of each matrix.

    Parameters
    ----------
    A : Tensor
    ord : {"fro", "nuc", inf, -inf, 1, -1, 2, -2}
        The root of the sum of squares; the sum of singular values; the largest or least sum of a
        row's absolute values, of a column's; the largest or least singular value.
    axis : (int, int)
        Rows and columns.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `ord` is unknown or the axes are not two.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.matrix_norm(ndl.Tensor([[1, -2], [3, 4]]), 1).item()
    6.0
    """
    a = as_matrix(A, "matrix_norm")
    if isinstance(axis, int) or len(axis) != 2:
        raise ValueError(f"[matrix_norm] axis must be two axes, got {axis!r}")
    rows, columns = (normalize_axis(i, a.ndim, "matrix_norm") for i in axis)
    if rows == columns:
        raise ValueError(f"[matrix_norm] axis must be two different axes, got {axis!r}")
    if ord == "fro":
        return ops.norm(a, 2, (rows, columns), keepdims)
    if ord in ("nuc", 2, -2):
        batch = [i for i in range(a.ndim) if i not in (rows, columns)]
        s = svdvals(ops.permute(a, (*batch, rows, columns)))
        value = {"nuc": ops.summation, 2: ops.amax, -2: ops.amin}[ord](s, -1)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, over = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = ops.summation(ops.abs(a), summed, True)
        value = (ops.amax if ord > 0 else ops.amin)(sums, over, True)
        value = ops.squeeze(value, (rows, columns))
    else:
        raise ValueError(
            f"[matrix_norm] ord must be fro, nuc, inf, -inf, 1, -1, 2 or -2, got {ord!r}"
        )
    if not keepdims:
        return value
    return ops.reshape(value, [1 if i in (rows, columns) else n for i, n in enumerate(a.shape)])


@accepts_synonyms
def norm(A: Tensor, ord: Order = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors or matrices.

    Parameters
    ----------
    A : Tensor
    ord : float or str, optional
        As in `vector_norm` for one axis, as in `matrix_norm` for two. None is the root of the sum
        of squares.
    axis : int or sequence of int, optional
        One or two axes; with an `ord`, all of a Tensor of one or two axes by default.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `ord` needs one or two axes and there are others.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.norm(ndl.Tensor([[3, 0], [0, 4]]), "nuc").item()
    7.0
    """
    a = as_floats(A, "norm", "A")
    if ord is None:
        return vector_norm(a, 2, axis, keepdims)
    axes = range(a.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    if len(axes) == 2:
        return matrix_norm(a, ord, tuple(axes), keepdims)
    if len(axes) != 1 or isinstance(ord, str):
        raise ValueError(f"[norm] ord={ord!r} does not apply to {len(axes)} axes")
    return vector_norm(a, ord, tuple(axes), keepdims)


def cond(A: Tensor, p: Order = None) -> Tensor:
    """The condition number ‖A‖·‖A⁻¹‖ of each matrix.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        For p of None, 2 or -2 also (..., m, n).
    p : float or str, optional
        A norm as in `matrix_norm`; None is 2.

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If the norm needs square matrices and these are not.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.cond(ndl.Tensor([[8, 0], [0, 2]])).item()
    4.0
    """
    if p in (None, 2, -2):
        s = svdvals(as_matrix(A, "cond"))
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    assert p is not None
    a = as_matrix(A, "cond", square=True)
    return matrix_norm(a, p) * matrix_norm(inv(a), p)


def matrix_rank(
    A: Tensor, *, atol: Tolerance = None, rtol: Tolerance = None, hermitian: bool = False
) -> Tensor:
    """The number of singular values that are not 0. No gradient flows.

    Parameters
    ----------
    A : Tensor, shape (..., m, n)
    atol, rtol : float or Tensor, shape (...), optional
        Singular values up to max(atol, rtol·largest) count as 0; without either rtol is
        max(m, n)·eps.
    hermitian : bool, default False
        Whether the matrices are symmetric: only their lower triangles are read.

    Returns
    -------
    Tensor, shape (...), int64

    Raises
    ------
    ValueError
        If `A` has fewer than two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.matrix_rank(ndl.ones(3, 2)).item()
    1
    """
    a = as_matrix(A, "matrix_rank", square=hermitian)
    a = symmetric(a) if hermitian else a
    s = to_host(svdvals(a.detach()).realize_cached_data(), "matrix_rank")
    rank = (s > _threshold(s, *tolerances(a, atol, rtol))).sum(-1)
    return constant(np.asarray(rank), a, np.dtype(np.int64))
