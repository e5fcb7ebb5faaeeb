"""Pinned memory of the host, from which the GPU copies asynchronously."""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict, deque
from ctypes import byref, c_void_p
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .memory import MIB, Block
from .streams import Mark

if TYPE_CHECKING:
    from .context import Context

PAGE = 4096
LIMIT = 256 * MIB  # beyond it copies that are under way are waited for
CHUNK = 16 * MIB  # of a large array that is copied through pinned memory
NOTHING_BAD = 2**64 - 1  # no index is out of range


class PinnedMemory:
    """A cache of pinned blocks by size. A block is reused after the copies from it are done."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._free: dict[int, list[Block]] = defaultdict(list)
        self._returned: deque[Block] = deque()
        self._copying: deque[Block] = deque()
        # What arrays lie in, by address.
        self._arrays: weakref.WeakValueDictionary[int, _Pages] = weakref.WeakValueDictionary()
        self.held = 0

    def allocate(self, nbytes: int) -> Block:
        """A block for the host to write to. Raises CudaError."""
        size = max(PAGE, 1 << (nbytes - 1).bit_length()) if nbytes else PAGE
        with self._context.lock:
            self._take_back()
            if not self._free[size] and self.held + size > LIMIT:
                self._release()
            blocks = self._free[size]
            return blocks.pop() if blocks else self._fresh(size)

    def free(self, block: Block) -> None:
        """Free a block. Takes no lock, because the garbage collector may call it."""
        self._returned.append(block)

    def _fresh(self, size: int) -> Block:
        address = c_void_p()
        self._context.call("cuMemHostAlloc", byref(address), size, 0)
        self.held += size
        assert address.value is not None
        return Block(address.value, size)

    def _take_back(self) -> None:
        marks: dict[object, Mark] = {}
        while self._returned:
            block = self._returned.popleft()
            for stream in block.uses:
                marks[stream] = marks.get(stream) or self._context.streams.mark(stream)
                block.marks.append(marks[stream])
            block.uses = {}
            self._copying.append(block)
        while self._copying and all(mark.is_done() for mark in self._copying[0].marks):
            self._is_free(self._copying.popleft())

    def _is_free(self, block: Block) -> None:
        block.marks = []
        self._free[block.size].append(block)

    def _release(self) -> None:
        """Wait for all copies, then return the free blocks to the driver."""
        while self._copying:
            for mark in self._copying[0].marks:
                mark.wait()
            self._is_free(self._copying.popleft())
        for blocks in self._free.values():
            while blocks:
                block = blocks.pop()
                self._context.call("cuMemFreeHost", block.address)
                self.held -= block.size

    # ---- arrays -----------------------------------------------------------------------------

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialized array in pinned memory, which is freed with the last view of it."""
        nbytes = prod(shape) * dtype.itemsize
        pages = _Pages(self, nbytes)
        self._arrays[pages.block.address] = pages
        return np.asarray(pages)[:nbytes].view(dtype).reshape(shape)

    def block_of(self, array: np.ndarray) -> Block | None:
        """The block whose start is the start of an array from `array`; None for other arrays."""
        pages = self._arrays.get(array.ctypes.data)
        return None if pages is None else pages.block


class _Pages:
    """Owns the memory of an array; the array and its views keep it alive."""

    def __init__(self, pinned: PinnedMemory, nbytes: int) -> None:
        self._pinned, self.block = pinned, pinned.allocate(nbytes)
        self.__array_interface__ = {
            "data": (self.block.address, False), "shape": (self.block.size,), "typestr": "|u1",
            "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        if hasattr(self, "block"):
            self._pinned.free(self.block)


class Watch:
    """A word where kernels note the smallest position of an index that is out of range.

    It is in pinned memory: the host looks at it without waiting.
    """

    def __init__(self, context: Context) -> None:
        self._pinned, self._streams = context.pinned, context.streams
        self._awaited = context.awaited
        self.block = self._pinned.allocate(ctypes.sizeof(ctypes.c_uint64))
        self._word = ctypes.c_uint64.from_address(self.block.address)
        self._word.value = NOTHING_BAD

    def used(self) -> None:
        """Record that this thread's latest work may write the word until that work is done."""
        here = self._streams.current
        self.block.uses[here] = here.issued
        self._awaited[self] = here

    def check(self) -> None:
        """Raises IndexError, once, for an index that was out of range."""
        position = self._word.value
        if position != NOTHING_BAD:
            self._word.value = NOTHING_BAD
            raise IndexError(f"[jit] the index at position {position} is out of range")

    def __del__(self) -> None:
        if hasattr(self, "block"):
            self._pinned.free(self.block)
