"""NDArray: a strided view of a device's buffer.

An NDArray is (buffer, offset, shape, strides, dtype). Views share the buffer. An operation
allocates its result, calls a primitive of the device and returns the result. Arrays know nothing
of gradients.

The class holds the state of an array. Its other methods are functions in the files `host`, `views`,
`assignment`, `arithmetic`, `reductions` and `products`; the body of the class lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from ..typing import DTypeLike
from . import arithmetic, assignment, host, products, reductions, views
from .device import BackendDevice, as_device
from .dtypes import (
    BFLOAT16,
    FLOAT32,
    FLOAT64,
    as_dtype,
    convert,
    float_dtype,
    host_array,
    is_float,
    is_stored,
    real_array,
)
from .layout import (
    Shape,
    check_bounds,
    check_ndim,
    check_size,
    compact_strides,
    extent,
    is_dense,
    whole,
    wholes,
)
from .symbolic import HostNumber


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
        self,
        other: object,
        device: BackendDevice | str | None = None,
        dtype: DTypeLike | None = None,
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
            source = other if fits else real_array(other, kept, "NDArray")  # type: ignore[assignment]
        self._init_from(source, device, kept)

    def _init_from(
        self, source: NDArray | np.ndarray, device: BackendDevice, dtype: np.dtype
    ) -> None:
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
            values = source if source.dtype == dtype else convert(source, dtype)
            own = np.array if values is source and device.shares_memory else np.asarray
            self._handle = device.wrap(own(values, order="C").reshape(-1))

    # ---- construction ---------------------------------------------------------------------------

    @staticmethod
    def _view(
        shape: Shape,
        strides: Shape,
        offset: int,
        handle: Any,
        device: BackendDevice,
        dtype: np.dtype,
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

    def _new(self, shape: Shape, dtype: np.dtype) -> NDArray:
        """An uninitialized compact array on this one's device."""
        return NDArray._empty(shape, self._device, dtype)

    def _empty_like(self, dtype: np.dtype) -> NDArray:
        """An uninitialized array in this one's memory order where that is dense, else compact.

        As NumPy's order="K": the results of element-wise operations keep the layout.
        """
        out = NDArray._empty(self._shape, self._device, dtype)
        if out._strides != self._strides and is_dense(self._shape, self._strides):
            out._strides = self._strides
        return out

    def _relayout(self, shape: Shape, strides: Shape, offset: int | None = None) -> NDArray:
        """The view of the same buffer under another layout, which the caller has checked."""
        start = self._offset if offset is None else offset
        return NDArray._view(shape, strides, start, self._handle, self._device, self._dtype)

    @staticmethod
    def make(
        shape: Sequence[int],
        strides: Sequence[int] | None = None,
        device: BackendDevice | str | None = None,
        handle: Any = None,
        offset: int = 0,
        dtype: DTypeLike | None = None,
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
            handle = device.allocate(offset + extent(shape, strides)[1], dtype)
        check_bounds(shape, strides, offset, handle.size, "make")
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
    def flat(self) -> NDArray | host.Flat:
        """The elements in row-major order; assigning through it writes to this array.

        Raises ValueError, at the assignment, where elements lie in the same place.
        """
        return self.reshape((self.size,)) if self.is_compact() else host.Flat(self)

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a 0-d array, which is one number: x.item() gives it")
        return self._shape[0]

    def __iter__(self) -> Iterator[NDArray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"NDArray({self._host()!s}, device={self._device})"

    def __str__(self) -> str:
        return str(self._host())

    # ---- to and from the host: host.py ----------------------------------------------------------

    def _host(self) -> np.ndarray:
        """This array's elements as a NumPy array; on CPU devices they share memory.

        Those of bfloat16 are float32 and cannot be written to.
        """
        if self._dtype is not BFLOAT16:
            return self._device.view(self)
        values = self._device.view(self.astype(FLOAT32))
        values.flags.writeable = False
        return values

    def __reduce__(self) -> tuple[object, ...]:
        return NDArray, (self.numpy(), self._device, self._dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> NDArray:
        return self.copy()

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
        values = np.ascontiguousarray(self._host())
        if values.dtype.name != self._dtype.name:
            return NDArray(self, device=device)
        handle = device.wrap(values.reshape(-1), non_blocking=True)
        return NDArray._view(
            self._shape, compact_strides(self._shape), 0, handle, device, self._dtype
        )

    def astype(self, dtype: DTypeLike) -> NDArray:
        """The elements converted to `dtype`; this array itself when it has that dtype.

        float16 and bfloat16 round to nearest even, from float32.
        """
        dtype = as_dtype(dtype)
        if dtype is self._dtype:
            return self
        out = NDArray._empty_like(self, dtype)
        self._device.copy(self, out)
        return out

    def _coerce(self, value: object) -> NDArray:
        """`value` as an NDArray on this device."""
        if isinstance(value, NDArray):
            if value._device is not self._device and value._device != self._device:
                raise ValueError(
                    f"arrays on {self._device} and {value._device} cannot be mixed; move one: "
                    "x.to(device) for data, model.to(device) for a module"
                )
            return value
        if isinstance(value, HostNumber):
            return value.as_array(value, self._device, float_dtype(self._dtype))
        values = host_array(value)
        return NDArray(values, device=self._device, dtype=values.dtype)

    numpy = host.numpy
    item = host.item
    tolist = host.tolist
    __array__ = host.as_numpy
    __dlpack__ = host.dlpack
    __dlpack_device__ = host.dlpack_device
    __float__ = host.as_float
    __int__ = host.as_int
    __index__ = host.as_index
    __bool__ = host.as_bool

    # ---- views: views.py ------------------------------------------------------------------------

    T = property(views.reverse_axes)
    is_compact = views.is_compact
    compact = views.compact
    copy = views.copy
    as_strided = views.as_strided
    reshape = views.reshape
    flatten = views.flatten
    permute = views.permute
    transpose = views.transpose
    swapaxes = views.swapaxes
    broadcast_to = views.broadcast_to
    squeeze = views.squeeze
    unsqueeze = views.unsqueeze
    flip = views.flip
    split = views.split
    pad = views.pad
    tile = views.tile
    process_slice = views.process_slice
    _broadcast = views.broadcast
    _without = views.without

    # ---- reading and writing elements: assignment.py, indexing.py -------------------------------

    __getitem__ = assignment.getitem
    __setitem__ = assignment.setitem
    fill = assignment.fill
    _put = assignment.put
    _assign = assignment.assign
    __iadd__ = assignment.iadd
    __isub__ = assignment.isub
    __imul__ = assignment.imul
    __itruediv__ = assignment.itruediv
    __ifloordiv__ = assignment.ifloordiv
    __imod__ = assignment.imod
    __ipow__ = assignment.ipow
    __iand__ = assignment.iand
    __ior__ = assignment.ior
    __ixor__ = assignment.ixor
    __ilshift__ = assignment.ilshift
    __irshift__ = assignment.irshift
    __imatmul__ = assignment.imatmul

    # ---- element-wise: arithmetic.py ------------------------------------------------------------

    __add__ = __radd__ = arithmetic.add
    __mul__ = __rmul__ = arithmetic.mul
    __sub__ = arithmetic.sub
    __rsub__ = arithmetic.rsub
    __truediv__ = arithmetic.truediv
    __rtruediv__ = arithmetic.rtruediv
    __floordiv__ = arithmetic.floordiv
    __rfloordiv__ = arithmetic.rfloordiv
    __mod__ = arithmetic.mod
    __rmod__ = arithmetic.rmod
    __divmod__ = arithmetic.divmod_
    __rdivmod__ = arithmetic.rdivmod
    __pow__ = arithmetic.pow_
    __rpow__ = arithmetic.rpow
    __neg__ = arithmetic.neg
    __abs__ = arithmetic.abs_
    __and__ = __rand__ = arithmetic.and_
    __or__ = __ror__ = arithmetic.or_
    __xor__ = __rxor__ = arithmetic.xor
    __lshift__ = arithmetic.lshift
    __rlshift__ = arithmetic.rlshift
    __rshift__ = arithmetic.rshift
    __rrshift__ = arithmetic.rrshift
    __invert__ = arithmetic.invert
    __eq__ = arithmetic.eq  # type: ignore[assignment]
    __ne__ = arithmetic.ne  # type: ignore[assignment]
    __lt__ = arithmetic.lt
    __le__ = arithmetic.le
    __gt__ = arithmetic.gt
    __ge__ = arithmetic.ge
    __hash__ = None  # type: ignore[assignment]
    compare = arithmetic.compare
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    clip = arithmetic.clip
    exp = arithmetic.exp
    log = arithmetic.log
    sqrt = arithmetic.sqrt
    tanh = arithmetic.tanh
    sigmoid = arithmetic.sigmoid
    relu = arithmetic.relu
    isnan = arithmetic.isnan
    isfinite = arithmetic.isfinite
    _unary = arithmetic.unary
    _unary_float = arithmetic.unary_float
    _rounded = arithmetic.rounded
    _binary = arithmetic.binary

    # ---- reductions and products: reductions.py, products.py ------------------------------------

    sum = reductions.sum
    prod = reductions.prod
    max = reductions.max
    min = reductions.min
    any = reductions.any
    all = reductions.all
    mean = reductions.mean
    argmax = reductions.argmax
    argmin = reductions.argmin
    cumsum = reductions.cumsum
    argsort = reductions.argsort
    matmul = products.matmul
    __matmul__ = products.matmul_operator
    __rmatmul__ = products.rmatmul


_new_ndarray = NDArray.__new__
BackendDevice.array_type = NDArray
