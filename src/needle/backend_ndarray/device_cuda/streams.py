"""Streams: the queues of the GPU's work, and the order between them.

Every thread has a stream of its own, and the GPU runs the work of a stream in order. Work of
different streams is ordered by events alone: a block of memory records which streams use it, and a
stream that uses it next waits for events of those.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import c_void_p
from typing import TYPE_CHECKING

from .driver import EVENT_DISABLE_TIMING, NOT_READY, STREAM_NON_BLOCKING, CudaError

if TYPE_CHECKING:
    from .context import Context
    from .memory import Block


class Stream:
    """A queue of work. Pieces of work are numbered in the order in which they are issued.

    `issued` is the number of the latest piece. `seen` maps other streams to the number of their
    latest piece that the next work of this stream is ordered after.
    """

    def __init__(self, handle: c_void_p) -> None:
        self.handle = handle
        self.issued = 0
        self.capturing = False  # whether its work is captured as a graph
        self.rehearsing = False  # whether its kernels are only compiled, not launched
        self.watch: int | None = None  # the address where a graph notes an index out of range
        self.workspace: Block | None = None  # cuBLASLt's; each graph has one of its own
        self.seen: dict[Stream, int] = {}
        self._since: int | None = None

    def is_after(self, uses: Uses) -> bool:
        """Whether the next work of this stream is ordered after all of the uses."""
        return all(
            other is self or self.seen.get(other, 0) >= ticket for other, ticket in uses.items()
        )

    @property
    def settled(self) -> int:
        """The number of the latest piece of work that precedes an event recorded now."""
        return self.issued if self._since is None else self._since

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context for several pieces of work that use addresses taken at its beginning.

        An event that is recorded inside counts only for the work before the context.
        """
        before, self._since = self._since, self.settled
        try:
            yield
        finally:
            self._since = before


# The streams that use a block of memory, with the number of their latest piece of work on it.
Uses = dict[Stream, int]


class Mark:
    """A point in the work of a stream: an event."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        self._streams, self.stream, self.ticket = streams, stream, stream.settled
        self.event = streams._new_event()
        streams._context.call("cuEventRecord", self.event, stream.handle)

    def is_done(self) -> bool:
        """Whether the GPU has reached the event."""
        try:
            self._streams._context.call("cuEventQuery", self.event)
        except CudaError as error:
            if error.code != NOT_READY:
                raise
            return False
        return True

    def wait(self) -> None:
        """Block the host until the GPU has reached the event."""
        self._streams._context.call("cuEventSynchronize", self.event)

    def __del__(self) -> None:
        if hasattr(self, "event"):
            self._streams._events.append(self.event)


class _Lease:
    """Holds the stream of a thread. When the thread ends, a new thread may get the stream."""

    def __init__(self, streams: Streams) -> None:
        self._idle = streams._idle
        self.stream = streams._idle_or_new()

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self._idle.append(self.stream)


class Streams:
    """The streams of a GPU, one for each thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._thread = threading.local()
        self._all: list[Stream] = []
        self._idle: list[Stream] = []
        self._events: list[c_void_p] = []

    @property
    def current(self) -> Stream:
        """The stream of this thread."""
        try:
            lease: _Lease = self._thread.lease
        except AttributeError:
            lease = self._thread.lease = _Lease(self)
        return lease.stream

    def _idle_or_new(self) -> Stream:
        with suppress(IndexError):
            return self._idle.pop()
        stream = Stream(self._context.create("cuStreamCreate", STREAM_NON_BLOCKING))
        self._all.append(stream)
        return stream

    def _new_event(self) -> c_void_p:
        with suppress(IndexError):
            return self._events.pop()
        return self._context.create("cuEventCreate", EVENT_DISABLE_TIMING)

    def mark(self, stream: Stream | None = None) -> Mark:
        """Record an event in a stream, by default in this thread's."""
        with self._context.lock:  # an event in a capturing stream would become part of its graph
            return Mark(self, stream or self.current)

    def use(self, uses: Uses) -> None:
        """Order this thread's next work after these uses of a block, and add it to them."""
        here = self.current
        uses[here] = here.issued + 1
        if len(uses) > 1 and not here.capturing:  # a captured graph is ordered as a whole
            self.order(here, uses)

    def order(self, here: Stream, uses: Uses, marks: Sequence[Mark] = ()) -> None:
        """Order the next work of the stream `here` after the uses.

        `marks` are events that were recorded after the uses, if there are any; otherwise events are
        recorded now.
        """
        if here.is_after(dict(uses)):
            return
        for mark in marks or [self.mark(other) for other in tuple(uses) if other is not here]:
            if mark.stream is not here:
                self._context.call("cuStreamWaitEvent", here.handle, mark.event, 0)
                here.seen[mark.stream] = max(here.seen.get(mark.stream, 0), mark.ticket)
                here.issued += 1

    def synchronize(self) -> None:
        """Wait until the work of all threads is done."""
        with self._context.lock:
            marks = [Mark(self, stream) for stream in self._all]
        for mark in marks:
            mark.wait()
