"""The element types of needle and how they combine.

float16 and bfloat16 are *stored* types: what they hold is computed in float32 and rounded once, to
nearest even, when it is stored. NumPy has no bfloat16; `BFLOAT16` stands where an `np.dtype` does.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np


class _BFloat16:
    """The upper half of a float32: 8 bits of exponent, 7 of fraction.

    Has what needle reads of an `np.dtype`, and equals its name as those do.
    """

    name, kind, itemsize = "bfloat16", "f", 2
    type = None  # NumPy has no scalar of it

    def __eq__(self, other: object) -> bool:
        return other is self or other == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"dtype('{self.name}')"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return "BFLOAT16"


BFLOAT16 = cast(np.dtype, _BFloat16())
BOOL, UINT8, INT32, INT64, FLOAT16, FLOAT32, FLOAT64 = (
    np.dtype(name) for name in ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")
)
# Ordered by rank: a mix of two dtypes has the dtype of the higher rank. An integer mixed with
# float32 therefore stays float32, where NumPy would go to float64.
DTYPES: tuple[np.dtype, ...] = (
    BOOL, UINT8, INT32, INT64, FLOAT16, BFLOAT16, FLOAT32, FLOAT64,
)  # fmt: skip
FLOATS = frozenset((FLOAT16, BFLOAT16, FLOAT32, FLOAT64))

_CANONICAL: dict[Any, np.dtype] = {BFLOAT16: BFLOAT16, BFLOAT16.name: BFLOAT16}
for _dtype in DTYPES:
    if _dtype is not BFLOAT16:
        _CANONICAL.update({_dtype: _dtype, _dtype.name: _dtype, _dtype.type: _dtype})
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


def as_dtype(dtype: Any) -> np.dtype:
    """The canonical dtype object for a name, a NumPy scalar type or a dtype.

    Raises TypeError for a type that needle has no kernels for.
    """
    try:
        return _CANONICAL[dtype]
    except (KeyError, TypeError):
        pass
    names = ", ".join(d.name for d in DTYPES)
    try:
        if dtype is not None:  # which NumPy would take for float64
            return _CANONICAL[np.dtype(dtype)]
        raise TypeError
    except (KeyError, TypeError):
        raise TypeError(f"dtype {dtype!r} is not supported; use one of {names}") from None


def is_float(dtype: np.dtype) -> bool:
    """Whether `dtype` is one of the four floating types."""
    return dtype is FLOAT32 or dtype is FLOAT64 or dtype is BFLOAT16 or dtype is FLOAT16


def is_stored(dtype: np.dtype) -> bool:
    """Whether `dtype` is float16 or bfloat16, which are computed in float32."""
    return dtype is BFLOAT16 or dtype is FLOAT16


def widened(dtype: np.dtype) -> np.dtype:
    """The dtype in which elements of `dtype` are computed."""
    return FLOAT32 if is_stored(dtype) else dtype


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an operation on arrays of dtypes `a` and `b`."""
    if a is b:
        return a
    if is_stored(a) and is_stored(b):  # neither holds the other
        return FLOAT32
    return a if _RANK[a] >= _RANK[b] else b


def promote_scalar(dtype: np.dtype, scalar: Any) -> np.dtype:
    """The dtype of an operation on an array and a Python scalar: only the kind can change.

    A Python float makes an integer array float32, a Python int makes a bool array int64, and
    nothing widens an array of floats.
    """
    if is_float(dtype) or isinstance(scalar, (bool, np.bool_)):
        return dtype
    if isinstance(scalar, (float, np.floating)):
        return FLOAT32
    return INT64 if dtype is BOOL else dtype


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The floating dtype of division, exp and the like of a `dtype` array."""
    return dtype if is_float(dtype) else FLOAT32


# ---- NumPy's side of bfloat16 -----------------------------------------------------------------


def host_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the NumPy array that holds the values of a `dtype` array."""
    return FLOAT32 if dtype is BFLOAT16 else dtype


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """`values` rounded to bfloat16, as uint16."""
    wide = np.ascontiguousarray(values, dtype=np.float32)
    bits = wide.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) >> 16
    return np.where(np.isnan(wide), 0x7FC0, rounded).astype(np.uint16).reshape(np.shape(values))


def stored_bits(value: float, dtype: np.dtype) -> int:
    """The 16 bits of a number as float16 or bfloat16."""
    single = np.asarray(value).astype(np.float32)
    if dtype is BFLOAT16:
        return int(bfloat16_bits(single))
    with np.errstate(over="ignore"):
        return int(single.astype(np.float16).view(np.uint16))


def bfloat16_values(bits: np.ndarray) -> np.ndarray:
    """The float32 values of bfloat16 numbers given as uint16."""
    return np.asarray(bits.astype(np.uint32) << 16).view(np.float32)
