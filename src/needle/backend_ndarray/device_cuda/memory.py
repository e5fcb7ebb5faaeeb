"""The GPU's memory: a cache of blocks over the driver's stream-ordered pool."""

from __future__ import annotations

import gc
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_size_t, c_uint64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .driver import OUT_OF_MEMORY, CudaError
from .streams import Mark, Stream, Uses

if TYPE_CHECKING:
    from .context import Context

SMALL_BLOCK, LARGE_BLOCK, SMALL = 512, 2 << 20, 1 << 20
MIB = 1 << 20


class CudaOutOfMemory(CudaError, MemoryError):
    """The GPU has no memory left. The message gives the bytes requested, in use, held and free."""

    def __init__(self, asked: int, stats: dict[str, int]) -> None:
        RuntimeError.__init__(
            self,
            f"[cuda] out of memory: {asked / MIB:.1f} MiB were asked for; needle uses "
            f"{stats['in_use'] / MIB:.1f} MiB and holds {stats['held'] / MIB:.1f} MiB, of the "
            f"GPU's {stats['total'] / MIB:.1f} MiB {stats['free'] / MIB:.1f} MiB are free. Use "
            "smaller batches or ndl.checkpoint",
        )
        self.function, self.code, self.name = "cuMemAllocAsync", OUT_OF_MEMORY, "OUT_OF_MEMORY"


@dataclass(eq=False, slots=True)
class Block:
    """A block of memory and the streams that use it.

    If several streams have used a block that is free, `marks` has an event of each, recorded after
    its use.
    """

    address: int
    size: int
    uses: Uses = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)


class Memory:
    """A caching allocator: freed blocks are kept by size and reused.

    The stream that used a block can reuse it at once, because its earlier reads run before its new
    writes. Another stream waits for an event first.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._free: dict[int, list[Block]] = defaultdict(list)
        self._returned: deque[Block] = deque()
        self._kept: list[Block] | None = None
        self.in_use = self.held = self.peak = 0

    def allocate(self, nbytes: int) -> Block:
        """A block for this thread. Raises CudaOutOfMemory."""
        size, here = rounded(nbytes), self._context.streams.current
        with self._context.lock:
            self._take_back()
            block = self._used_again(size, here) or self._fresh(size, here)
            block.uses = {here: here.issued}
            self.in_use += size
            self.peak = max(self.peak, self.in_use)
            return block

    def free(self, block: Block) -> None:
        """Give a block back. Takes no lock, because the garbage collector may call it."""
        self._returned.append(block)

    def _take_back(self) -> None:
        marks: dict[Stream, Mark] = {}
        while self._returned:
            block = self._returned.popleft()
            if self._kept is not None:
                self._kept.append(block)
                continue
            if len(block.uses) > 1:
                for stream in block.uses:
                    marks[stream] = marks.get(stream) or self._context.streams.mark(stream)
                block.marks = [marks[stream] for stream in block.uses]
            self._free[block.size].append(block)
            self.in_use -= block.size

    def _used_again(self, size: int, here: Stream) -> Block | None:
        """A free block of that size, preferably one that the stream `here` need not wait for."""
        blocks = self._free[size]
        for i in reversed(range(len(blocks))):
            if here.is_after(blocks[i].uses):
                return blocks.pop(i)
        if not blocks or here.capturing:
            return None
        block = blocks.pop()
        self._context.streams.order(here, block.uses, block.marks)
        block.marks = []
        return block

    @contextmanager
    def keeping(self) -> Iterator[list[Block]]:
        """A context that collects the blocks freed inside: a captured graph goes on using them.

        The caller must hold the context's lock. After an exception the blocks are given back.
        """
        self._take_back()
        blocks: list[Block] = []
        self._kept = blocks
        try:
            yield blocks
            self._take_back()
        except BaseException:
            self._returned.extend(blocks)
            raise
        finally:
            self._kept = None

    def _fresh(self, size: int, here: Stream) -> Block:
        block = self._ask(size, here)
        if block is None:
            gc.collect()  # reference cycles may hold blocks
            self._take_back()
            if found := self._used_again(size, here):
                return found
            self.release_cached()
            block = self._ask(size, here)
        if block is None:
            raise CudaOutOfMemory(size, self.stats())
        return block

    def _ask(self, size: int, here: Stream) -> Block | None:
        """A block from the driver; None where the GPU has no memory left."""
        address = c_uint64()
        try:
            self._context.call("cuMemAllocAsync", byref(address), size, here.handle)
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            return None
        here.issued += 1
        self.held += size
        return Block(address.value, size)

    def release_cached(self) -> None:
        """Wait for all work, then return the free blocks to the driver."""
        context = self._context
        with context.lock:
            self._take_back()
            context.streams.synchronize()
            for size, blocks in self._free.items():
                while blocks:
                    context.call("cuMemFreeAsync", blocks.pop().address, context.stream)
                    self.held -= size
            context.call("cuStreamSynchronize", context.stream)
            context.call("cuMemPoolTrimTo", context.pool, 0)

    def reset_peak(self) -> None:
        """Let the peak be what is in use now."""
        with self._context.lock:
            self._take_back()
            self.peak = self.in_use

    def stats(self) -> dict[str, int]:
        """Bytes in use and held by needle, the peak in use, and the GPU's free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self._context.call("cuMemGetInfo_v2", byref(free), byref(total))
        with self._context.lock:
            self._take_back()
            return {
                "in_use": self.in_use, "held": self.held, "peak": self.peak,
                "free": free.value, "total": total.value,
            }  # fmt: skip


def rounded(nbytes: int) -> int:
    """The size of the block that holds `nbytes`."""
    unit = SMALL_BLOCK if nbytes <= SMALL else LARGE_BLOCK
    return max(-(-nbytes // unit), 1) * unit
