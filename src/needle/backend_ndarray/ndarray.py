"""NDArray: a strided view of a device's buffer.

An NDArray is (buffer, offset, shape, strides, dtype). Views share the buffer; operations allocate
a compact result, hand both to a primitive of the device and return the result. Nothing here knows
of gradients.
"""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from . import indexing, versions
from .device import BackendDevice, as_device
from .dtypes import (
    BFLOAT16,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    SCALARS,
    UINT8,
    as_dtype,
    as_threshold,
    check_update_dtype,
    checked_integer,
    convert,
    float_dtype,
    host_array,
    is_float,
    is_stored,
    number_for,
    promote,
    promote_scalar,
    python_number,
    real_array,
    widened,
)
from .layout import (
    Shape,
    broadcast_shapes,
    broadcast_strides,
    check_ndim,
    check_size,
    check_update,
    compact_strides,
    is_compact,
    is_dense,
    normalize_axes,
    normalize_axis,
    overlaps_itself,
    reduced_shape,
    reshape_strides,
    resolve_shape,
    unpack,
    whole,
    wholes,
)
from .symbolic import HostNumber, is_recorded

_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
# Arithmetic in which two bools count as the integers 0 and 1; their sums and products are or and
# and, as in NumPy.
_COUNTING = frozenset(("floor_div", "mod", "pow", "left_shift", "right_shift"))


class Flat:
    """The elements in row-major order of an array whose layout has no flat view, as `x.flat`.

    Reading gives copies; writing goes through the array, which checks it and notes the change.
    """

    def __init__(self, array: NDArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return self._array.size

    def __iter__(self) -> Iterator[NDArray]:
        return iter(self._array.flatten())

    def __getitem__(self, key: Any) -> NDArray:
        return self._array.flatten()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        places = np.arange(self._array.size)[key]
        self._array[np.unravel_index(places, self._array.shape)] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array.flatten().__array__(dtype, copy)


class NDArray:
    """An n-dimensional array on a device.

    `other` is an NDArray, a NumPy array or anything `numpy.asarray` accepts; its data is copied.
    Without `dtype` the result is float32, as the course has it (an NDArray keeps its own dtype).
    """

    __slots__ = ("__weakref__", "_device", "_dtype", "_handle", "_offset", "_shape", "_strides")
    # NumPy arrays on the left of an operator leave it to NDArray's reflected one.
    __array_priority__ = 1000.0

    _shape: Shape
    _strides: Shape
    _offset: int
    _handle: Any
    _device: BackendDevice
    _dtype: np.dtype

    def __init__(
        self, other: Any, device: BackendDevice | str | None = None, dtype: Any = None
    ) -> None:
        if isinstance(other, NDArray):
            device = other._device if device is None else as_device(device)
            kept = as_dtype(dtype) if dtype is not None else other._dtype
            source = other._host() if device != other._device else other
        else:
            device = as_device(device)
            kept = as_dtype(dtype) if dtype is not None else FLOAT32
            fits = type(other) is np.ndarray and (
                other.dtype is kept or (is_float(other.dtype) and is_float(kept))
            )
            source = other if fits else real_array(other, kept, "NDArray")
        self._init_from(source, device, kept)

    def _init_from(self, source: NDArray | np.ndarray, device: BackendDevice, dtype: Any) -> None:
        shape = tuple(source.shape)
        check_ndim(len(shape))
        self._shape = shape
        self._strides = compact_strides(shape)
        self._offset = 0
        self._dtype = dtype
        self._device = device
        if isinstance(source, NDArray):
            self._handle = device.allocate(source.size, dtype)
            device.copy(source, self)
        elif is_stored(dtype) and source.dtype != dtype:
            self._handle = device.allocate(source.size, dtype)
            device.copy(NDArray(source, device, FLOAT32), self)
        elif source.dtype is FLOAT64 and dtype is FLOAT32:
            self._handle = device.narrowed(source)
        else:
            # A fresh contiguous array of the right dtype becomes the buffer itself.
            host = source if source.dtype == dtype else convert(source, dtype)
            own = np.array if host is source and device.shares_memory else np.asarray
            self._handle = device.wrap(own(host, order="C").reshape(-1))

    # ---- construction ---------------------------------------------------------------------------

    @staticmethod
    def _view(
        shape: Shape, strides: Shape, offset: int, handle: Any, device: BackendDevice, dtype: Any
    ) -> NDArray:
        array = _new_ndarray(NDArray)
        array._shape = shape
        array._strides = strides
        array._offset = offset
        array._handle = handle
        array._device = device
        array._dtype = dtype
        return array

    @staticmethod
    def _empty(shape: Shape, device: BackendDevice, dtype: np.dtype) -> NDArray:
        """An uninitialized compact array."""
        array = _new_ndarray(NDArray)
        array._shape = shape
        array._strides = compact_strides(shape)
        array._offset = 0
        array._handle = device.allocate(prod(shape), dtype)
        array._device = device
        array._dtype = dtype
        return array

    @staticmethod
    def _empty_like(x: NDArray, dtype: np.dtype) -> NDArray:
        """An uninitialized array in the memory order of `x` where that is dense, else compact.

        As NumPy's order="K": what goes through element-wise operations keeps its layout.
        """
        out = NDArray._empty(x._shape, x._device, dtype)
        if out._strides != x._strides and is_dense(x._shape, x._strides):
            out._strides = x._strides
        return out

    @staticmethod
    def make(
        shape: Sequence[int],
        strides: Sequence[int] | None = None,
        device: BackendDevice | str | None = None,
        handle: Any = None,
        offset: int = 0,
        dtype: Any = None,
    ) -> NDArray:
        """An array over `handle` (or over new uninitialized memory) with the given layout.

        Raises ValueError for a layout that reaches outside of the memory, or for another dtype than
        the memory's.
        """
        shape = wholes(shape, "make", "the shape")
        check_ndim(len(shape))
        check_size("make", shape)
        device = as_device(device)
        dtype = as_dtype(dtype or (FLOAT32 if handle is None else handle.dtype))
        strides = compact_strides(shape) if strides is None else wholes(strides, "make", "strides")
        offset = whole(offset, "make", "offset")
        if handle is not None and handle.dtype != dtype:
            raise ValueError(f"[make] dtype is {dtype}, but the memory holds {handle.dtype}")
        if len(strides) != len(shape):
            raise ValueError(f"[make] shape {shape} and strides {strides} differ in length")
        if handle is None:
            handle = device.allocate(offset + _extent(shape, strides)[1], dtype)
        _check_bounds(shape, strides, offset, handle.size, "make")
        return NDArray._view(shape, strides, offset, handle, device, dtype)

    # ---- properties -----------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self._shape

    @property
    def strides(self) -> Shape:
        """How many elements (not bytes) lie between neighbours along each axis."""
        return self._strides

    @property
    def dtype(self) -> np.dtype:
        """The element type; equal to its name, as in `x.dtype == "float32"`."""
        return self._dtype

    @property
    def device(self) -> BackendDevice:
        """The device that the array lives on."""
        return self._device

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self._shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the elements, `size * itemsize`."""
        return self.size * self._dtype.itemsize

    @property
    def T(self) -> NDArray:
        """The view with its axes reversed."""
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def flat(self) -> Any:
        """The elements in row-major order; assigning through it writes to this array.

        Raises ValueError, at the assignment, where elements lie in the same place.
        """
        return self.reshape((self.size,)) if self.is_compact() else Flat(self)

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a 0-d array")
        return self._shape[0]

    def __iter__(self) -> Iterator[NDArray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"NDArray({self._host()!s}, device={self._device})"

    def __str__(self) -> str:
        return str(self._host())

    # ---- to and from the host -------------------------------------------------------------------

    def _host(self) -> np.ndarray:
        """This array's elements as a NumPy array; on CPU devices they share memory.

        Those of bfloat16 are float32 and cannot be written to.
        """
        if self._dtype is not BFLOAT16:
            return self._device.view(self)
        values = self._device.view(self.astype(FLOAT32))
        values.flags.writeable = False
        return values

    def numpy(self) -> np.ndarray:
        """A NumPy array with a copy of the elements; float32 for bfloat16."""
        return np.array(self._host(), order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        host = self._host()
        if dtype is not None and host.dtype != dtype:
            if copy is False:
                raise ValueError(f"a {self._dtype} array cannot be seen as {dtype} without a copy")
            return host.astype(dtype)
        if copy:
            return host.copy()
        self._share()
        return host

    def _share(self) -> None:
        """Note that others may write to this array's memory, where the host sees it."""
        if self._device.shares_memory:
            versions.share(self._handle)

    def __dlpack__(self, **options: Any) -> Any:
        host = self._host()
        self._share()
        return (host if host.flags.writeable else host.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._host().__dlpack_device__()

    def __reduce__(self) -> tuple[Any, ...]:
        return NDArray, (self.numpy(), self._device, self._dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> NDArray:
        return self.copy()

    def item(self) -> Any:
        """The only element as a Python scalar. Raises ValueError when there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"[item] needs an array of one element, got shape {self._shape}")
        return self._host().item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self._host().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._dtype.kind not in "iu":
            raise TypeError(f"a {self._dtype} array cannot be an index")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of an array of shape {self._shape} is ambiguous; use .any() or .all()"
            )
        return bool(self.item())

    def to(self, device: BackendDevice | str, non_blocking: bool = False) -> NDArray:
        """This array on `device`; itself when it is there already.

        With `non_blocking` a GPU copies from pinned memory itself: that may not be changed before.
        """
        if device is self._device:
            return self
        device = as_device(device)
        if device == self._device:
            return self
        if not (non_blocking and device.wraps_without_waiting):
            return NDArray(self, device=device)
        host = np.ascontiguousarray(self._host())
        if host.dtype.name != self._dtype.name:
            return NDArray(self, device=device)
        handle = device.wrap(host.reshape(-1), non_blocking=True)
        return NDArray._view(
            self._shape, compact_strides(self._shape), 0, handle, device, self._dtype
        )

    def astype(self, dtype: Any) -> NDArray:
        """The elements converted to `dtype`; this array itself when it has that dtype.

        float16 and bfloat16 round to nearest even, from float32.
        """
        dtype = as_dtype(dtype)
        if dtype is self._dtype:
            return self
        out = NDArray._empty_like(self, dtype)
        self._device.copy(self, out)
        return out

    # ---- views ----------------------------------------------------------------------------------

    def is_compact(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return is_compact(self._shape, self._strides)

    def compact(self) -> NDArray:
        """A compact array of the same elements; this array itself when it is compact."""
        return self if self.is_compact() else self.copy()

    def copy(self) -> NDArray:
        """A compact copy."""
        out = NDArray._empty(self._shape, self._device, self._dtype)
        self._device.copy(self, out)
        return out

    def as_strided(self, shape: Sequence[int], strides: Sequence[int]) -> NDArray:
        """A view of the same buffer under another layout, checked to stay inside it."""
        shape = wholes(shape, "as_strided", "the shape")
        strides = wholes(strides, "as_strided", "strides")
        if len(shape) != len(strides):
            raise ValueError(f"[as_strided] shape {shape} and strides {strides} differ in length")
        check_ndim(len(shape))
        check_size("as_strided", shape)
        _check_bounds(shape, strides, self._offset, self._handle.size, "as_strided")
        return self._relayout(shape, strides)

    def _relayout(self, shape: Shape, strides: Shape, offset: int | None = None) -> NDArray:
        start = self._offset if offset is None else offset
        return NDArray._view(shape, strides, start, self._handle, self._device, self._dtype)

    def reshape(self, *shape: Any) -> NDArray:
        """The same elements in row-major order under another shape (one -1 allowed).

        A view where the layout allows it, else of one copy. Raises ValueError if sizes differ.
        """
        target = resolve_shape(unpack(shape), self.size)
        if target == self._shape:
            return self
        check_ndim(len(target))
        if self.is_compact():
            return self._relayout(target, compact_strides(target))
        strides = reshape_strides(self._shape, self._strides, target)
        if strides is not None:
            return self._relayout(target, strides)
        return self.copy()._relayout(target, compact_strides(target))

    def flatten(self) -> NDArray:
        """The elements as one axis; a view where the layout allows it."""
        return self.reshape((self.size,))

    def permute(self, *axes: Any) -> NDArray:
        """The view whose axis i is this array's axis `axes[i]`."""
        axes = unpack(axes)
        order = tuple(normalize_axis(a, self.ndim, "permute") for a in axes)
        if len(order) != self.ndim or len(set(order)) != self.ndim:
            raise ValueError(f"[permute] axes {axes} must name each of the {self.ndim} axes once")
        shape, strides = self._shape, self._strides
        return self._relayout(tuple(shape[a] for a in order), tuple(strides[a] for a in order))

    def transpose(self, *axes: Any) -> NDArray:
        """NumPy's transpose: reversed axes, or the order given."""
        return self.permute(*axes) if axes and axes != (None,) else self.T

    def swapaxes(self, axis1: int, axis2: int) -> NDArray:
        """The view with two axes exchanged."""
        order = list(range(self.ndim))
        i = normalize_axis(axis1, self.ndim, "swapaxes")
        j = normalize_axis(axis2, self.ndim, "swapaxes")
        order[i], order[j] = j, i
        return self.permute(tuple(order))

    def broadcast_to(self, *shape: Any) -> NDArray:
        """The view that repeats axes of length 1 (and new leading ones) to reach `shape`."""
        target = wholes(unpack(shape), "broadcast_to", "the shape")
        if target == self._shape:
            return self
        check_ndim(len(target))
        return self._relayout(target, broadcast_strides(self._shape, self._strides, target))

    def squeeze(self, axis: int | Sequence[int] | None = None) -> NDArray:
        """The view without the given axes of length 1 (all of them by default)."""
        if axis is None:
            dropped = tuple(i for i, n in enumerate(self._shape) if n == 1)
        else:
            dropped = normalize_axes(axis, self.ndim, "squeeze")
        if any(self._shape[i] != 1 for i in dropped):
            raise ValueError(f"[squeeze] axes {dropped} of shape {self._shape} are not all 1 long")
        kept = [i for i in range(self.ndim) if i not in dropped]
        return self._relayout(
            tuple(self._shape[i] for i in kept), tuple(self._strides[i] for i in kept)
        )

    def unsqueeze(self, axis: int) -> NDArray:
        """The view with a new axis of length 1 at position `axis`."""
        at = normalize_axis(axis, self.ndim + 1, "unsqueeze")
        shape, strides = self._shape, self._strides
        return self._relayout((*shape[:at], 1, *shape[at:]), (*strides[:at], 0, *strides[at:]))

    def flip(self, axes: int | Sequence[int] | None = None) -> NDArray:
        """The view with the order along `axes` (all by default) reversed."""
        strides, offset = list(self._strides), self._offset
        for i in normalize_axes(axes, self.ndim, "flip"):
            offset += max(self._shape[i] - 1, 0) * strides[i]
            strides[i] = -strides[i]
        return self._relayout(self._shape, tuple(strides), offset)

    def process_slice(self, sl: slice, dim: int) -> slice:
        """`sl` along axis `dim` with explicit start, stop and step."""
        return slice(*sl.indices(self._shape[dim]))

    def __getitem__(self, key: Any) -> NDArray:
        """NumPy's indexing. Ints, slices, `...` and None give views; arrays give a copy.

        Raises IndexError for too many indices or an index out of range.
        """
        if indexing.is_fancy(key):
            return indexing.take(self, key)
        return self._relayout(*indexing.basic_view(self, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write a scalar or an array that broadcasts to the selected shape.

        Every array over the same memory shows it. Raises ValueError where elements of this array
        lie in the same place, as in one that was broadcast: copy() it first.
        """
        self._put(key, value)
        versions.written(self._handle)

    def _values_for(self, value: Any) -> Any:
        """What to assign to elements of this array on the host."""
        if isinstance(value, SCALARS):
            return number_for(value, self._dtype, "setitem")
        return host_array(value, self._dtype, "setitem")

    def fill(self, value: Any) -> None:
        """Set every element to a number, or to that of an array of one element.

        Raises OverflowError for a number beyond an integer dtype, TypeError for no real number, and
        as `__setitem__`.
        """
        if not isinstance(value, SCALARS):
            self[...] = value
            return
        self._check_writable()
        self._assign(value)
        versions.written(self._handle)

    def _put(self, key: Any, value: Any) -> None:
        """`self[key] = value` for an array that nobody knows yet: its version stays."""
        self._check_writable()
        if not indexing.is_fancy(key):
            self._relayout(*indexing.basic_view(self, key))._assign(value)
            return
        if is_recorded(self._device):
            indexing.put(self, key, self._as_written(value))
            return
        host, values = self._host(), self._values_for(value)
        if host.flags.writeable:
            if isinstance(values, np.ndarray) and np.may_share_memory(host, values):
                values = values.copy()
            host[indexing.as_host_key(key)] = values
        else:  # a copy of what is on a GPU
            changed = host.copy()
            changed[indexing.as_host_key(key)] = values
            self._device.copy(NDArray(changed, self._device, self._dtype), self)

    def _assign(self, value: Any) -> None:
        """Write a scalar or an array that broadcasts to this shape into this writable view."""
        if isinstance(value, SCALARS):
            if type(value) is not float or self._dtype is not FLOAT32:
                value = number_for(value, self._dtype, "setitem")
            self._device.fill(self, value)
            return
        if not isinstance(value, (NDArray, HostNumber)):
            value = NDArray(host_array(value, self._dtype, "setitem"), self._device, self._dtype)
        source = self._coerce(value).broadcast_to(self._shape)
        if versions.overlap(source._handle, self._handle):
            if source._is_same_view(self):
                return
            source = source.copy()
        self._device.copy(source, self)

    def _as_written(self, value: Any) -> NDArray:
        """`value` as an array of this one's device and dtype."""
        if isinstance(value, (NDArray, HostNumber)):
            return self._coerce(value).astype(self._dtype)
        return NDArray(self._values_for(value), device=self._device, dtype=self._dtype)

    def _is_same_view(self, other: NDArray) -> bool:
        return (
            self._handle is other._handle
            and self._offset == other._offset
            and self._shape == other._shape
            and self._strides == other._strides
        )

    def _check_writable(self) -> None:
        if overlaps_itself(self._shape, self._strides):
            raise ValueError(
                f"[setitem] several elements of this array of shape {self._shape} and strides "
                f"{self._strides} lie in the same place, as broadcasting makes them; write into a "
                "copy()"
            )

    def _coerce(self, value: Any) -> NDArray:
        """`value` as an NDArray on this device."""
        if isinstance(value, HostNumber):
            return value.as_array(value, self._device, float_dtype(self._dtype))
        if not isinstance(value, NDArray):
            value = host_array(value)
            return NDArray(value, device=self._device, dtype=value.dtype)
        if value._device is not self._device and value._device != self._device:
            raise ValueError(
                f"arrays on {self._device} and {value._device} cannot be mixed; move one with .to()"
            )
        return value

    # ---- element-wise ---------------------------------------------------------------------------

    def _in_float32(self, method: Any, *args: Any, dtype: np.dtype | None = None) -> NDArray:
        """`method` of the float32 values of this float16 or bfloat16 array, rounded once."""
        return method(self.astype(FLOAT32), *args).astype(dtype or self._dtype)

    def _unary(self, op: str, dtype: np.dtype | None = None) -> NDArray:
        if is_stored(self._dtype):
            return self._in_float32(NDArray._unary, op, dtype, dtype=dtype)
        out = NDArray._empty_like(self, dtype or self._dtype)
        self._device.unary(op, self, out)
        return out

    def _unary_float(self, op: str) -> NDArray:
        if not is_float(self._dtype):
            return self.astype(FLOAT32)._unary(op)
        return self._unary(op)

    def _binary(self, op: str, other: Any, dtype: np.dtype | None = None) -> NDArray:
        """`self op other` with broadcasting; the result has `dtype` or the promoted dtype."""
        if isinstance(other, SCALARS):
            return self._binary_scalar(op, other, False, dtype)
        if is_stored(self._dtype) and isinstance(other, HostNumber):
            return self._in_float32(NDArray._binary, op, other, dtype, dtype=dtype)
        a, b = self, self._coerce(other)
        if a._dtype is not b._dtype:
            common = promote(a._dtype, b._dtype)
            a, b = a.astype(common), b.astype(common)
        if a._dtype is BOOL:
            a, b = _as_operand(op, a), _as_operand(op, b)
        elif is_stored(a._dtype):
            return a._in_float32(NDArray._binary, op, b.astype(FLOAT32), dtype, dtype=dtype)
        if a._shape != b._shape:
            shape = broadcast_shapes(a._shape, b._shape, op)
            a, b = a.broadcast_to(shape), b.broadcast_to(shape)
        out = NDArray._empty_like(a, dtype or a._dtype)
        a._device.binary(op, a, b, out)
        return out

    def _binary_scalar(
        self, op: str, scalar: Any, reverse: bool, dtype: np.dtype | None = None
    ) -> NDArray:
        x = self
        kind = type(scalar)
        if kind is not float and kind is not int:
            scalar = python_number(scalar)
        if x._dtype is not FLOAT32:
            if is_stored(x._dtype):
                return x._in_float32(
                    NDArray._binary_scalar, op, scalar, reverse, dtype, dtype=dtype
                )
            if not is_float(x._dtype):
                if op in _COMPARISONS:
                    return x._compare_integers(op, scalar)
                x, scalar = _with_number(op, x, scalar, reverse)
        out = NDArray._empty_like(x, dtype or x._dtype)
        x._device.binary_scalar(op, x, scalar, out, reverse)
        return out

    def _compare_integers(self, op: str, number: int | float) -> NDArray:
        """An array of integers or bools compared with a number by value, whatever it is."""
        threshold, everywhere = as_threshold(op, number, self._dtype)
        out = NDArray._empty_like(self, BOOL)
        if threshold is None:
            self._device.fill(out, everywhere)
        else:
            self._device.binary_scalar(op, self, threshold, out, False)
        return out

    def _reflected(self, op: str, other: Any) -> NDArray:
        if isinstance(other, SCALARS):
            return self._binary_scalar(op, other, True)
        return self._coerce(other)._binary(op, self)

    def _compare(self, op: str, other: Any) -> Any:
        """0 and 1 in this array's own dtype, as the course has it; `compare` gives a bool array."""
        if not isinstance(other, (*SCALARS, NDArray, np.ndarray, list, tuple)):
            return NotImplemented
        return self.compare(op, other).astype(self._dtype)

    def compare(self, op: str, other: Any) -> NDArray:
        """A bool array of `eq`, `ne`, `lt`, `le`, `gt` or `ge`, element by element."""
        if op not in _COMPARISONS:
            raise ValueError(f"[compare] op must be one of {sorted(_COMPARISONS)}, got {op!r}")
        return self._binary(op, other, BOOL)

    def __add__(self, other: Any) -> NDArray:
        return self._binary("add", other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> NDArray:
        return self._binary("mul", other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> NDArray:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> NDArray:
        return self._reflected("sub", other)

    def _as_float(self) -> NDArray:
        return self.astype(float_dtype(self._dtype))

    def __truediv__(self, other: Any) -> NDArray:
        return self._as_float()._binary("div", other)

    def __rtruediv__(self, other: Any) -> NDArray:
        return self._as_float()._reflected("div", other)

    def __floordiv__(self, other: Any) -> NDArray:
        return self._binary("floor_div", other)

    def __rfloordiv__(self, other: Any) -> NDArray:
        return self._reflected("floor_div", other)

    def __mod__(self, other: Any) -> NDArray:
        return self._binary("mod", other)

    def __rmod__(self, other: Any) -> NDArray:
        return self._reflected("mod", other)

    def __divmod__(self, other: Any) -> tuple[NDArray, NDArray]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[NDArray, NDArray]:
        return other // self, other % self

    def __pow__(self, other: Any) -> NDArray:
        return self._binary("pow", other)

    def __rpow__(self, other: Any) -> NDArray:
        return self._reflected("pow", other)

    def _bitwise(self, op: str, other: Any, reverse: bool = False) -> NDArray:
        """An operation on the bits of integers and bools. Raises TypeError for floats."""
        if isinstance(other, SCALARS):
            other = python_number(other)
            theirs: Any = type(other).__name__
            is_real = type(other) is float
        else:
            other = self._coerce(other)
            theirs = other._dtype
            is_real = is_float(theirs)
        if is_real or is_float(self._dtype):
            raise TypeError(f"[{op}] needs integers or bools, got {self._dtype} and {theirs}")
        return self._reflected(op, other) if reverse else self._binary(op, other)

    def __and__(self, other: Any) -> NDArray:
        return self._bitwise("bitwise_and", other)

    __rand__ = __and__

    def __or__(self, other: Any) -> NDArray:
        return self._bitwise("bitwise_or", other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> NDArray:
        return self._bitwise("bitwise_xor", other)

    __rxor__ = __xor__

    def __lshift__(self, other: Any) -> NDArray:
        return self._bitwise("left_shift", other)

    def __rlshift__(self, other: Any) -> NDArray:
        return self._bitwise("left_shift", other, reverse=True)

    def __rshift__(self, other: Any) -> NDArray:
        return self._bitwise("right_shift", other)

    def __rrshift__(self, other: Any) -> NDArray:
        return self._bitwise("right_shift", other, reverse=True)

    def __invert__(self) -> NDArray:
        ones = True if self._dtype is BOOL else 255 if self._dtype is UINT8 else -1
        return self._bitwise("bitwise_xor", ones)

    def _update(self, symbol: str, operation: Any, other: Any) -> NDArray:
        """`self symbol other`: the result of `operation`, rounded to this dtype, in this memory.

        Raises ValueError where the result has another shape or elements of this array lie in the
        same place, TypeError where its dtype does not fit (a float into integers); nothing is
        changed then.
        """
        self._check_writable()
        if not isinstance(other, SCALARS):
            other = self._coerce(other)
            if operation is not NDArray.matmul:
                shape = broadcast_shapes(self._shape, other._shape, symbol)
                check_update(symbol, self._shape, shape)
        result = operation(self, other)
        check_update(symbol, self._shape, result._shape)
        check_update_dtype(symbol, self._dtype, result._dtype)
        self._assign(result)
        versions.written(self._handle)
        return self

    def __iadd__(self, other: Any) -> NDArray:
        return self._update("+=", NDArray.__add__, other)

    def __isub__(self, other: Any) -> NDArray:
        return self._update("-=", NDArray.__sub__, other)

    def __imul__(self, other: Any) -> NDArray:
        return self._update("*=", NDArray.__mul__, other)

    def __itruediv__(self, other: Any) -> NDArray:
        return self._update("/=", NDArray.__truediv__, other)

    def __ifloordiv__(self, other: Any) -> NDArray:
        return self._update("//=", NDArray.__floordiv__, other)

    def __imod__(self, other: Any) -> NDArray:
        return self._update("%=", NDArray.__mod__, other)

    def __ipow__(self, other: Any) -> NDArray:
        return self._update("**=", NDArray.__pow__, other)

    def __iand__(self, other: Any) -> NDArray:
        return self._update("&=", NDArray.__and__, other)

    def __ior__(self, other: Any) -> NDArray:
        return self._update("|=", NDArray.__or__, other)

    def __ixor__(self, other: Any) -> NDArray:
        return self._update("^=", NDArray.__xor__, other)

    def __ilshift__(self, other: Any) -> NDArray:
        return self._update("<<=", NDArray.__lshift__, other)

    def __irshift__(self, other: Any) -> NDArray:
        return self._update(">>=", NDArray.__rshift__, other)

    def __imatmul__(self, other: Any) -> NDArray:
        return self._update("@=", NDArray.matmul, other)

    def __neg__(self) -> NDArray:
        return _as_operand("neg", self)._unary("neg")

    def __abs__(self) -> NDArray:
        return self._unary("abs")

    def __eq__(self, other: object) -> Any:
        return self._compare("eq", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("ne", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare("ge", other)

    __hash__ = None  # type: ignore[assignment]

    def maximum(self, other: Any) -> NDArray:
        """The larger of each pair; NaN where either is NaN."""
        return self._binary("maximum", other)

    def minimum(self, other: Any) -> NDArray:
        """The smaller of each pair; NaN where either is NaN."""
        return self._binary("minimum", other)

    def clip(self, low: float | None = None, high: float | None = None) -> NDArray:
        """Every element moved into [low, high]; None leaves that side open.

        Bounds of an integer array are taken by value: -5 bounds no unsigned one. Raises
        OverflowError where an element would become a bound that its dtype cannot hold.
        """
        x = self
        if low is not None and not (x._is_integer(low) and as_threshold("ge", low, x._dtype)[1]):
            x = x.maximum(low)
        if high is not None and not (x._is_integer(high) and as_threshold("le", high, x._dtype)[1]):
            x = x.minimum(high)
        return x if x is not self else self.copy()

    def _is_integer(self, number: Any) -> bool:
        """Whether this array and `number` are integers."""
        return self._dtype.kind in "iu" and isinstance(number, (int, np.integer))

    def _rounded(self, op: str) -> NDArray:
        """The integers that `floor`, `ceil` or `round` finds, in this array's dtype."""
        return self._unary(op) if is_float(self._dtype) else self.copy()

    def log(self) -> NDArray:
        """Natural logarithm."""
        return self._unary_float("log")

    def exp(self) -> NDArray:
        """e to the power of each element."""
        return self._unary_float("exp")

    def tanh(self) -> NDArray:
        """Hyperbolic tangent."""
        return self._unary_float("tanh")

    def sqrt(self) -> NDArray:
        """Square root; NaN for negative elements."""
        return self._unary_float("sqrt")

    def sigmoid(self) -> NDArray:
        """1 / (1 + exp(-x)), without overflow."""
        return self._unary_float("sigmoid")

    def relu(self) -> NDArray:
        """max(x, 0)."""
        return self._unary("relu")

    def isnan(self) -> NDArray:
        """A bool array: where the elements are NaN."""
        return self._unary("isnan", BOOL)

    def isfinite(self) -> NDArray:
        """A bool array: where the elements are neither NaN nor infinite."""
        return self._unary("isfinite", BOOL)

    # ---- reductions -----------------------------------------------------------------------------

    def _reduce(self, op: str, axis: Any, keepdims: bool) -> NDArray:
        if is_stored(self._dtype):
            return self._in_float32(NDArray._reduce, op, axis, keepdims)
        axes = normalize_axes(axis, self.ndim, op)
        dtype = self._dtype
        if op in ("sum", "prod") and not is_float(dtype):
            dtype = INT64  # as in NumPy: sums of small integers do not wrap
        if op in ("max", "min") and any(self._shape[i] == 0 for i in axes):
            raise ValueError(f"[{op}] shape {self._shape} has no elements along axes {axes}")
        if not axes:
            return self.astype(dtype).copy()
        kept = reduced_shape(self._shape, axes, keepdims=True)
        out = NDArray._empty(kept, self._device, dtype)
        self._device.reduce(op, self, axes, out)
        return out if keepdims else out.reshape(reduced_shape(self._shape, axes, keepdims=False))

    def sum(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """The sum over `axis` (None, an int or a tuple); integers sum to int64."""
        return self._reduce("sum", axis, keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """The product over `axis`."""
        return self._reduce("prod", axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """The largest element over `axis`; NaN wins. Raises ValueError over nothing."""
        return self._reduce("max", axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """The smallest element over `axis`; NaN wins. Raises ValueError over nothing."""
        return self._reduce("min", axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """Whether any element over `axis` is nonzero, as a bool array."""
        return (self._nonzero()._binary("ne", 0, BOOL).astype("uint8").sum(axis, keepdims)).astype(
            BOOL
        )

    def all(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """Whether all elements over `axis` are nonzero, as a bool array."""
        return self._nonzero()._unary("logical_not", BOOL).any(axis, keepdims)._unary("logical_not")

    def _nonzero(self) -> NDArray:
        return self.astype(BOOL)

    def mean(self, axis: Any = None, keepdims: bool = False) -> NDArray:
        """The arithmetic mean over `axis`; that of integers is float32, rounded once."""
        if is_stored(self._dtype):
            return self._in_float32(NDArray.mean, axis, keepdims)
        axes = normalize_axes(axis, self.ndim, "mean")
        count = prod(self._shape[i] for i in axes)
        share = 1.0 / count if count else float("nan")
        if is_float(self._dtype):
            return self.sum(axes, keepdims) * share
        # Sums of narrow integers are exact in int64, which those of int64 may exceed.
        x = self.astype(FLOAT64) if self._dtype is INT64 else self
        return (x.sum(axes, keepdims).astype(FLOAT64) * share).astype(FLOAT32)

    def _arg_reduce(self, op: str, axis: int | None, keepdims: bool) -> NDArray:
        x = self.astype(widened(self._dtype))
        x = x if axis is not None else x.flatten()
        along = normalize_axis(0 if axis is None else axis, x.ndim, op)
        if x._shape[along] == 0:
            raise ValueError(f"[{op}] shape {self._shape} has no elements along axis {axis}")
        out = NDArray._empty(reduced_shape(x._shape, (along,), True), x._device, INT64)
        x._device.argreduce(op, x, along, out)
        if axis is None:
            return out.reshape((1,) * self.ndim if keepdims else ())
        return out if keepdims else out.squeeze(along)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> NDArray:
        """The int64 index of the first largest element along `axis` (flattened for None)."""
        return self._arg_reduce("argmax", axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> NDArray:
        """The int64 index of the first smallest element along `axis` (flattened for None)."""
        return self._arg_reduce("argmin", axis, keepdims)

    def cumsum(self, axis: int) -> NDArray:
        """Running sums along `axis`; integers sum to int64."""
        if is_stored(self._dtype):
            return self._in_float32(NDArray.cumsum, axis)
        x = self if is_float(self._dtype) else self.astype(INT64)
        out = NDArray._empty(x._shape, x._device, x._dtype)
        x._device.cumsum(x, normalize_axis(axis, x.ndim, "cumsum"), out)
        return out

    def argsort(self, axis: int = -1, descending: bool = False) -> NDArray:
        """The int64 order that sorts along `axis`; stable, NaNs last."""
        x = self.astype(widened(self._dtype))
        out = NDArray._empty(x._shape, x._device, INT64)
        x._device.argsort(x, normalize_axis(axis, x.ndim, "argsort"), descending, out)
        return out

    # ---- products and joining -------------------------------------------------------------------

    def __matmul__(self, other: Any) -> NDArray:
        """NumPy's matrix product: batch axes broadcast, a 1-d operand is a row or a column."""
        return self.matmul(other)

    def __rmatmul__(self, other: Any) -> NDArray:
        return self._coerce(other).matmul(self)

    def matmul(self, other: Any, bias: NDArray | None = None) -> NDArray:
        """`self @ other`, plus `bias` of shape (n,) added to every row.

        Sums of float16 and bfloat16 are float32, rounded at the end.
        """
        a, b = self, self._coerce(other)
        if a._dtype is not b._dtype:
            common = promote(a._dtype, b._dtype)
            a, b = a.astype(common), b.astype(common)
        if is_stored(a._dtype) and not a._device.takes_stored("matmul"):
            bias = None if bias is None else bias.astype(FLOAT32)
            return a.astype(FLOAT32).matmul(b.astype(FLOAT32), bias).astype(a._dtype)
        if not a._shape or not b._shape:
            raise ValueError(f"[matmul] needs at least 1-d operands, got {a._shape} @ {b._shape}")
        drop_row, drop_column = a.ndim == 1, b.ndim == 1
        a = a.unsqueeze(0) if drop_row else a
        b = b.unsqueeze(1) if drop_column else b
        if a._shape[-1] != b._shape[-2]:
            raise ValueError(
                f"[matmul] {self._shape} @ {b._shape}: the inner dimensions "
                f"{a._shape[-1]} and {b._shape[-2]} differ"
            )
        if a.ndim > 2 or b.ndim > 2:
            batch = broadcast_shapes(a._shape[:-2], b._shape[:-2], "matmul")
            a, b = a.broadcast_to(batch + a._shape[-2:]), b.broadcast_to(batch + b._shape[-2:])
        out = NDArray._empty(a._shape[:-1] + b._shape[-1:], a._device, a._dtype)
        a._device.matmul(a, b, out, bias)
        out = out.squeeze(-2) if drop_row else out
        return out.squeeze(-1) if drop_column else out

    def pad(self, axes: Sequence[tuple[int, int]], value: float = 0) -> NDArray:
        """Surround with `value`: `axes` gives (before, after) for every axis."""
        widths = tuple(wholes(pair, "pad", "axes") for pair in axes)
        if len(widths) != self.ndim or any(len(w) != 2 or min(w) < 0 for w in widths):
            raise ValueError(
                f"[pad] needs {self.ndim} pairs of non-negative widths for shape {self._shape}, "
                f"got {widths}"
            )
        shape = tuple(n + b + a for n, (b, a) in zip(self._shape, widths, strict=True))
        out = self._device.full(shape, value, self._dtype)
        inner = tuple(slice(b, b + n) for n, (b, _) in zip(self._shape, widths, strict=True))
        out._put(inner, self)
        return out

    def tile(self, repeats: Sequence[int]) -> NDArray:
        """The array repeated `repeats[i]` times along axis i; one copy."""
        repeats = wholes(repeats, "tile", "repeats")
        if any(r < 0 for r in repeats):
            raise ValueError(f"[tile] repeats must not be negative, got {repeats}")
        shape = (1,) * (len(repeats) - self.ndim) + self._shape
        repeats = (1,) * (len(shape) - len(repeats)) + repeats
        pairs = tuple(n for pair in zip((1,) * len(shape), shape, strict=True) for n in pair)
        wide = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
        return (
            self.reshape(pairs)
            .broadcast_to(wide)
            .reshape(tuple(r * n for r, n in zip(repeats, shape, strict=True)))
        )

    def split(self, sections: int | Sequence[int], axis: int = 0) -> list[NDArray]:
        """Views of equal parts (an int that divides the axis) or between the given positions."""
        along = normalize_axis(axis, self.ndim, "split")
        n = self._shape[along]
        if not isinstance(sections, (tuple, list, np.ndarray)):
            sections = whole(sections, "split", "sections")
            if sections < 1 or n % sections:
                raise ValueError(f"[split] axis {axis} of length {n} has no {sections} equal parts")
            cuts = [n // sections * i for i in range(sections + 1)]
        else:
            cuts = [0, *wholes(sections, "split", "sections"), n]
        lead = (slice(None),) * along
        return [self[(*lead, slice(a, b))] for a, b in itertools.pairwise(cuts)]


_new_ndarray = NDArray.__new__
BackendDevice.array_type = NDArray


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
    if type(number) is float:
        return x.astype(promote_scalar(x._dtype, number)), number
    if x._dtype is BOOL:
        x = _as_operand(op, x.astype(promote_scalar(BOOL, number)))
    checked_integer(number, x._dtype, op)  # type: ignore[arg-type]
    if op == "pow" and not reverse and number < 0:
        raise ValueError(
            f"[pow] integers to the negative integer power {number} are fractions; convert the "
            f"{x._dtype} array to a floating dtype"
        )
    return x, number


def _extent(shape: Shape, strides: Shape) -> tuple[int, int]:
    """The lowest and one past the highest element offset that a layout touches."""
    if 0 in shape:
        return 0, 0
    steps = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low = builtins.sum(s for s in steps if s < 0)
    return low, 1 + builtins.sum(s for s in steps if s > 0)


def _check_bounds(shape: Shape, strides: Shape, offset: int, size: int, what: str) -> None:
    low, high = _extent(shape, strides)
    if high > low and (offset + low < 0 or offset + high > size):
        raise ValueError(
            f"[{what}] shape {shape} with strides {strides} at offset {offset} reaches outside a "
            f"buffer of {size} elements"
        )
