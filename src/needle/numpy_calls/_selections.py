"""Functions that choose, search and replace, with NumPy's names and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..autograd import Tensor
from ..operands import ArrayLike, Operand
from ..typing import Scalar


def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    return nonzero(condition) if x is None and y is None else ops.where(condition, x, y)


def select(condlist: Sequence[Tensor], choicelist: Sequence[Any], default: Operand = 0) -> Any:
    result: Any = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = ops.where(condition, choice, result)
    return result


def clip(
    a: Tensor, a_min: Operand | None = None, a_max: Operand | None = None, out: Any = None, *,
    min: Operand | None = None, max: Operand | None = None,
) -> Tensor:  # fmt: skip
    return ops.clamp(a, a_min if min is None else min, a_max if max is None else max)


def take(a: Tensor, indices: ArrayLike | int, axis: int | None = None, out: Any = None) -> Tensor:
    return ops.take(a, indices, axis)


def take_along_axis(arr: Tensor, indices: ArrayLike, axis: int | None = -1) -> Tensor:
    return ops.take_along_dim(arr, indices, axis)


def nonzero(a: Tensor) -> Any:
    return ops.nonzero(a, as_tuple=True)


def flatnonzero(a: Tensor) -> Tensor:
    found: Tensor = nonzero(ops.ravel(a))[0]
    return found


def argwhere(a: Tensor) -> Tensor:
    return ops.argwhere(a)


def unique(
    ar: Tensor, *, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None,
) -> Any:  # fmt: skip
    return ops.unique(ar, return_inverse=return_inverse, return_counts=return_counts, axis=axis)


def searchsorted(a: Tensor, v: Tensor | Scalar, side: str = "left") -> Tensor:
    return ops.searchsorted(a, v, side=side)


def isin(
    element: Tensor, test_elements: Any, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    return ops.isin(element, test_elements, invert)


def bincount(x: Tensor, /, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    return ops.bincount(x, weights, minlength)


def isclose(
    a: Tensor, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    return ops.isclose(a, b, rtol, atol, equal_nan)


def nan_to_num(
    x: Tensor, copy: bool = True, nan: float = 0.0, posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:  # fmt: skip
    return ops.nan_to_num(x, nan, posinf, neginf)


def round(a: Tensor, decimals: int = 0, out: Any = None) -> Tensor:
    return ops.round(a, decimals)


def fix(x: Tensor, out: Any = None) -> Tensor:
    return ops.trunc(x)


def isposinf(x: Tensor, out: Any = None) -> Tensor:
    return ops.isposinf(x)


def isneginf(x: Tensor, out: Any = None) -> Tensor:
    return ops.isneginf(x)


def sinc(x: Tensor) -> Tensor:
    return ops.sinc(x)


def real(val: Tensor) -> Tensor:
    return val


def iscomplexobj(x: Tensor) -> bool:
    return False


def isrealobj(x: Tensor) -> bool:
    return True


around = round

__all__ = [
    "argwhere", "around", "bincount", "clip", "fix", "flatnonzero", "isclose", "iscomplexobj",
    "isin", "isneginf", "isposinf", "isrealobj", "nan_to_num", "nonzero", "real", "round",
    "searchsorted", "select", "sinc", "take", "take_along_axis", "unique", "where",
]  # fmt: skip
