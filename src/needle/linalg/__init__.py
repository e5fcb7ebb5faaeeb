"""Linear algebra under the names of `torch.linalg`, on LAPACK through NumPy.

Matrices are the last two axes; the axes before them are a batch. Computation happens on the host:
arrays of a GPU are copied there and back, and a function that `ndl.jit` compiles cannot contain it
(norms and products of matrices need no LAPACK, and can). Gradients are compositions of the same
functions, so that gradients of gradients exist.
"""

from typing import TYPE_CHECKING

from ..module_names import names_of
from ._factorizations import QR, SVD, Eigh, cholesky, eigh, eigvalsh, qr, svd, svdvals
from ._norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from ._products import matrix_exp, matrix_power, multi_dot
from ._solving import (
    LeastSquares,
    SlogDet,
    det,
    inv,
    lstsq,
    pinv,
    slogdet,
    solve,
    solve_triangular,
)

__all__ = [
    "QR",
    "SVD",
    "Eigh",
    "LeastSquares",
    "SlogDet",
    "cholesky",
    "cond",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vector_norm",
]

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.linalg")
