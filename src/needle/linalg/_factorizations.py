"""Factorizations of matrices: Cholesky, QR, of symmetric ones by eigenvalues, by singular values.

The gradients are those of Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008, and for QR of Walter and Lehmann, "Algorithmic differentiation
of linear algebra functions", 2018.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from .. import ops
from ..autograd import SparseGradients, Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray
from ..ops import transpose
from ._host import as_matrix, constant, eye_like, from_host, lower, members, symmetric, to_host


class QR(NamedTuple):
    """The results of `qr`."""

    Q: Tensor
    R: Tensor


class Eigh(NamedTuple):
    """The results of `eigh`."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """The results of `svd`."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Cholesky(TensorOp):
    """A = L·Lᵀ. dA = ½·L⁻ᵀ·(P + Pᵀ)·L⁻¹, P the lower triangle of Lᵀ·dL with half its diagonal."""

    def compute(self, a: NDArray) -> NDArray:
        try:
            return from_host(np.linalg.cholesky(to_host(a, "cholesky")), a)
        except np.linalg.LinAlgError:
            raise np.linalg.LinAlgError("[cholesky] a matrix is not positive definite") from None

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        from ._solving import solve_triangular  # which is above

        inner = ops.matmul(transpose(node), out_grad)
        p = lower(inner) - _diagonal(inner) * 0.5
        half = solve_triangular(transpose(node), symmetric(p), upper=True)
        return solve_triangular(node, half, upper=False, left=False)


def _diagonal(x: Tensor) -> Tensor:
    """The diagonal of square matrices, the rest 0."""
    return x * eye_like(x)


class QRFactors(TensorTupleOp):
    """A = Q·R. For m ≥ n: dA = (dQ + Q·C)·R⁻ᵀ, C the symmetric matrix with the lower triangle of
    R·dRᵀ - dQᵀ·Q.
    """

    takes_sparse_gradients = True

    def __init__(self, mode: Literal["reduced", "complete"]) -> None:
        self.mode = mode

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        q, r = np.linalg.qr(to_host(a, "qr"), self.mode)
        return from_host(q, a), from_host(r, a)

    def gradient(self, out_grad: TensorTuple | SparseGradients, node: TensorTuple) -> Tensor:
        a, (q, r) = node.inputs[0], tuple(node)
        dq, dr = members(out_grad, 2)
        rows, columns = a.shape[-2:]
        if self.mode == "complete" and rows > columns:
            raise RuntimeError(
                '[qr] mode="complete" has no gradient for matrices with more rows than columns'
            )
        if rows >= columns:
            return _qr_gradient(q, r, dq, dr)
        # A = [X Y], R = [U V]: X = Q·U, and V = Qᵀ·Y.
        y = a[..., rows:]
        du = None if dr is None else dr[..., :rows]
        dv = None if dr is None else dr[..., rows:]
        if dv is not None:
            through_v = ops.matmul(y, transpose(dv))
            dq = through_v if dq is None else dq + through_v
        dx = _qr_gradient(q, r[..., :rows], dq, du)
        dy = y * 0.0 if dv is None else ops.matmul(q, dv)
        return ops.concatenate([dx, dy], -1)


def _qr_gradient(q: Tensor, r: Tensor, dq: Tensor | None, dr: Tensor | None) -> Tensor:
    from ._solving import solve_triangular  # which is above

    inner = None if dr is None else ops.matmul(r, transpose(dr))
    if dq is not None:
        through_q = ops.matmul(transpose(dq), q)
        inner = -through_q if inner is None else inner - through_q
    assert inner is not None
    copied = lower(inner) + transpose(lower(inner, strictly=True))
    left = ops.matmul(q, copied)
    left = left if dq is None else dq + left
    return solve_triangular(transpose(r), left, upper=False, left=False)


class EighFactors(TensorTupleOp):
    """A = V·diag(λ)·Vᵀ for symmetric A. dA = V·(diag(dλ) + F∘(Vᵀ·dV))·Vᵀ, F_ij = 1/(λ_j - λ_i)."""

    takes_sparse_gradients = True

    def __init__(self, uplo: Literal["L", "U"]) -> None:
        self.uplo = uplo

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        values, vectors = np.linalg.eigh(to_host(a, "eigh"), self.uplo)
        return from_host(values, a), from_host(vectors, a)

    def gradient(self, out_grad: TensorTuple | SparseGradients, node: TensorTuple) -> Tensor:
        values, vectors = tuple(node)
        d_values, d_vectors = members(out_grad, 2)
        inner: Tensor | None = None
        if d_values is not None:
            inner = eye_like(vectors) * ops.unsqueeze(d_values, -2)
        if d_vectors is not None:
            gaps = ops.unsqueeze(values, -2) - ops.unsqueeze(values, -1)
            turned = ops.matmul(transpose(vectors), d_vectors) * _reciprocal_off_diagonal(gaps)
            inner = turned if inner is None else inner + turned
        assert inner is not None
        return ops.matmul(vectors, ops.matmul(inner, transpose(vectors)))


def _reciprocal_off_diagonal(gaps: Tensor) -> Tensor:
    """1 / gaps, and 0 on the diagonal."""
    eye = eye_like(gaps)
    return (1.0 - eye) / (gaps + eye)


class SVDFactors(TensorTupleOp):
    """A = U·diag(s)·Vᵀ. With F_ij = 1/(s_j² - s_i²) and skew(X) = X - Xᵀ,

    dA = U·(diag(ds) + (F∘skew(Uᵀ·dU))·diag(s) + diag(s)·(F∘skew(Vᵀ·dV)))·Vᵀ, plus what dU and dV
    have outside of the spaces that U and V span.
    """

    takes_sparse_gradients = True

    def __init__(self, full_matrices: bool) -> None:
        self.full_matrices = full_matrices

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        factors = np.linalg.svd(to_host(a, "svd"), self.full_matrices)
        return tuple(from_host(x, a) for x in factors)

    def gradient(self, out_grad: TensorTuple | SparseGradients, node: TensorTuple) -> Tensor:
        u, s, vt = tuple(node)
        du, ds, dvt = members(out_grad, 3)
        rank = s.shape[-1]
        if u.shape[-1] > rank or vt.shape[-2] > rank:
            if du is not None or dvt is not None:
                raise RuntimeError(
                    "[svd] singular vectors of full_matrices=True have no gradient where the "
                    "matrices are not square: full_matrices=False"
                )
            u, s, vt = SVDFactors(False)(node.inputs[0])
        v = transpose(vt)
        dv = None if dvt is None else transpose(dvt)
        across, down = ops.unsqueeze(s, -2), ops.unsqueeze(s, -1)
        inner = constant(np.zeros(()), s) if ds is None else _diagonal_of(ds)
        reciprocal = _reciprocal_off_diagonal(across * across - down * down)
        if du is not None:
            inner = inner + reciprocal * _skew(ops.matmul(transpose(u), du)) * across
        if dv is not None:
            inner = inner + down * reciprocal * _skew(ops.matmul(vt, dv))
        da = ops.matmul(u, ops.matmul(inner, vt))
        if du is not None and u.shape[-2] > rank:
            da = da + ops.matmul(_outside(u, du) / across, vt)
        if dv is not None and v.shape[-2] > rank:
            da = da + ops.matmul(u, transpose(_outside(v, dv) / across))
        return da


def _diagonal_of(x: Tensor) -> Tensor:
    """Diagonal matrices of the given diagonals."""
    return constant(np.eye(x.shape[-1]), x) * ops.unsqueeze(x, -2)


def _skew(x: Tensor) -> Tensor:
    return x - transpose(x)


def _outside(basis: Tensor, x: Tensor) -> Tensor:
    """The component of x that is orthogonal to the columns of `basis`."""
    return x - ops.matmul(basis, ops.matmul(transpose(basis), x))


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The triangular L with L·Lᵀ = A.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        Symmetric and positive definite; its lower triangle is read.
    upper : bool
        Whether to return Lᵀ.

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    ValueError
        If the matrices are not square.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.cholesky(ndl.Tensor([[4, 2], [2, 5]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    factor = Cholesky()(as_matrix(A, "cholesky", square=True))
    return transpose(factor) if upper else factor


def qr(A: Tensor, mode: Literal["reduced", "complete"] = "reduced") -> QR:
    """A = Q·R, Q with orthonormal columns and R upper triangular.

    Parameters
    ----------
    A : Tensor, shape (..., m, n)
    mode : {"reduced", "complete"}
        Whether Q has min(m, n) columns, or m. The latter has a gradient for m ≤ n only.

    Returns
    -------
    QR
        The named tuple (Q, R).

    Raises
    ------
    ValueError
        If `mode` is unknown or `A` has fewer than two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> q, r = ndl.linalg.qr(ndl.ones(3, 2))
    >>> q.shape, r.shape
    ((3, 2), (2, 2))
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"[qr] mode must be reduced or complete, got {mode!r}")
    return QR(*QRFactors(mode)(as_matrix(A, "qr")))


def eigh(A: Tensor, UPLO: Literal["L", "U"] = "L") -> Eigh:
    """Eigenvalues, in ascending order, and orthonormal eigenvectors of symmetric matrices.

    The gradient of the eigenvectors is not finite where eigenvalues are equal.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        Symmetric.
    UPLO : {"L", "U"}
        The triangle that is read.

    Returns
    -------
    Eigh
        The named tuple (eigenvalues (..., n), eigenvectors (..., n, n)), one in each column.

    Raises
    ------
    ValueError
        If the matrices are not square or `UPLO` is unknown.

    Examples
    --------
    >>> import needle as ndl
    >>> values, vectors = ndl.linalg.eigh(ndl.Tensor([[2, 0], [0, 1]]))
    >>> values.tolist()
    [1.0, 2.0]
    """
    if UPLO not in ("L", "U"):
        raise ValueError(f"[eigh] UPLO must be L or U, got {UPLO!r}")
    return Eigh(*EighFactors(UPLO)(as_matrix(A, "eigh", square=True)))


def eigvalsh(A: Tensor, UPLO: Literal["L", "U"] = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, in ascending order.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        Symmetric.
    UPLO : {"L", "U"}
        The triangle that is read.

    Returns
    -------
    Tensor, shape (..., n)

    Raises
    ------
    ValueError
        If the matrices are not square or `UPLO` is unknown.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.eigvalsh(ndl.Tensor([[2, 0], [0, 1]])).tolist()
    [1.0, 2.0]
    """
    return eigh(A, UPLO).eigenvalues


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """A = U·diag(S)·Vh, U and Vhᵀ with orthonormal columns.

    The gradients of U and Vh are not finite where singular values are equal, or 0 in a matrix that
    is not square.

    Parameters
    ----------
    A : Tensor, shape (..., m, n)
    full_matrices : bool
        Whether U and Vh are square; where the matrices are not, these have no gradient then.

    Returns
    -------
    SVD
        The named tuple (U, S, Vh); S (..., min(m, n)) is in descending order.

    Raises
    ------
    ValueError
        If `A` has fewer than two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> u, s, vh = ndl.linalg.svd(ndl.ones(3, 2), full_matrices=False)
    >>> u.shape, s.shape, vh.shape
    ((3, 2), (2,), (2, 2))
    """
    return SVD(*SVDFactors(bool(full_matrices))(as_matrix(A, "svd")))


def svdvals(A: Tensor) -> Tensor:
    """The singular values, in descending order.

    Parameters
    ----------
    A : Tensor, shape (..., m, n)

    Returns
    -------
    Tensor, shape (..., min(m, n))

    Raises
    ------
    ValueError
        If `A` has fewer than two axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.svdvals(ndl.Tensor([[0, 2], [1, 0]])).tolist()
    [2.0, 1.0]
    """
    return svd(A, full_matrices=False).S
