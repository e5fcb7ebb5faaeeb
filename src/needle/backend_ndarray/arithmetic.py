"""Element-wise arithmetic of arrays: operators, comparisons and functions such as `exp`.

The operands are brought to one dtype and one shape here. The device's `unary`, `binary` or
`binary_scalar` then computes. `NDArray` lists these functions as its methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..typing import Scalar
from .dtypes import (
    BOOL,
    FLOAT32,
    INT64,
    SCALARS,
    UINT8,
    as_threshold,
    checked_integer,
    float_dtype,
    is_float,
    is_stored,
    promote,
    promote_scalar,
    python_number,
)
from .layout import broadcast_shapes
from .symbolic import HostNumber

if TYPE_CHECKING:
    from .ndarray import NDArray

COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
# Arithmetic in which two bools count as the integers 0 and 1. Sums and products of bools are
# logical "or" and "and", as in NumPy.
_COUNTING = frozenset(("floor_div", "mod", "pow", "left_shift", "right_shift"))
_COMPARABLE = (*SCALARS, np.ndarray, list, tuple)


# ---- one operand --------------------------------------------------------------------------------


def in_float32(
    function: Callable[..., NDArray], x: NDArray, *args: object, dtype: np.dtype | None = None
) -> NDArray:
    """`function` of the float32 values of a float16 or bfloat16 array, rounded once."""
    return function(x.astype(FLOAT32), *args).astype(dtype or x._dtype)


def unary(x: NDArray, op: str, dtype: np.dtype | None = None) -> NDArray:
    """The device's unary operation of that name; the result has `dtype` or x's own."""
    if is_stored(x._dtype):
        return in_float32(unary, x, op, dtype, dtype=dtype)
    out = x._empty_like(dtype or x._dtype)
    x._device.unary(op, x, out)
    return out


def unary_float(x: NDArray, op: str) -> NDArray:
    """A unary operation whose result is floating; integers become float32 first."""
    if not is_float(x._dtype):
        return unary(x.astype(FLOAT32), op)
    return unary(x, op)


def rounded(x: NDArray, op: str) -> NDArray:
    """The integers that `floor`, `ceil` or `round` finds, in x's dtype."""
    return unary(x, op) if is_float(x._dtype) else x.copy()


def neg(x: NDArray) -> NDArray:
    return unary(_as_operand("neg", x), "neg")


def abs_(x: NDArray) -> NDArray:
    return unary(x, "abs")


def log(x: NDArray) -> NDArray:
    """Natural logarithm."""
    return unary_float(x, "log")


def exp(x: NDArray) -> NDArray:
    """e to the power of each element."""
    return unary_float(x, "exp")


def tanh(x: NDArray) -> NDArray:
    """Hyperbolic tangent."""
    return unary_float(x, "tanh")


def sqrt(x: NDArray) -> NDArray:
    """Square root; NaN for negative elements."""
    return unary_float(x, "sqrt")


def sigmoid(x: NDArray) -> NDArray:
    """1 / (1 + exp(-x)), without overflow."""
    return unary_float(x, "sigmoid")


def relu(x: NDArray) -> NDArray:
    """max(x, 0)."""
    return unary(x, "relu")


def isnan(x: NDArray) -> NDArray:
    """A bool array: where the elements are NaN."""
    return unary(x, "isnan", BOOL)


def isfinite(x: NDArray) -> NDArray:
    """A bool array: where the elements are neither NaN nor infinite."""
    return unary(x, "isfinite", BOOL)


# ---- two operands -------------------------------------------------------------------------------


def binary(x: NDArray, op: str, other: object, dtype: np.dtype | None = None) -> NDArray:
    """`x op other` with broadcasting; the result has `dtype` or the promoted dtype."""
    if isinstance(other, SCALARS):
        return binary_scalar(x, op, other, False, dtype)
    if is_stored(x._dtype) and isinstance(other, HostNumber):
        return in_float32(binary, x, op, other, dtype, dtype=dtype)
    a, b = x, x._coerce(other)
    if a._dtype is not b._dtype:
        common = promote(a._dtype, b._dtype)
        a, b = a.astype(common), b.astype(common)
    if a._dtype is BOOL:
        a, b = _as_operand(op, a), _as_operand(op, b)
    elif is_stored(a._dtype):
        return in_float32(binary, a, op, b.astype(FLOAT32), dtype, dtype=dtype)
    if a._shape != b._shape:
        shape = broadcast_shapes(a._shape, b._shape, op)
        a, b = a._broadcast(shape), b._broadcast(shape)
    out = a._empty_like(dtype or a._dtype)
    a._device.binary(op, a, b, out)
    return out


def binary_scalar(
    x: NDArray, op: str, scalar: Scalar, reverse: bool, dtype: np.dtype | None = None
) -> NDArray:
    """`x op scalar`, or `scalar op x` if `reverse`."""
    if type(scalar) is float or type(scalar) is int:
        number: int | float = scalar
    else:
        number = python_number(scalar)
    if x._dtype is not FLOAT32:
        if is_stored(x._dtype):
            return in_float32(binary_scalar, x, op, number, reverse, dtype, dtype=dtype)
        if not is_float(x._dtype):
            if op in COMPARISONS:
                return _compare_integers(x, op, number)
            x, number = _with_number(op, x, number, reverse)
    out = x._empty_like(dtype or x._dtype)
    x._device.binary_scalar(op, x, number, out, reverse)
    return out


def reflected(x: NDArray, op: str, other: object) -> NDArray:
    """`other op x`."""
    if isinstance(other, SCALARS):
        return binary_scalar(x, op, other, True)
    return binary(x._coerce(other), op, x)


def _as_operand(op: str, x: NDArray) -> NDArray:
    """A bool array as what `op` computes with. Raises TypeError for a difference of bools."""
    if x._dtype is not BOOL:
        return x
    if op in ("sub", "neg"):
        raise TypeError(
            f"[{op}] bools have no difference; use a != b (one of the two), a == False (not a), "
            'or convert with .astype("int32")'
        )
    return x.astype(INT64) if op in _COUNTING else x


def _with_number(
    op: str, x: NDArray, number: int | float, reverse: bool
) -> tuple[NDArray, int | float]:
    """An array of integers or bools and a number as the operands of `op`.

    Raises OverflowError where the array's dtype does not hold an integer, ValueError for the
    exponents of integers that give fractions.
    """
    if isinstance(number, float):
        return x.astype(promote_scalar(x._dtype, number)), number
    if x._dtype is BOOL:
        x = _as_operand(op, x.astype(promote_scalar(BOOL, number)))
    checked_integer(number, x._dtype, op)
    if op == "pow" and not reverse and number < 0:
        raise ValueError(
            f"[pow] integers to the negative integer power {number} are fractions; convert the "
            f"{x._dtype} array to a floating dtype"
        )
    return x, number


def add(x: NDArray, other: object) -> NDArray:
    return binary(x, "add", other)


def mul(x: NDArray, other: object) -> NDArray:
    return binary(x, "mul", other)


def sub(x: NDArray, other: object) -> NDArray:
    return binary(x, "sub", other)


def rsub(x: NDArray, other: object) -> NDArray:
    return reflected(x, "sub", other)


def truediv(x: NDArray, other: object) -> NDArray:
    if not is_float(x._dtype):
        dtype = getattr(other, "_dtype", FLOAT32)  # of an array
        x = x.astype(dtype if is_float(dtype) else FLOAT32)
    return binary(x, "div", other)


def rtruediv(x: NDArray, other: object) -> NDArray:
    return reflected(x.astype(float_dtype(x._dtype)), "div", other)


def floordiv(x: NDArray, other: object) -> NDArray:
    return binary(x, "floor_div", other)


def rfloordiv(x: NDArray, other: object) -> NDArray:
    return reflected(x, "floor_div", other)


def mod(x: NDArray, other: object) -> NDArray:
    return binary(x, "mod", other)


def rmod(x: NDArray, other: object) -> NDArray:
    return reflected(x, "mod", other)


def divmod_(x: NDArray, other: object) -> tuple[NDArray, NDArray]:
    return floordiv(x, other), mod(x, other)


def rdivmod(x: NDArray, other: object) -> tuple[NDArray, NDArray]:
    return rfloordiv(x, other), rmod(x, other)


def pow_(x: NDArray, other: object) -> NDArray:
    return binary(x, "pow", other)


def rpow(x: NDArray, other: object) -> NDArray:
    return reflected(x, "pow", other)


def maximum(x: NDArray, other: object) -> NDArray:
    """The larger of each pair; NaN where either is NaN."""
    return binary(x, "maximum", other)


def minimum(x: NDArray, other: object) -> NDArray:
    """The smaller of each pair; NaN where either is NaN."""
    return binary(x, "minimum", other)


def clip(x: NDArray, low: float | None = None, high: float | None = None) -> NDArray:
    """Every element moved into [low, high]; None leaves that side open.

    Bounds of an integer array are compared by value: -5 bounds no unsigned one. Raises
    OverflowError where an element would become a bound that its dtype cannot hold.
    """
    result = x
    if low is not None and not _holds_for_all("ge", low, x):
        result = maximum(result, low)
    if high is not None and not _holds_for_all("le", high, result):
        result = minimum(result, high)
    return result if result is not x else x.copy()


def _holds_for_all(op: str, number: float, x: NDArray) -> bool:
    """Whether every integer of x's dtype compares so with an integer `number`."""
    is_integer = x._dtype.kind in "iu" and isinstance(number, (int, np.integer))
    return is_integer and as_threshold(op, number, x._dtype)[1]


# ---- bits ---------------------------------------------------------------------------------------


def _bitwise(x: NDArray, op: str, other: object, reverse: bool = False) -> NDArray:
    """An operation on the bits of integers and bools. Raises TypeError for floats."""
    if isinstance(other, SCALARS):
        other = python_number(other)
        theirs = type(other).__name__
        is_real = type(other) is float
    else:
        other = x._coerce(other)
        theirs = str(other._dtype)
        is_real = is_float(other._dtype)
    if is_real or is_float(x._dtype):
        raise TypeError(f"[{op}] needs integers or bools, got {x._dtype} and {theirs}")
    return reflected(x, op, other) if reverse else binary(x, op, other)


def and_(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "bitwise_and", other)


def or_(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "bitwise_or", other)


def xor(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "bitwise_xor", other)


def lshift(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "left_shift", other)


def rlshift(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "left_shift", other, reverse=True)


def rshift(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "right_shift", other)


def rrshift(x: NDArray, other: object) -> NDArray:
    return _bitwise(x, "right_shift", other, reverse=True)


def invert(x: NDArray) -> NDArray:
    ones = True if x._dtype is BOOL else 255 if x._dtype is UINT8 else -1
    return _bitwise(x, "bitwise_xor", ones)


# ---- comparisons --------------------------------------------------------------------------------


def compare(x: NDArray, op: str, other: object) -> NDArray:
    """A bool array of `eq`, `ne`, `lt`, `le`, `gt` or `ge`, element by element."""
    if op not in COMPARISONS:
        raise ValueError(f"[compare] op must be one of {sorted(COMPARISONS)}, got {op!r}")
    return binary(x, op, other, BOOL)


def _compare_integers(x: NDArray, op: str, number: int | float) -> NDArray:
    """An array of integers or bools compared with any number, by value."""
    threshold, everywhere = as_threshold(op, number, x._dtype)
    out = x._empty_like(BOOL)
    if threshold is None:
        x._device.fill(out, everywhere)
    else:
        x._device.binary_scalar(op, x, threshold, out, False)
    return out


def _as_numbers(x: NDArray, op: str, other: object) -> NDArray:
    """A comparison as 0 and 1 in x's dtype, as the course has it; `compare` gives bools."""
    if not isinstance(other, _COMPARABLE) and not isinstance(other, type(x)):
        return NotImplemented  # type: ignore[no-any-return]
    return compare(x, op, other).astype(x._dtype)


def eq(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "eq", other)


def ne(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "ne", other)


def lt(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "lt", other)


def le(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "le", other)


def gt(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "gt", other)


def ge(x: NDArray, other: object) -> NDArray:
    return _as_numbers(x, "ge", other)
