"""The element types of needle and how they combine.

float16 and bfloat16 are *stored* types: what they hold is computed in float32 and rounded once, to
nearest even, when it is stored. NumPy has no bfloat16; `BFLOAT16` stands where an `np.dtype` does.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, cast

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


class Names(NamedTuple):
    """What a dtype is called elsewhere."""

    core: str  # among the enumerators of DType in csrc/cpu/view.h, which are in the same order
    c_type: str  # of an element, in C++ and in CUDA C++
    cuda: int | None = None  # among cuBLASLt's cudaDataType


# Ordered by rank: a mix of two dtypes has the dtype of the higher rank. An integer mixed with
# float32 therefore stays float32, where NumPy would go to float64.
NAMES: dict[np.dtype, Names] = {
    BOOL: Names("Bool", "bool"),
    UINT8: Names("UInt8", "uint8_t"),
    INT32: Names("Int32", "int32_t"),
    INT64: Names("Int64", "int64_t"),
    FLOAT16: Names("Float16", "float16", 2),
    BFLOAT16: Names("BFloat16", "bfloat16", 14),
    FLOAT32: Names("Float32", "float", 0),
    FLOAT64: Names("Float64", "double", 1),
}
DTYPES: tuple[np.dtype, ...] = tuple(NAMES)
FLOATS = frozenset(dtype for dtype in DTYPES if dtype.kind == "f")

_CANONICAL: dict[object, np.dtype] = {BFLOAT16: BFLOAT16, BFLOAT16.name: BFLOAT16}
for _dtype in DTYPES:
    if _dtype is not BFLOAT16:
        _CANONICAL.update({_dtype: _dtype, _dtype.name: _dtype, _dtype.type: _dtype})
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


def as_dtype(dtype: object) -> np.dtype:
    """The canonical dtype object for a name, a NumPy scalar type or a dtype of any byte order.

    Raises TypeError for a type that needle has no kernels for.
    """
    try:
        return _CANONICAL[dtype]
    except (KeyError, TypeError):
        pass
    names = ", ".join(d.name for d in DTYPES)
    try:
        if dtype is not None:  # which NumPy would take for float64
            native = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
            return _CANONICAL[native]
        raise TypeError
    except (KeyError, TypeError):
        hint = f": write ndl.{str(dtype)[6:]}" if str(dtype)[6:] in names.split(", ") else ""
        raise TypeError(f"dtype {dtype!r} is not supported{hint}; use one of {names}") from None


def c_type(dtype: np.dtype) -> str:
    """The type of an element in C++ and in CUDA C++."""
    return NAMES[dtype].c_type


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


def check_update_dtype(symbol: str, target: np.dtype, result: np.dtype) -> None:
    """Raises TypeError unless a result of a dtype can be written into an array of `target`.

    As in PyTorch: floats fit into floats of any width, integers into integers and floats, bools
    into all.
    """
    if _category(result) > _category(target):
        raise TypeError(
            f"[{symbol}] works in place: the result is {result} and does not fit into an array of "
            f"{target}; write x = x {symbol[:-1]} y for a new one, or convert with astype"
        )


def _category(dtype: np.dtype) -> int:
    return 2 if is_float(dtype) else int(dtype is not BOOL)


def promote_scalar(dtype: np.dtype, scalar: object) -> np.dtype:
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


def computed_dtype(dtype: np.dtype) -> np.dtype:
    """The floating dtype in which a composition of ops of a `dtype` array is computed.

    It holds every value of the array (of int64 up to 2⁵³), so that what cancels loses nothing.
    """
    if dtype is INT32 or dtype is INT64:
        return FLOAT64
    return dtype if dtype is FLOAT64 else FLOAT32


# ---- numbers ----------------------------------------------------------------------------------

SCALARS = (int, float, bool, np.number, np.bool_)
_LITERALS = (list, tuple, range, *SCALARS)
_RANGES = {d: (int(np.iinfo(d).min), int(np.iinfo(d).max)) for d in (UINT8, INT32, INT64)}
_RANGES[BOOL] = (0, 1)


def python_number(value: object) -> int | float:
    """A Python or NumPy scalar as the Python number of its value, which carries no dtype.

    Raises TypeError for anything else, complex numbers and time spans of NumPy included.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.generic):
        kind = value.dtype.kind
        if kind in "iub":
            return int(value) if kind != "b" else bool(value)
        if kind == "f":
            return float(value)
    elif isinstance(value, (int, float)):
        return value
    raise TypeError(f"a number must be real, got {value!r} of type {type(value).__name__}")


def checked_integer(value: int, dtype: np.dtype, what: str) -> int:
    """`value`, which an integer array of `dtype` can hold. Raises OverflowError for another."""
    low, high = _RANGES[dtype]
    if not low <= value <= high:
        raise OverflowError(f"[{what}] {value} is out of range for {dtype}: {low} … {high}")
    return value


def number_for(value: object, dtype: np.dtype, what: str) -> int | float:
    """The number to store in an array of `dtype`; integers cut fractions off, as NumPy does.

    Raises OverflowError for a number beyond an integer dtype, ValueError for NaN, TypeError for
    what is no real number.
    """
    if type(value) is float or type(value) is int:
        number: int | float = value
    else:
        number = python_number(value)
    if dtype.kind not in "iu":
        return number
    if number != number:
        raise ValueError(f"[{what}] NaN cannot be stored as {dtype}")
    if number in (math.inf, -math.inf):
        raise OverflowError(f"[{what}] {number} cannot be stored as {dtype}")
    return checked_integer(int(number), dtype, what)


def as_threshold(op: str, number: float, dtype: np.dtype) -> tuple[int | None, bool]:
    """What comparing an integer array of `dtype` with `number` by value comes to.

    Either the integer to compare with, or None and the result for all elements.
    """
    if isinstance(number, float):
        if number != number:
            return None, op == "ne"
        if math.isinf(number):
            number = _RANGES[dtype][number > 0] + (1 if number > 0 else -1)
        elif op in ("lt", "ge"):
            number = math.ceil(number)
        elif op in ("le", "gt") or number == math.floor(number):
            number = math.floor(number)
        else:
            return None, op == "ne"
    low, high = _RANGES[dtype]
    if number > high:
        return None, op in ("lt", "le", "ne")
    if number < low:
        return None, op in ("gt", "ge", "ne")
    return number, False


def kernel_scalar(value: float) -> tuple[float, int]:
    """A Python number as the kernels' `Scalar`: as a double, and as an int64."""
    try:
        whole = int(value)
    except (OverflowError, ValueError):  # an infinity, NaN
        whole = -(2**63)
    return float(value), whole if -(2**63) <= whole < 2**63 else -(2**63)


# ---- arrays of the host -------------------------------------------------------------------------

# What holds the values of the widths that needle has no kernels for.
_WIDENED = {"i1": INT32, "i2": INT32, "u2": INT32, "u4": INT64, "u8": INT64}


def real_array(data: object, dtype: np.dtype | None = None, what: str = "array") -> np.ndarray:
    """`data` as a NumPy array of real numbers that can become `dtype`, checked and not converted.

    Numbers in lists must fit an integer `dtype`, as in `numpy.array`; those of arrays wrap around,
    as in `astype`, except that int64 must hold those of a uint64 array.

    Raises TypeError for data that is not real numbers, OverflowError for an integer that does not
    fit, ValueError for NaN in a list that is to become integers.
    """
    if isinstance(data, np.ndarray):
        return checked_real(data, False, dtype, what)
    return checked_real(np.asarray(data), isinstance(data, _LITERALS), dtype, what)


def checked_real(host: np.ndarray, literal: bool, dtype: np.dtype | None, what: str) -> np.ndarray:
    """`real_array` of what NumPy has made of the data; `literal`: of numbers in lists."""
    own = _CANONICAL.get(host.dtype)
    if own is not None and (dtype is None or dtype is own or is_float(dtype)):
        return host
    if host.dtype.kind == "O" and literal:
        host = _of_large_integers(host, dtype, what)
    kind = host.dtype.kind
    if kind not in "fiub":
        raise TypeError(f"[{what}] data must be real numbers, got an array of dtype {host.dtype}")
    target = own_dtype(host.dtype) if dtype is None else dtype
    may_not_fit = literal or (host.dtype.kind == "u" and host.dtype.itemsize == INT64.itemsize)
    if may_not_fit and target.kind in "iu" and kind != "b" and host.size:
        limit = target if literal else INT64
        number_for(host.min(), limit, what)  # NaN where there is one
        number_for(host.max(), limit, what)
    return host


def host_array(data: object, dtype: np.dtype | None = None, what: str = "array") -> np.ndarray:
    """`data`, anything that NumPy makes an array of, as an array of one of needle's dtypes.

    Without `dtype` that is its own, in the machine's byte order; integers of other widths become
    int32 or int64, wider floats float64. Raises as `real_array`.
    """
    host = real_array(data, dtype, what)
    target = own_dtype(host.dtype) if dtype is None else dtype
    if is_stored(target) and host.dtype != target:
        target = FLOAT32  # what they are rounded from
    return convert(host, target)


def own_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of needle that holds the values of a real dtype of NumPy."""
    own = _CANONICAL.get(dtype)
    if own is not None:
        return own
    native = dtype.newbyteorder("=")
    if native in _CANONICAL:
        return _CANONICAL[native]
    return FLOAT64 if dtype.kind == "f" else _WIDENED[native.str[1:]]


def _of_large_integers(host: np.ndarray, dtype: np.dtype | None, what: str) -> np.ndarray:
    """Python numbers with integers among them that NumPy has no dtype for, as floats."""
    numbers = host.ravel().tolist()
    if not all(isinstance(x, SCALARS) for x in numbers):
        return host
    if dtype is None or not is_float(dtype):
        largest = max(numbers, key=abs)
        raise OverflowError(f"[{what}] {largest} is out of range for {dtype or INT64}")
    return host.astype(np.float64)


def convert(host: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`host` in `dtype`, as all devices convert.

    Integers wrap around. A float goes to an integer through int64, cut towards 0; what int64
    cannot hold, NaN included, is its smallest number there.
    """
    if host.dtype == dtype:
        return host
    if dtype.kind in "iu" and host.dtype.kind == "f":
        if host.dtype == FLOAT16:
            host = host.astype(np.float32)  # float16 has no 2⁶³
        inside = (host >= -(2.0**63)) & (host < 2.0**63)
        host = np.where(inside, np.where(inside, host, 0).astype(np.int64), np.int64(-(2**63)))
    if host.dtype.kind != "f":
        return host.astype(dtype)
    with np.errstate(over="ignore"):
        return host.astype(dtype)


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


@lru_cache(maxsize=256)
def below(value: float, dtype: np.dtype) -> float:
    """The largest number of a floating dtype below `value`, rounded to the dtype."""
    if dtype is not BFLOAT16:
        return float(np.nextafter(dtype.type(value), dtype.type(-np.inf)))
    bits = stored_bits(value, dtype)
    size = bits & 0x7FFF
    bits = 0x8001 if size == 0 else bits + 1 if bits & 0x8000 else bits - 1
    return float(bfloat16_values(np.array([bits], np.uint16))[0])
