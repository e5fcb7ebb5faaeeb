"""Statistics along axes: compositions of reductions and sorting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import normalize_axis, whole
from ..typing import Axis, Scalar
from ._classification import any, isnan, logical_xor
from ._common import rounds_once
from ._comparison import equal, where
from ._elementwise import sqrt
from ._extremes import slice_at, without_axis
from ._joining import concatenate
from ._math import lerp
from ._reduction import mean, std, summation, var
from ._shape import permute, reshape, unsqueeze
from ._sorting import sort

# ---- moments ------------------------------------------------------------------------------------


def var_mean(
    a: Tensor,
    axis: Axis = None,
    unbiased: bool = True,
    keepdims: bool = False,
    *,
    correction: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(variance, mean) over `axis`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    unbiased : bool, default True
        True divides by n - 1, as PyTorch does; False by n, as NumPy does.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    correction : int, optional
        What is subtracted from n instead. `ddof` is another name.

    Returns
    -------
    tuple of Tensor
        Floats.

    Examples
    --------
    >>> import needle as ndl
    >>> [t.item() for t in ndl.var_mean(ndl.Tensor([1, 2, 3]))]
    [1.0, 2.0]
    """
    spread = var(a, axis, unbiased, keepdims, correction=correction)
    return spread, mean(a, None if isinstance(axis, bool) else axis, keepdims)


def std_mean(
    a: Tensor,
    axis: Axis = None,
    unbiased: bool = True,
    keepdims: bool = False,
    *,
    correction: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over `axis`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    unbiased : bool, default True
        True divides by n - 1, as PyTorch does; False by n, as NumPy does.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    correction : int, optional
        What is subtracted from n instead. `ddof` is another name.

    Returns
    -------
    tuple of Tensor
        Floats.

    Examples
    --------
    >>> import needle as ndl
    >>> [t.item() for t in ndl.std_mean(ndl.Tensor([1, 2, 3]))]
    [1.0, 2.0]
    """
    spread = std(a, axis, unbiased, keepdims, correction=correction)
    return spread, mean(a, None if isinstance(axis, bool) else axis, keepdims)


def nansum(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum of the elements over `axis` that are not NaN.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        The dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nansum(ndl.Tensor([1.0, float("nan")])).item()
    1.0
    """
    return summation(where(isnan(a), 0, a) if is_float(a.dtype) else a, axis, keepdims)


def nanmean(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of the elements over `axis` that are not NaN.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        Floats.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nanmean(ndl.Tensor([1.0, float("nan"), 3.0])).item()
    2.0
    """
    count = summation(equal(a, a), axis, keepdims)
    return nansum(a, axis, keepdims) / count.astype(a.dtype if is_float(a.dtype) else "float32")


# ---- by order -----------------------------------------------------------------------------------


@rounds_once
def quantile(
    a: Tensor,
    q: Scalar | Sequence[float] | Tensor,
    axis: int | None = None,
    keepdims: bool = False,
    interpolation: str = "linear",
) -> Tensor:
    """Quantiles of the elements along an axis.

    Parameters
    ----------
    a : Tensor
        Any shape, not empty.
    q : number, sequence or vector
        In [0, 1]. Several give a new first axis.
    axis : int, optional
        None takes all elements. `dim` is another name.
    keepdims : bool, default False
        Whether `axis` stays, with length 1.
    interpolation : {"linear", "lower", "higher", "nearest", "midpoint"}
        What is taken between two elements.

    Returns
    -------
    Tensor
        NaN where an element is NaN.

    Raises
    ------
    ValueError
        If `q` is outside [0, 1], there are no elements, or for another `interpolation`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.quantile(ndl.Tensor([1, 2, 3, 4]), 0.5).item()
    2.5
    """
    given = np.asarray(q.numpy() if isinstance(q, Tensor) else q, dtype=np.float64)
    if given.ndim > 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"[quantile] q must be numbers in [0, 1], got {q}")
    if interpolation not in ("linear", "lower", "higher", "nearest", "midpoint"):
        raise ValueError(
            "[quantile] interpolation must be 'linear', 'lower', 'higher', 'nearest' or "
            f"'midpoint', got {interpolation!r}"
        )
    if axis is None:
        at, ndim = 0, a.ndim
        a = reshape(a, (-1,))
    else:
        at, ndim = normalize_axis(axis, a.ndim, "quantile"), a.ndim
    if not a.shape[at]:
        raise ValueError(f"[quantile] there are no elements in shape {a.shape}")
    values, _ = sort(a, at)
    values = where(any(isnan(a), at, True), math.nan, values)
    found = [_between(values, at, float(p), interpolation) for p in given.reshape(-1)]
    if axis is None:
        found = [reshape(x, (1,) * ndim if keepdims else ()) for x in found]
    else:
        found = [without_axis(x, at, keepdims) for x in found]
    if not given.ndim:
        return found[0]
    return concatenate([unsqueeze(x, 0) for x in found], 0)


def _between(values: Tensor, axis: int, q: float, interpolation: str) -> Tensor:
    position = q * (values.shape[axis] - 1)
    low, high = math.floor(position), math.ceil(position)
    below, above = slice_at(axis, values, low), slice_at(axis, values, high)
    if interpolation == "linear":
        return lerp(below, above, position - low)
    if interpolation == "midpoint":
        return (below + above) * 0.5
    if interpolation == "nearest":
        return slice_at(axis, values, round(position))
    return below if interpolation == "lower" else above


def msort(a: Tensor) -> Tensor:
    """The values sorted along axis 0.

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
    >>> ndl.msort(ndl.Tensor([3, 1, 2]))
    needle.Tensor([1. 2. 3.])
    """
    return sort(a, 0)[0]


def diff(
    a: Tensor,
    n: int = 1,
    axis: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th differences of neighbors along `axis`; of bools, whether they differ.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    n : int, default 1
        How often.
    axis : int, default -1
        The axis. `dim` is another name of this argument.
    prepend, append : Tensor, optional
        What stands before and after `a` along the axis.

    Returns
    -------
    Tensor
        The axis is shorter by `n`.

    Raises
    ------
    ValueError
        If `a` does not have the axis or `n` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.diff(ndl.Tensor([1, 4, 9]))
    needle.Tensor([3. 5.])
    """
    at, times = normalize_axis(axis, a.ndim, "diff"), whole(n, "diff", "n")
    if times < 0:
        raise ValueError(f"[diff] n must not be negative, got {n}")
    if times and (prepend is not None or append is not None):
        a = concatenate([x for x in (prepend, a, append) if x is not None], at)
    lead = (slice(None),) * at
    for _ in range(times):
        after, before = a[(*lead, slice(1, None))], a[(*lead, slice(0, -1))]
        a = logical_xor(after, before) if a.dtype.kind == "b" else after - before
    return a


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule.

    Parameters
    ----------
    y : Tensor
        The values of a function.
    x : Tensor, optional
        Where they are; equally far apart by default.
    dx : float, default 1
        How far apart.
    axis : int, default -1
        The axis. `dim` is another name of this argument.

    Returns
    -------
    Tensor
        One axis less.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.trapezoid(ndl.Tensor([1, 5, 10])).item()
    10.5
    """
    at = normalize_axis(axis, y.ndim, "trapezoid")
    lead = (slice(None),) * at
    pairs = y[(*lead, slice(1, None))] + y[(*lead, slice(0, -1))]
    if x is None:
        return summation(pairs * dx, at) / 2
    if x.ndim == 1:
        x = reshape(x, (1,) * at + (-1,) + (1,) * (y.ndim - at - 1))
    elif x.ndim < y.ndim:
        x = reshape(x, (1,) * (y.ndim - x.ndim) + x.shape)
    return summation(pairs * diff(x, 1, at), at) / 2


# ---- of vectors ---------------------------------------------------------------------------------


@rounds_once
def cov(
    a: Tensor,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariance matrix of variables (rows) from observations (columns).

    Parameters
    ----------
    a : Tensor, shape (variables, n) or (n,)
        A vector is one variable.
    correction : int, default 1
        What is subtracted from the number of observations. `ddof` is another name.
    fweights : Tensor, shape (n,), optional
        How often each observation occurred: integers.
    aweights : Tensor, shape (n,), optional
        How much each observation counts: not negative.

    Returns
    -------
    Tensor
        A row and a column for each variable; a number for one variable.

    Raises
    ------
    ValueError
        If `a` has more than two axes or weights have another shape than (n,).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cov(ndl.Tensor([[1, 2, 3], [3, 2, 1]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if a.ndim > 2:
        raise ValueError(f"[cov] needs a matrix (variables, n) or a vector, got shape {a.shape}")
    rows = a if a.ndim == 2 else reshape(a, (1, -1))
    variables, n = rows.shape
    for name, weights in (("fweights", fweights), ("aweights", aweights)):
        if weights is not None and weights.shape != (n,):
            raise ValueError(f"[cov] {name} must have shape ({n},), got {weights.shape}")
    if fweights is None and aweights is None:
        centered = rows - mean(rows, 1, True)
        found = centered @ permute(centered, (1, 0)) / float(n - correction)
    else:
        found = _weighted_covariance(rows, correction, fweights, aweights)
    return found if variables > 1 else reshape(found, ())


def _weighted_covariance(
    rows: Tensor, correction: int, fweights: Tensor | None, aweights: Tensor | None
) -> Tensor:
    """The normalization is NumPy's, that of `np.cov`."""
    given = [w.astype(rows.dtype) for w in (fweights, aweights) if w is not None]
    weights = given[0] if len(given) == 1 else given[0] * given[1]
    total = summation(weights)
    centered = rows - summation(rows * weights, 1, True) / total
    counted = correction * (
        summation(weights * aweights.astype(rows.dtype)) / total if aweights is not None else 1.0
    )
    return (centered * weights) @ permute(centered, (1, 0)) / (total - counted)


@rounds_once
def corrcoef(a: Tensor) -> Tensor:
    """The correlation coefficients of variables (rows) from observations (columns).

    Parameters
    ----------
    a : Tensor, shape (variables, n) or (n,)
        A vector is one variable.

    Returns
    -------
    Tensor
        A row and a column for each variable; a number for one variable.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.corrcoef(ndl.Tensor([1, 2, 3])).item()
    1.0
    """
    c = cov(a)
    if not c.ndim:
        return c / c
    deviation = sqrt(c[np.arange(c.shape[0]), np.arange(c.shape[0])])
    return c / (unsqueeze(deviation, 1) * deviation)


__all__ = [
    "corrcoef",
    "cov",
    "diff",
    "msort",
    "nanmean",
    "nansum",
    "quantile",
    "std_mean",
    "trapezoid",
    "var_mean",
]
