"""Reading and writing elements: `x[key]`, `x[key] = value`, `fill` and operators such as `+=`.

Writing changes the version of the buffer, so that backward notices it. `NDArray` lists these
functions as its methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from . import arithmetic, indexing, versions
from .dtypes import FLOAT32, SCALARS, check_update_dtype, host_array, number_for
from .layout import broadcast_shapes, check_update, overlaps_itself
from .products import matmul
from .symbolic import HostNumber, is_recorded

if TYPE_CHECKING:
    from .ndarray import NDArray

_Operation: TypeAlias = "Callable[[NDArray, object], NDArray]"


def getitem(x: NDArray, key: object) -> NDArray:
    """NumPy's indexing. Ints, slices, `...` and None give views; arrays give a copy.

    Raises IndexError for too many indices or an index out of range.
    """
    if indexing.is_fancy(key):
        return indexing.take(x, key)
    return x._relayout(*indexing.basic_view(x, key))


def setitem(x: NDArray, key: object, value: object) -> None:
    """Write a scalar or an array that broadcasts to the selected shape.

    Every array over the same memory shows it. Raises ValueError where elements of this array
    lie in the same place, as in one that was broadcast: copy() it first.
    """
    put(x, key, value)
    versions.written(x._handle)


def fill(x: NDArray, value: object) -> None:
    """Set every element to a number, or to that of an array of one element.

    Raises OverflowError for a number beyond an integer dtype, TypeError for no real number, and
    as `__setitem__`.
    """
    if not isinstance(value, SCALARS):
        setitem(x, ..., value)
        return
    _check_writable(x)
    assign(x, value)
    versions.written(x._handle)


def put(x: NDArray, key: object, value: object) -> None:
    """`x[key] = value` for an array that nobody knows yet: its version stays."""
    _check_writable(x)
    if not indexing.is_fancy(key):
        assign(x._relayout(*indexing.basic_view(x, key)), value)
        return
    if is_recorded(x._device):
        indexing.put(x, key, _source(x, value).astype(x._dtype))
        return
    host, values = x._host(), _values_for(x, value)
    if host.flags.writeable:
        if isinstance(values, np.ndarray) and np.may_share_memory(host, values):
            values = values.copy()
        host[indexing.as_host_key(key)] = values
    else:  # a copy of what is on a GPU
        changed = host.copy()
        changed[indexing.as_host_key(key)] = values
        x._device.copy(type(x)(changed, x._device, x._dtype), x)


def assign(x: NDArray, value: object) -> None:
    """Write a scalar or an array that broadcasts to this shape into this writable view."""
    if isinstance(value, SCALARS):
        if type(value) is not float or x._dtype is not FLOAT32:
            value = number_for(value, x._dtype, "setitem")
        x._device.fill(x, value)
        return
    source = _without_leading_ones(_source(x, value), x.ndim)._broadcast(x._shape)
    if versions.overlap(source._handle, x._handle):
        if _is_same_view(source, x):
            return
        source = source.copy()
    x._device.copy(source, x)


def _without_leading_ones(source: NDArray, ndim: int) -> NDArray:
    """An array of more axes than its target, as NumPy takes it: leading axes of length 1 go."""
    extra = max(source.ndim - ndim, 0)
    if not extra or any(n != 1 for n in source._shape[:extra]):
        return source
    return source._relayout(source._shape[extra:], source._strides[extra:], source._offset)


def _source(x: NDArray, value: object) -> NDArray:
    """`value` as an array on x's device; what comes from the host gets x's dtype."""
    if isinstance(value, (type(x), HostNumber)):
        return x._coerce(value)
    return type(x)(_values_for(x, value), x._device, x._dtype)


def _values_for(x: NDArray, value: object) -> int | float | np.ndarray:
    """What to assign to elements of this array on the host."""
    if isinstance(value, SCALARS):
        return number_for(value, x._dtype, "setitem")
    return host_array(value, x._dtype, "setitem")


def _is_same_view(a: NDArray, b: NDArray) -> bool:
    return (
        a._handle is b._handle
        and a._offset == b._offset
        and a._shape == b._shape
        and a._strides == b._strides
    )


def _check_writable(x: NDArray) -> None:
    if overlaps_itself(x._shape, x._strides):
        raise ValueError(
            f"[setitem] several elements of this array of shape {x._shape} and strides "
            f"{x._strides} lie in the same place, as broadcasting makes them; write into a "
            "copy()"
        )


def _update(
    x: NDArray, symbol: str, operation: Callable[[NDArray, object], NDArray], other: object
) -> NDArray:
    """`x symbol other`: the result of `operation`, rounded to this dtype, in this memory.

    Raises ValueError where the result has another shape or elements of this array lie in the
    same place, TypeError where its dtype does not fit (a float into integers); nothing is
    changed then.
    """
    _check_writable(x)
    if not isinstance(other, SCALARS):
        other = x._coerce(other)
        if operation is not matmul:
            shape = broadcast_shapes(x._shape, other._shape, symbol)
            check_update(symbol, x._shape, shape)
    result = operation(x, other)
    check_update(symbol, x._shape, result._shape)
    check_update_dtype(symbol, x._dtype, result._dtype)
    assign(x, result)
    versions.written(x._handle)
    return x


def iadd(x: NDArray, other: object) -> NDArray:
    return _update(x, "+=", arithmetic.add, other)


def isub(x: NDArray, other: object) -> NDArray:
    return _update(x, "-=", arithmetic.sub, other)


def imul(x: NDArray, other: object) -> NDArray:
    return _update(x, "*=", arithmetic.mul, other)


def itruediv(x: NDArray, other: object) -> NDArray:
    return _update(x, "/=", arithmetic.truediv, other)


def ifloordiv(x: NDArray, other: object) -> NDArray:
    return _update(x, "//=", arithmetic.floordiv, other)


def imod(x: NDArray, other: object) -> NDArray:
    return _update(x, "%=", arithmetic.mod, other)


def ipow(x: NDArray, other: object) -> NDArray:
    return _update(x, "**=", arithmetic.pow_, other)


def iand(x: NDArray, other: object) -> NDArray:
    return _update(x, "&=", arithmetic.and_, other)


def ior(x: NDArray, other: object) -> NDArray:
    return _update(x, "|=", arithmetic.or_, other)


def ixor(x: NDArray, other: object) -> NDArray:
    return _update(x, "^=", arithmetic.xor, other)


def ilshift(x: NDArray, other: object) -> NDArray:
    return _update(x, "<<=", arithmetic.lshift, other)


def irshift(x: NDArray, other: object) -> NDArray:
    return _update(x, ">>=", arithmetic.rshift, other)


def imatmul(x: NDArray, other: object) -> NDArray:
    return _update(x, "@=", matmul, other)
