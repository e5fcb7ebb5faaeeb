"""The functions of `np.linalg`, with NumPy's names and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import linalg
from ..autograd import Tensor
from ..typing import Axis


def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return linalg.norm(x, ord, axis, keepdims)


def vector_norm(
    x: Tensor, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    return linalg.vector_norm(x, ord, axis, keepdims)


def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    return linalg.matrix_norm(x, ord, keepdims=keepdims)


def inv(a: Tensor) -> Tensor:
    return linalg.inv(a)


def det(a: Tensor) -> Tensor:
    return linalg.det(a)


def slogdet(a: Tensor) -> linalg.SlogDet:
    return linalg.slogdet(a)


def solve(a: Tensor, b: Tensor) -> Tensor:
    return linalg.solve(a, b)


def cholesky(a: Tensor, /, *, upper: bool = False) -> Tensor:
    return linalg.cholesky(a, upper=upper)


def qr(a: Tensor, mode: Any = "reduced") -> linalg.QR:
    return linalg.qr(a, mode)


def svd(a: Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return linalg.svd(a, full_matrices) if compute_uv else linalg.svdvals(a)


def svdvals(x: Tensor, /) -> Tensor:
    return linalg.svdvals(x)


def eigh(a: Tensor, UPLO: Any = "L") -> linalg.Eigh:
    return linalg.eigh(a, UPLO)


def eigvalsh(a: Tensor, UPLO: Any = "L") -> Tensor:
    return linalg.eigvalsh(a, UPLO)


def pinv(a: Tensor, rcond: float | None = None) -> Tensor:
    return linalg.pinv(a, rtol=rcond)


def matrix_power(a: Tensor, n: int) -> Tensor:
    return linalg.matrix_power(a, n)


def matrix_rank(A: Tensor) -> Tensor:
    return linalg.matrix_rank(A)


def multi_dot(arrays: Sequence[Tensor], *, out: Any = None) -> Tensor:
    return linalg.multi_dot(arrays)


def cond(x: Tensor, p: Any = None) -> Tensor:
    return linalg.cond(x, p)


__all__ = [
    "cholesky", "cond", "det", "eigh", "eigvalsh", "inv", "matrix_norm", "matrix_power",
    "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "svd", "svdvals",
    "vector_norm",
]  # fmt: skip
