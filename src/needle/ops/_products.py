"""Products of vectors and matrices under the names of linear algebra, all of them by `matmul`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis
from ._common import rounds_once
from ._comparison import maximum, where
from ._elementwise import abs
from ._joining import concatenate
from ._linalg import matmul
from ._reduction import amax, norm, summation
from ._shape import permute, reshape, transpose, unsqueeze
from ._views import broadcast_tensors


def _checked(what: str, *operands: tuple[str, Tensor, int]) -> None:
    for name, x, ndim in operands:
        if x.ndim != ndim:
            raise ValueError(f"[{what}] {name} must have {ndim} axes, got shape {x.shape}")


def mm(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, (n, k) by (k, m).

    `matmul` also takes batches and vectors.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.mm(ndl.Tensor([[1, 2], [3, 4]]), ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[7.0, 10.0], [15.0, 22.0]]
    """
    _checked("mm", ("a", a, 2), ("b", b, 2))
    return matmul(a, b)


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """The products of two batches of matrices, (batch, n, k) by (batch, k, m).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        (batch, n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bmm(ndl.ones(5, 2, 3), ndl.ones(5, 3, 4)).shape
    (5, 2, 4)
    """
    _checked("bmm", ("a", a, 3), ("b", b, 3))
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"[bmm] the batches differ: {a.shape} and {b.shape}")
    return matmul(a, b)


def mv(a: Tensor, b: Tensor) -> Tensor:
    """The product of a matrix (n, k) and a vector (k,).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        (n,).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.mv(ndl.Tensor([[1, 2], [3, 4]]), ndl.ones(2))
    needle.Tensor([3. 7.])
    """
    _checked("mv", ("a", a, 2), ("b", b, 1))
    return matmul(a, b)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors, a number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        A number.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.dot(ndl.Tensor([1, 2]), ndl.Tensor([3, 4])).item()
    11.0
    """
    _checked("dot", ("a", a, 1), ("b", b, 1))
    return matmul(a, b)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner products over the last axes: shape a.shape[:-1] + b.shape[:-1].

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        a.shape[:-1] + b.shape[:-1].

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.inner(ndl.ones(2, 3), ndl.ones(4, 3)).shape
    (2, 4)
    """
    if not a.ndim or not b.ndim:
        return a * b
    rows = reshape(a, (-1, a.shape[-1]))
    columns = reshape(b, (-1, b.shape[-1]))
    return reshape(matmul(rows, transpose(columns)), (*a.shape[:-1], *b.shape[:-1]))


def outer(a: Tensor, b: Tensor) -> Tensor:
    """All products of an element of a vector (n,) and one of a vector (m,): (n, m).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.outer(ndl.Tensor([1, 2]), ndl.Tensor([1, 10])).tolist()
    [[1.0, 10.0], [2.0, 20.0]]
    """
    _checked("outer", ("a", a, 1), ("b", b, 1))
    return unsqueeze(a, 1) * b


def _plus(base: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:  # NaNs of the base do not count then
        return scaled
    return (base if beta == 1 else base * beta) + scaled


def addmm(base: Tensor, a: Tensor, b: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta · base + alpha · (a @ b) of matrices; `base` broadcasts.

    Parameters
    ----------
    base : Tensor
        What the product is added to.
    a : Tensor, shape (n, k)
    b : Tensor, shape (k, m)
    beta : float, default 1
        A factor of `base`; with 0, what is in `base` does not matter.
    alpha : float, default 1
        A factor of the product.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addmm(ndl.ones(2), ndl.Tensor([[1, 2], [3, 4]]), ndl.Tensor([[1, 2], [3, 4]])).tolist()
    [[8.0, 11.0], [16.0, 23.0]]
    """
    return _plus(base, mm(a, b), beta, alpha)


def addmv(base: Tensor, a: Tensor, b: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta · base + alpha · (a @ b) of a matrix and a vector; `base` broadcasts.

    Parameters
    ----------
    base : Tensor
        What the product is added to.
    a : Tensor, shape (n, k)
    b : Tensor, shape (k,)
    beta : float, default 1
        A factor of `base`; with 0, what is in `base` does not matter.
    alpha : float, default 1
        A factor of the product.

    Returns
    -------
    Tensor
        (n,).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addmv(ndl.ones(2), ndl.Tensor([[1, 2], [3, 4]]), ndl.ones(2))
    needle.Tensor([4. 8.])
    """
    return _plus(base, mv(a, b), beta, alpha)


def addr(base: Tensor, a: Tensor, b: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta · base + alpha · outer(a, b); `base` broadcasts.

    Parameters
    ----------
    base : Tensor
        What the product is added to.
    a : Tensor, shape (n,)
    b : Tensor, shape (m,)
    beta : float, default 1
        A factor of `base`; with 0, what is in `base` does not matter.
    alpha : float, default 1
        A factor of the product.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addr(ndl.zeros(2, 2), ndl.ones(2), ndl.Tensor([1, 2])).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    return _plus(base, outer(a, b), beta, alpha)


def baddbmm(base: Tensor, a: Tensor, b: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta · base + alpha · (a @ b) of batches of matrices; `base` broadcasts.

    Parameters
    ----------
    base : Tensor
        What the product is added to.
    a : Tensor, shape (batch, n, k)
    b : Tensor, shape (batch, k, m)
    beta : float, default 1
        A factor of `base`; with 0, what is in `base` does not matter.
    alpha : float, default 1
        A factor of the product.

    Returns
    -------
    Tensor
        (batch, n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.baddbmm(ndl.ones(4), ndl.ones(5, 2, 3), ndl.ones(5, 3, 4)).shape
    (5, 2, 4)
    """
    return _plus(base, bmm(a, b), beta, alpha)


def addbmm(base: Tensor, a: Tensor, b: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta · base + alpha · the sum over the batch of a @ b; `base` broadcasts.

    Parameters
    ----------
    base : Tensor
        What the product is added to.
    a : Tensor, shape (batch, n, k)
    b : Tensor, shape (batch, k, m)
    beta : float, default 1
        A factor of `base`; with 0, what is in `base` does not matter.
    alpha : float, default 1
        A factor of the product.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addbmm(ndl.ones(4), ndl.ones(5, 2, 3), ndl.ones(5, 3, 4)).shape
    (2, 4)
    """
    products = bmm(a, b)
    return _plus(base, summation(products, 0).astype(products.dtype), beta, alpha)


def tensordot(a: Tensor, b: Tensor, axes: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Sum products over pairs of axes.

    Parameters
    ----------
    a, b : Tensor
        Any shapes that agree along the summed axes.
    axes : int or (axes of a, axes of b), default 2
        A number n stands for the last n axes of `a` and the first n of `b`.

    Returns
    -------
    Tensor
        The other axes of `a`, then those of `b`.

    Raises
    ------
    ValueError
        If the lengths along the axes differ.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.tensordot(ndl.ones(2, 3, 4), ndl.ones(4, 3, 5), ([1, 2], [1, 0])).shape
    (2, 5)
    """
    if isinstance(axes, int):
        pairs = (list(range(a.ndim - axes, a.ndim)), list(range(axes)))
    else:
        pairs = (_as_list(axes[0]), _as_list(axes[1]))
    of_a = [normalize_axis(i, a.ndim, "tensordot") for i in pairs[0]]
    of_b = [normalize_axis(i, b.ndim, "tensordot") for i in pairs[1]]
    lengths_a, lengths_b = [a.shape[i] for i in of_a], [b.shape[i] for i in of_b]
    if lengths_a != lengths_b:
        raise ValueError(
            f"[tensordot] the axes {of_a} of {a.shape} and {of_b} of {b.shape} differ in length"
        )
    kept_a = [i for i in range(a.ndim) if i not in of_a]
    kept_b = [i for i in range(b.ndim) if i not in of_b]
    n = math.prod(lengths_a)
    shape = (*(a.shape[i] for i in kept_a), *(b.shape[i] for i in kept_b))
    rows = reshape(permute(a, (*kept_a, *of_a)), (math.prod(a.shape[i] for i in kept_a), n))
    columns = reshape(permute(b, (*of_b, *kept_b)), (n, math.prod(b.shape[i] for i in kept_b)))
    return reshape(matmul(rows, columns), shape)


def _as_list(axes: int | Sequence[int]) -> list[int]:
    return [axes] if isinstance(axes, int) else list(axes)


def kron(a: Tensor, b: Tensor) -> Tensor:
    """The Kronecker product: every element of `a` times the whole of `b`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        The product of the lengths along every axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.kron(ndl.Tensor([1, 2]), ndl.ones(2))
    needle.Tensor([1. 1. 2. 2.])
    """
    ndim = a.ndim if a.ndim > b.ndim else b.ndim
    left = (1,) * (ndim - a.ndim) + a.shape
    right = (1,) * (ndim - b.ndim) + b.shape
    wide_a = reshape(a, tuple(n for i in left for n in (i, 1)))
    wide_b = reshape(b, tuple(n for i in right for n in (1, i)))
    return reshape(wide_a * wide_b, tuple(i * j for i, j in zip(left, right, strict=True)))


def cross(a: Tensor, b: Tensor, axis: int = -1) -> Tensor:
    """The vector product along an axis of length 3; the other axes broadcast.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    axis : int, default -1
        The axis. `dim` is another name of this argument.

    Returns
    -------
    Tensor
        The broadcast shape.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cross(ndl.Tensor([1, 0, 0]), ndl.Tensor([0, 1, 0]))
    needle.Tensor([0. 0. 1.])
    """
    for name, x in (("a", a), ("b", b)):
        if x.shape[normalize_axis(axis, x.ndim, "cross")] != 3:
            raise ValueError(f"[cross] axis {axis} of {name} must have length 3, got {x.shape}")
    at = normalize_axis(axis, a.ndim, "cross") - a.ndim

    def part(x: Tensor, i: int) -> Tensor:
        return x[(..., slice(i, i + 1), *[slice(None)] * (-1 - at))]

    rows = [part(a, i) * part(b, j) - part(a, j) * part(b, i) for i, j in ((1, 2), (2, 0), (0, 1))]
    return concatenate(rows, at)


@rounds_once
def cdist(
    a: Tensor,
    b: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """The distances between all rows of `a` (…, n, d) and `b` (…, m, d): (…, n, m).

    The distance is the p-norm of the difference, for p = inf the largest difference; its gradient
    at 0 is 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    p : float, default 2
        Which norm.
    compute_mode : str
        Of no effect: differences are computed as they are, which is exact.

    Returns
    -------
    Tensor
        (…, n, m).

    Raises
    ------
    ValueError
        For a negative `p`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cdist(ndl.zeros(1, 2), ndl.Tensor([[3, 4]])).item()
    5.0
    """
    if p < 0:
        raise ValueError(f"[cdist] p must not be negative, got {p}")
    gap = abs(unsqueeze(a, -2) - unsqueeze(b, -3))
    if p == 1:
        return summation(gap, -1)
    if p == math.inf:
        return amax(gap, -1)
    if p == 0:
        return summation((gap != 0).astype(gap.dtype), -1)
    total = summation(gap * gap if p == 2 else where(gap == 0, 0.0, _power(gap, p)), -1)
    apart = total != 0  # the root's derivative at 0 is infinite, and is taken as 0
    return where(apart, where(apart, total, 1.0) ** (1.0 / p), 0.0)


def _power(gap: Tensor, p: float) -> Tensor:
    return where(gap == 0, 1.0, gap) ** p


@rounds_once
def pairwise_distance(
    a: Tensor, b: Tensor, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> Tensor:
    """The p-norm of a - b + eps over the last axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    p : float, default 2
        Which norm.
    eps : float, default 1e-6
        Added to the difference.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        The last axis removed.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.pairwise_distance(ndl.zeros(1, 2), ndl.Tensor([[3, 4]])).shape
    (1,)
    """
    return norm(a - b + eps, p, -1, keepdims)


@rounds_once
def cosine_similarity(a: Tensor, b: Tensor, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `axis`: a·b / (max(|a|, eps) max(|b|, eps)).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    axis : int, default 1
        The axis. `dim` is another name of this argument.
    eps : float, default 1e-08
        The smallest length that is divided by.

    Returns
    -------
    Tensor
        The axis removed.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cosine_similarity(ndl.ones(1, 2), ndl.ones(1, 2)).shape
    (1,)
    """
    a, b = broadcast_tensors(a, b)  # an axis that is 1 long in one of them counts, too
    length_a = maximum(norm(a, 2, axis), eps)
    length_b = maximum(norm(b, 2, axis), eps)
    return summation(a * b, axis) / (length_a * length_b)


@rounds_once
def normalize(a: Tensor, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """a / max(|a|, eps) along `axis`, in the p-norm.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    p : float, default 2
        Which norm.
    axis : int, default 1
        The axis. `dim` is another name of this argument.
    eps : float, default 1e-12
        The smallest length that is divided by.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.normalize(ndl.Tensor([[3, 4]])).shape
    (1, 2)
    """
    return a / maximum(norm(a, p, axis, True), eps)


__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cdist", "cosine_similarity", "cross",
    "dot", "inner", "kron", "mm", "mv", "normalize", "outer", "pairwise_distance", "tensordot",
]  # fmt: skip
