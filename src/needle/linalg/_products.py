"""Products of matrices: powers, the exponential, chains in the best order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..ops import matmul
from ._host import as_floats, as_matrix, eye_like, to_host
from ._solving import inv

# Terms of the Taylor series that leave less than eps of e^A for ‖A‖ ≤ 1.
TAYLOR_TERMS = {"float32": 11, "float64": 18}


def matrix_power(A: Tensor, n: int) -> Tensor:
    """The n-th power of each matrix, by repeated squaring.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
    n : int
        0 gives the identity; a negative one is a power of the inverse.

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    ValueError
        If the matrices are not square.
    TypeError
        If `n` is no integer.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.matrix_power(ndl.Tensor([[1, 1], [0, 1]]), 5).tolist()
    [[1.0, 5.0], [0.0, 1.0]]
    """
    a, n = as_matrix(A, "matrix_power", square=True), whole(n, "matrix_power", "n")
    if n == 0:
        return a * 0.0 + eye_like(a)
    square, result = inv(a) if n < 0 else a, None
    for bit in reversed(f"{abs(n):b}"):
        if bit == "1":
            result = square if result is None else matmul(result, square)
        if bit != "1" or result is not square or abs(n) > 1:
            square = matmul(square, square)
    assert result is not None
    return result


def matrix_exp(A: Tensor) -> Tensor:
    """The exponential I + A + A²/2! + … of each matrix.

    By scaling and squaring: the series of A / 2^s, whose norm is at most 1, is squared s times
    (Moler and Van Loan, "Nineteen dubious ways to compute the exponential of a matrix", 2003).

    Parameters
    ----------
    A : Tensor, shape (..., n, n)

    Returns
    -------
    Tensor, shape (..., n, n)

    Raises
    ------
    ValueError
        If the matrices are not square.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.matrix_exp(ndl.Tensor([[0, 2], [0, 0]])).tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    """
    a = as_matrix(A, "matrix_exp", square=True)
    host = to_host(a.realize_cached_data(), "matrix_exp")
    largest = float(np.abs(host).sum(-1).max(initial=0))
    squarings = max(0, math.ceil(math.log2(largest))) if 0 < largest < math.inf else 0
    scaled, eye = a * 2.0**-squarings, eye_like(a)
    result = scaled * 0.0 + eye
    for k in range(TAYLOR_TERMS[a.dtype.name], 0, -1):
        result = eye + matmul(scaled, result) * (1 / k)
    for _ in range(squarings):
        result = matmul(result, result)
    return result


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices, in the order that takes the fewest multiplications.

    Parameters
    ----------
    tensors : sequence of Tensor, shape (m, n)
        Two or more. The first may be a row (n,), the last a column (m,).

    Returns
    -------
    Tensor
        Without the axis of a row or column.

    Raises
    ------
    ValueError
        If there are fewer than two, or the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linalg.multi_dot([ndl.ones(10, 100), ndl.ones(100, 5), ndl.ones(5)]).shape
    (10,)
    """
    chain = [as_floats(x, "multi_dot", "each") for x in tensors]
    if len(chain) < 2:
        raise ValueError(f"[multi_dot] needs at least two matrices, got {len(chain)}")
    row, column = chain[0].ndim == 1, chain[-1].ndim == 1
    chain[0] = ops.unsqueeze(chain[0], 0) if row else chain[0]
    chain[-1] = ops.unsqueeze(chain[-1], 1) if column else chain[-1]
    shapes = [x.shape for x in chain]
    if any(x.ndim != 2 for x in chain) or any(a[1] != b[0] for a, b in pairwise(shapes)):
        raise ValueError(f"[multi_dot] matrices of shapes {shapes} do not fit")
    result = _product(chain, _best_splits([shapes[0][0], *(s[1] for s in shapes)]))
    shape = result.shape[1 if row else 0 : 1 if column else 2]
    return ops.reshape(result, shape)


Splits = dict[tuple[int, int], int]


def _best_splits(sizes: list[int]) -> Splits:
    """Where to split the product of the matrices i … j; matrix i is sizes[i] × sizes[i + 1]."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    splits: Splits = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], splits[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return splits


def _product(chain: list[Tensor], splits: Splits) -> Tensor:
    def part(i: int, j: int) -> Tensor:
        if i == j:
            return chain[i]
        k = splits[i, j]
        return matmul(part(i, k), part(k + 1, j))

    return part(0, len(chain) - 1)
