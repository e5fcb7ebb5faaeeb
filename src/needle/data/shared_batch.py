"""Batches that pass from one process to another: their arrays through shared memory.

A batch is pickled with protocol 5, which leaves the arrays' buffers out. The worker copies these
into a segment of shared memory, and the reader copies them out. A segment is reused for the next
batch of its slot, and replaced where it is too small.

The reader knows the names of all segments that a worker may have made. So it can remove them
whatever has happened to the worker.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

ALIGNMENT = 64  # bytes; that of vector instructions


@dataclass(frozen=True)
class Packed:
    """A batch without its buffers, and where in a segment of `size` bytes these are."""

    pickled: bytes
    spans: list[tuple[int, int]]
    size: int


class Writer:
    """A worker's side of its slots, whose segments have the given names."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._segments: dict[int, SharedMemory] = {}

    def write(self, slot: int, batch: object) -> Packed:
        """Copy the arrays of `batch` into the slot, which the reader must be done with."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
        spans, end = [], 0
        for buffer in buffers:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            end = start + buffer.raw().nbytes
            spans.append((start, end))
        if not end:
            return Packed(pickled, spans, 0)
        segment = self._segment(slot, end)
        assert segment.buf is not None
        for buffer, (start, stop) in zip(buffers, spans, strict=True):
            segment.buf[start:stop] = buffer.raw()
        return Packed(pickled, spans, segment.size)

    def _segment(self, slot: int, size: int) -> SharedMemory:
        segment = self._segments.get(slot)
        if segment is None or segment.size < size:
            if segment is not None:
                segment.close()
                segment.unlink()
            segment = SharedMemory(self._names[slot], create=True, size=size)
            self._segments[slot] = segment
        return segment


class Reader:
    """The other side: reads batches out of the slots, and removes the segments at the end."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._segments: dict[int, SharedMemory] = {}

    def read(self, slot: int, packed: Packed) -> object:
        """The batch that the worker has written to the slot, in memory of its own."""
        if not packed.size:
            return pickle.loads(packed.pickled, buffers=[bytearray() for _ in packed.spans])
        segment = self._segments.get(slot)
        if segment is None or segment.size != packed.size:
            if segment is not None:
                segment.close()
            segment = self._segments[slot] = SharedMemory(self._names[slot])
        assert segment.buf is not None
        copies = [bytearray(segment.buf[start:stop]) for start, stop in packed.spans]
        return pickle.loads(packed.pickled, buffers=copies)

    def remove(self) -> None:
        """Remove all segments; the worker has ended."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        for name in self._names:
            try:
                segment = SharedMemory(name)
            except FileNotFoundError:  # it was never made
                continue
            segment.close()
            segment.unlink()
