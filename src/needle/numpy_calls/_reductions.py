"""Reductions and functions along an axis, with NumPy's names and arguments."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..autograd import Tensor
from ..typing import Axis, DTypeLike, Scalar

# `out` is taken by the caller: see `_calls.call`.


def sum(
    a: Tensor, axis: Axis = None, dtype: DTypeLike | None = None, out: Any = None,
    keepdims: bool = False,
) -> Tensor:  # fmt: skip
    return ops.summation(a, axis, keepdims, dtype=dtype)


def prod(
    a: Tensor, axis: Axis = None, dtype: DTypeLike | None = None, out: Any = None,
    keepdims: bool = False,
) -> Tensor:  # fmt: skip
    return ops.prod(a, axis, keepdims, dtype=dtype)


def mean(
    a: Tensor, axis: Axis = None, dtype: DTypeLike | None = None, out: Any = None,
    keepdims: bool = False,
) -> Tensor:  # fmt: skip
    return ops.mean(a, axis, keepdims, dtype=dtype)


def var(
    a: Tensor, axis: Axis = None, dtype: DTypeLike | None = None, out: Any = None, ddof: int = 0,
    keepdims: bool = False, *, correction: int = 0,
) -> Tensor:  # fmt: skip
    a = a if dtype is None else a.astype(dtype)
    return ops.var(a, axis, keepdims=keepdims, correction=ddof or correction)


def std(
    a: Tensor, axis: Axis = None, dtype: DTypeLike | None = None, out: Any = None, ddof: int = 0,
    keepdims: bool = False, *, correction: int = 0,
) -> Tensor:  # fmt: skip
    a = a if dtype is None else a.astype(dtype)
    return ops.std(a, axis, keepdims=keepdims, correction=ddof or correction)


def max(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.amax(a, axis, keepdims)


def min(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.amin(a, axis, keepdims)


def ptp(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.amax(a, axis, keepdims) - ops.amin(a, axis, keepdims)


def all(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.all(a, axis, keepdims)


def any(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.any(a, axis, keepdims)


def logsumexp(a: Tensor, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Tensor:
    return ops.logsumexp(a, axis, keepdims)


def count_nonzero(a: Tensor, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return ops.summation(a != 0, axis, keepdims)


def argmax(
    a: Tensor, axis: int | None = None, out: Any = None, *, keepdims: bool = False
) -> Tensor:
    return ops.argmax(a, axis, keepdims)


def argmin(
    a: Tensor, axis: int | None = None, out: Any = None, *, keepdims: bool = False
) -> Tensor:
    return ops.argmin(a, axis, keepdims)


def average(
    a: Tensor, axis: Axis = None, weights: Tensor | None = None, *, keepdims: bool = False
) -> Tensor:
    if weights is None:
        return ops.mean(a, axis, keepdims)
    if weights.ndim < a.ndim and isinstance(axis, int):
        weights = ops.reshape(weights, [-1 if i == axis % a.ndim else 1 for i in range(a.ndim)])
    total = ops.summation(ops.broadcast_to(weights, a.shape), axis, keepdims)
    return ops.summation(a * weights, axis, keepdims) / total


def nansum(
    a: Tensor, axis: Axis = None, dtype: None = None, out: Any = None, keepdims: bool = False
) -> Tensor:
    return ops.nansum(a, axis, keepdims)


def nanmean(
    a: Tensor, axis: Axis = None, dtype: None = None, out: Any = None, keepdims: bool = False
) -> Tensor:
    return ops.nanmean(a, axis, keepdims)


def median(
    a: Tensor, axis: int | None = None, out: Any = None, overwrite_input: bool = False,
    keepdims: bool = False,
) -> Tensor:  # fmt: skip
    return ops.quantile(a, 0.5, axis, keepdims)


def quantile(
    a: Tensor, q: Any, axis: int | None = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Tensor:  # fmt: skip
    return ops.quantile(a, q, axis, keepdims, method)


def percentile(
    a: Tensor, q: Any, axis: int | None = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Tensor:  # fmt: skip
    parts = [x / 100 for x in q] if isinstance(q, (list, tuple)) else q / 100
    return ops.quantile(a, parts, axis, keepdims, method)


# ---- along an axis ------------------------------------------------------------------------------


def cumsum(
    a: Tensor, axis: int | None = None, dtype: DTypeLike | None = None, out: Any = None
) -> Tensor:
    return ops.cumsum(*_flat(a, axis), dtype=dtype)


def cumprod(a: Tensor, axis: int | None = None, dtype: None = None, out: Any = None) -> Tensor:
    return ops.cumprod(*_flat(a, axis))


def _flat(a: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """NumPy's functions take the flattened elements where they get no axis."""
    return (ops.ravel(a), 0) if axis is None else (a, axis)


def diff(a: Tensor, n: int = 1, axis: int = -1) -> Tensor:
    return ops.diff(a, n, axis)


def trapezoid(y: Tensor, x: Tensor | None = None, dx: Scalar = 1.0, axis: int = -1) -> Tensor:
    y = ops.movedim(y, axis, -1)
    if x is None:
        widths: Any = dx
    else:
        widths = ops.diff(x if x.ndim == 1 else ops.movedim(x, axis, -1))
    return ops.summation((y[..., 1:] + y[..., :-1]) * 0.5 * widths, -1)


def sort(a: Tensor, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Tensor:
    return ops.sort(*_flat(a, axis))[0]


def argsort(a: Tensor, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Tensor:
    return ops.argsort(*_flat(a, axis))


def cov(m: Tensor, *, ddof: int = 1) -> Tensor:
    return ops.cov(m, ddof)


def corrcoef(x: Tensor) -> Tensor:
    return ops.corrcoef(x)


amax, amin, trapz = max, min, trapezoid

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "average", "corrcoef",
    "count_nonzero", "cov", "cumprod", "cumsum", "diff", "logsumexp", "max", "mean", "median",
    "min", "nanmean", "nansum", "percentile", "prod", "ptp", "quantile", "sort", "std", "sum",
    "trapezoid", "trapz", "var",
]  # fmt: skip
