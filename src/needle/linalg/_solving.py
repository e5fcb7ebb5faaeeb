"""Inverses, systems of linear equations and determinants.

The gradients are those of Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008, and for the pseudoinverse of Golub and Pereyra, "The
differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate",
1973.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np

from .. import ops
from ..autograd import SparseGradients, Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray
from ..ops import matmul, transpose, unbroadcast
from ._factorizations import svd, svdvals
from ._host import (
    HostNumbers,
    as_floats,
    as_matrix,
    constant,
    eye_like,
    from_host,
    lower,
    members,
    to_host,
)
from ._host import upper as upper_part


class SlogDet(NamedTuple):
    """The results of `slogdet`."""

    sign: Tensor
    logabsdet: Tensor


class LeastSquares(NamedTuple):
    """The results of `lstsq`."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _singular(what: str) -> NoReturn:
    raise np.linalg.LinAlgError(f"[{what}] a matrix is singular") from None


class Inv(TensorOp):
    """C = A⁻¹. dA = -Cᵀ·dC·Cᵀ."""

    def compute(self, a: NDArray) -> NDArray:
        try:
            return from_host(np.linalg.inv(to_host(a, "inv")), a)
        except np.linalg.LinAlgError:
            _singular("inv")

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        turned = transpose(node)
        return -matmul(turned, matmul(out_grad, turned))


class Solve(TensorOp):
    """X = A⁻¹·B, batch axes broadcast. dB = A⁻ᵀ·dX, dA = -dB·Xᵀ."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        try:
            return from_host(np.linalg.solve(to_host(a, "solve"), to_host(b, "solve")), b)
        except np.linalg.LinAlgError:
            _singular("solve")

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        db = Solve()(transpose(a), out_grad)
        return unbroadcast(-matmul(db, transpose(node)), a), unbroadcast(db, b)


class SolveTriangular(TensorOp):
    """X = A⁻¹·B of one triangle of A. dB = A⁻ᵀ·dX, dA = that triangle of -dB·Xᵀ."""

    def __init__(self, upper: bool, unit_diagonal: bool) -> None:
        self.upper, self.unit_diagonal = upper, unit_diagonal

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        host = to_host(a, "solve_triangular")
        triangle = np.triu(host) if self.upper else np.tril(host)
        if self.unit_diagonal:
            eye = np.eye(host.shape[-1], dtype=host.dtype)
            triangle = triangle * (1 - eye) + eye
        try:
            return from_host(np.linalg.solve(triangle, to_host(b, "solve_triangular")), b)
        except np.linalg.LinAlgError:
            _singular("solve_triangular")

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        db = SolveTriangular(not self.upper, self.unit_diagonal)(transpose(a), out_grad)
        da = -matmul(db, transpose(node))
        da = upper_part(da) if self.upper else lower(da)
        if self.unit_diagonal:
            da = da * (1.0 - eye_like(da))
        return unbroadcast(da, a), unbroadcast(db, b)


class Det(TensorOp):
    """det A. dA is its gradient times the cofactors of A, det A·A⁻ᵀ where A is invertible."""

    def compute(self, a: NDArray) -> NDArray:
        return from_host(np.asarray(np.linalg.det(to_host(a, "det"))), a)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        host = to_host(a.realize_cached_data(), "det")
        if not host.size or (np.linalg.cond(host) < np.finfo(host.dtype).eps ** -0.5).all():
            cofactors = _column(node) * transpose(Inv()(a))
        else:
            cofactors = _cofactors(a)
        return _column(out_grad) * cofactors


def _column(x: Tensor) -> Tensor:
    """A number for each matrix of a batch."""
    return ops.reshape(x, (*x.shape, 1, 1))


def _cofactors(a: Tensor) -> Tensor:
    """det U·det V·U·diag(the products of all singular values but one)·Vᵀ, for any A."""
    u, s, vt = svd(a)
    n = s.shape[-1]
    others = [ops.prod(ops.concatenate([s[..., :i], s[..., i + 1 :]], -1), -1) for i in range(n)]
    scaled = u * ops.unsqueeze(ops.stack(others, -1), -2)
    return _column(det(u.detach()) * det(vt.detach())) * matmul(scaled, vt)


class SignedLogDet(TensorTupleOp):
    """(sign of det A, log |det A|). dA = d log·A⁻ᵀ; the sign is piecewise constant."""

    takes_sparse_gradients = True

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        sign, logarithm = np.linalg.slogdet(to_host(a, "slogdet"))
        return from_host(np.asarray(sign), a), from_host(np.asarray(logarithm), a)

    def gradient(self, out_grad: TensorTuple | SparseGradients, node: TensorTuple) -> Tensor:
        a, d_log = node.inputs[0], members(out_grad, 2)[1]
        return a * 0.0 if d_log is None else _column(d_log) * transpose(Inv()(a))


class Pinv(TensorOp):
    """P, the pseudoinverse of A, with singular values up to a threshold taken as 0.

    dA = -Pᵀ·dP·Pᵀ + (I - A·P)·dPᵀ·P·Pᵀ + Pᵀ·P·dPᵀ·(I - P·A), where the rank does not change.
    """

    def __init__(self, atol: float | HostNumbers, rtol: float | HostNumbers) -> None:
        self.atol, self.rtol = atol, rtol

    def compute(self, a: NDArray) -> NDArray:
        u, s, vt = np.linalg.svd(to_host(a, "pinv"), full_matrices=False)
        kept = s > _threshold(s, self.atol, self.rtol)
        inverse = np.where(kept, 1 / np.where(kept, s, 1), 0)
        turned = np.swapaxes(vt, -1, -2) * inverse[..., None, :]
        return from_host(turned @ np.swapaxes(u, -1, -2), a)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a, p, d = node.inputs[0], node, transpose(out_grad)
        turned = transpose(p)
        direct = matmul(turned, matmul(out_grad, turned))
        left, right = matmul(d, matmul(p, turned)), matmul(matmul(turned, p), d)
        return left - matmul(a, matmul(p, left)) + right - matmul(matmul(right, p), a) - direct


Tolerance = float | Tensor | None


def _threshold(s: HostNumbers, atol: float | HostNumbers, rtol: float | HostNumbers) -> HostNumbers:
    """What singular values must exceed, one for each matrix."""
    largest = s.max(-1, keepdims=True, initial=0)
    bound: np.ndarray = np.maximum(atol, rtol * largest)
    return bound


def tolerances(
    a: Tensor, atol: Tolerance, rtol: Tolerance
) -> tuple[float | HostNumbers, float | HostNumbers]:
    """(atol, rtol), those of a batch with an axis for the singular values.

    Without either rtol is max(m, n)·eps.
    """
    absolute = 0.0 if atol is None else _tolerance(atol)
    if rtol is not None:
        return absolute, _tolerance(rtol)
    default = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)
    return absolute, np.where(np.asarray(absolute) > 0, 0.0, default)


def _tolerance(value: float | Tensor) -> float | HostNumbers:
    if isinstance(value, Tensor):
        return to_host(value.realize_cached_data(), "tolerance")[..., None]
    return value


def symmetric(a: Tensor) -> Tensor:
    """The symmetric matrices with the lower triangles of `a`."""
    return ops.tril(a) + transpose(ops.tril(a, -1))


def inv(A: Tensor) -> Tensor:
    """The inverse of each matrix. To solve A·X = B, use `solve`: it is faster and more accurate.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is singular.
    ValueError
        If the matrices are not square.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.inv(ndl.Tensor([[2, 0], [0, 4]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return Inv()(as_matrix(A, "inv", square=True))


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The solution X of A·X = B.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
    B : Tensor, shape (..., n, k) or (..., n)
        Batch axes broadcast with those of `A`. It is a batch of vectors if it has one axis, or the
        shape of `A` without the last.
    left : bool
        False solves X·A = B.

    Returns
    -------
    Tensor
        The shape of `B`, batch axes broadcast.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is singular.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.solve(ndl.Tensor([[2, 0], [0, 4]]), ndl.Tensor([2, 2])).tolist()
    [1.0, 0.5]
    """
    a, b = as_matrix(A, "solve", square=True), as_floats(B, "solve", "B")
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if is_vector and not left:
        raise ValueError("[solve] left=False needs a matrix B")
    b = ops.unsqueeze(b, -1) if is_vector else b
    a, b = (a, b) if left else (transpose(a), transpose(b))
    _check_rows(a, b, "solve")
    x = Solve()(a, b)
    if is_vector:
        return ops.squeeze(x, -1)
    return x if left else transpose(x)


def _check_rows(a: Tensor, b: Tensor, what: str) -> None:
    if b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"[{what}] A of shape {a.shape} and B of shape {b.shape} do not fit")
    if a.dtype != b.dtype:
        raise TypeError(f"[{what}] A is {a.dtype} and B is {b.dtype}: convert one of them")


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The solution X of A·X = B with triangular A.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        Only one triangle is read.
    B : Tensor, shape (..., n, k)
        Batch axes broadcast with those of `A`.
    upper : bool
        Whether that is the upper triangle.
    left : bool
        False solves X·A = B, with B (..., k, n).
    unitriangular : bool
        Whether the diagonal is taken as 1.

    Returns
    -------
    Tensor
        The shape of `B`, batch axes broadcast.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a diagonal has a 0.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> a = ndl.Tensor([[2, 9], [1, 1]])  # the 9 is not read
    >>> ndl.linalg.solve_triangular(a, ndl.Tensor([[2], [3]]), upper=False).tolist()
    [[1.0], [2.0]]
    """
    a = as_matrix(A, "solve_triangular", square=True)
    b = as_matrix(B, "solve_triangular", name="B")
    if not left:
        a, b, upper = transpose(a), transpose(b), not upper
    _check_rows(a, b, "solve_triangular")
    x = SolveTriangular(upper, unitriangular)(a, b)
    return x if left else transpose(x)


def det(A: Tensor) -> Tensor:
    """The determinant of each matrix.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If the matrices are not square.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.det(ndl.Tensor([[0, 2], [1, 0]])).item()
    -2.0
    """
    return Det()(as_matrix(A, "det", square=True))


def slogdet(A: Tensor) -> SlogDet:
    """The sign of the determinant and the logarithm of its absolute value.

    Unlike `det` it neither overflows nor underflows for large matrices.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)

    Returns
    -------
    SlogDet
        The named tuple (sign, logabsdet); (0, -inf) for singular matrices.

    Raises
    ------
    ValueError
        If the matrices are not square.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.slogdet(ndl.Tensor([[0, 1], [1, 0]]))
    SlogDet(sign=needle.Tensor(-1.0), logabsdet=needle.Tensor(0.0))
    """
    return SlogDet(*SignedLogDet()(as_matrix(A, "slogdet", square=True)))


def pinv(
    A: Tensor, *, atol: Tolerance = None, rtol: Tolerance = None, hermitian: bool = False
) -> Tensor:
    """The Moore-Penrose pseudoinverse of each matrix.

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
    Tensor, shape (..., n, m)

    Raises
    ------
    ValueError
        If `A` has fewer than two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.pinv(ndl.Tensor([[2, 0, 0], [0, 0, 0]])).tolist()
    [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    a = as_matrix(A, "pinv", square=hermitian)
    a = symmetric(a) if hermitian else a
    return Pinv(*tolerances(a, atol, rtol))(a)


def lstsq(
    A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> LeastSquares:
    """The X with the least ‖A·X - B‖, and of those the least ‖X‖.

    Parameters
    ----------
    A : Tensor, shape (..., m, n)
    B : Tensor, shape (..., m, k)
    rcond : float, optional
        Singular values up to rcond·largest count as 0; max(m, n)·eps by default.
    driver : str, optional
        Of no effect: singular values are always looked at, as PyTorch's "gelsd" does.

    Returns
    -------
    LeastSquares
        The named tuple (solution (..., n, k), residuals (..., k), rank (...), singular_values). The
        residuals are sums of squares; they have no elements unless m > n and all ranks are n.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> a, b = ndl.Tensor([[1, 0], [1, 1], [1, 2]]), ndl.Tensor([[1], [3], [5]])
    >>> ndl.linalg.lstsq(a, b).solution.numpy().round(3).tolist()
    [[1.0], [2.0]]
    """
    a, b = as_matrix(A, "lstsq"), as_matrix(B, "lstsq", name="B")
    _check_rows(transpose(a), b, "lstsq")
    atol, rtol = tolerances(a, None, rcond)
    x = matmul(Pinv(atol, rtol)(a), b)
    s = svdvals(a.detach())
    host = s.numpy()
    rank = (host > _threshold(host, atol, rtol)).sum(-1)
    rows, columns = a.shape[-2:]
    if rows > columns and (rank == columns).all():
        difference = matmul(a, x) - b
        residuals = ops.summation(difference * difference, -2)
    else:
        residuals = constant(np.zeros(0), a)
    return LeastSquares(x, residuals, constant(rank, a, np.dtype(np.int64)), s)
