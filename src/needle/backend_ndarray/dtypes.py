"""The six element types of needle and how they combine."""

from __future__ import annotations

from typing import Any

import numpy as np

# Ordered by rank: a mix of two dtypes has the dtype of the higher rank. An integer mixed with
# float32 therefore stays float32, where NumPy would go to float64.
DTYPES: tuple[np.dtype, ...] = tuple(
    np.dtype(name) for name in ("bool", "uint8", "int32", "int64", "float32", "float64")
)
BOOL, UINT8, INT32, INT64, FLOAT32, FLOAT64 = DTYPES
FLOATS = frozenset((FLOAT32, FLOAT64))

_CANONICAL: dict[Any, np.dtype] = {}
for _dtype in DTYPES:
    _CANONICAL.update({_dtype: _dtype, _dtype.name: _dtype, _dtype.type: _dtype})
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


def as_dtype(dtype: Any) -> np.dtype:
    """The canonical `np.dtype` object for a name, a NumPy scalar type or a dtype.

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
    """Whether `dtype` is float32 or float64."""
    return dtype is FLOAT32 or dtype is FLOAT64


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an operation on arrays of dtypes `a` and `b`."""
    if a is b:
        return a
    return a if _RANK[a] >= _RANK[b] else b


def promote_scalar(dtype: np.dtype, scalar: Any) -> np.dtype:
    """The dtype of an operation on an array and a Python scalar: only the kind can change.

    A Python float makes an integer array float32, a Python int makes a bool array int64, and
    nothing widens a float32.
    """
    if dtype is FLOAT32 or dtype is FLOAT64 or isinstance(scalar, (bool, np.bool_)):
        return dtype
    if isinstance(scalar, (float, np.floating)):
        return FLOAT32
    return INT64 if dtype is BOOL else dtype


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The floating dtype in which division, exp and the like of a `dtype` array are computed."""
    return dtype if dtype is FLOAT32 or dtype is FLOAT64 else FLOAT32
