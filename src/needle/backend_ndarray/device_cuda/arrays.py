"""Buffers in the GPU's memory, and arrays over them as kernels see them."""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np

from ...typing import Shape
from ..layout import compact_strides
from .context import Context


class Buffer(Protocol):
    """Memory of the GPU that has an address."""

    @property
    def size(self) -> int:
        """The number of elements."""

    def use_address(self) -> int:
        """The address of the first element, for the next work of this thread."""


class Array(Protocol):
    """What a launcher reads of an array: an `NDArray` on the GPU has it, and a `Flat`."""

    _shape: Shape
    _strides: Shape
    _offset: int
    _dtype: np.dtype

    @property
    def _handle(self) -> Buffer: ...

    @property
    def size(self) -> int:
        """The number of elements."""


class CudaBuffer:
    """Memory of a GPU: `size` elements of `dtype`."""

    __slots__ = ("__weakref__", "_block", "_context", "dtype", "size", "version")
    shared = False  # no other buffer knows its memory

    def __init__(self, context: Context, size: int, dtype: np.dtype) -> None:
        self._context, self.size, self.dtype = context, size, dtype
        self.version = 0
        self._block = context.memory.allocate(size * dtype.itemsize)

    def use_address(self) -> int:
        """The address of the first element, for the next work of this thread.

        Registers the use: that work is ordered after the work on this memory that other threads
        have issued.
        """
        self._context.streams.use(self._block.uses)
        return self._block.address

    def ptr(self) -> int:
        """The address of the first element, on the GPU, as `use_address` gives it."""
        return self.use_address()

    def __del__(self) -> None:
        if hasattr(self, "_block"):  # the allocation did not fail
            self._context.memory.free(self._block)


class Flat:
    """A row-major array over a part of a buffer."""

    def __init__(self, handle: Buffer, dtype: np.dtype, shape: Shape, offset: int = 0) -> None:
        self._handle, self._dtype, self._shape, self._offset = handle, dtype, shape, offset
        self._strides = compact_strides(shape)
        self.size = prod(shape)


def scratch(context: Context, shape: Shape, dtype: np.dtype) -> Flat:
    """An uninitialized array that a launcher works in."""
    return Flat(CudaBuffer(context, prod(shape), dtype), dtype, shape)


def reshaped(x: Array, shape: Shape) -> Flat:
    """A compact array in another shape."""
    return Flat(x._handle, x._dtype, shape, x._offset)


def address(x: Array) -> int:
    """The address of an array's first element, for the next work of this thread."""
    return x._handle.use_address() + x._offset * x._dtype.itemsize
