"""Streams: what each thread gives the GPU to do, and what of it comes before what.

Every thread has a stream of its own, whose work is done in order. Between streams only events make
an order: memory knows which streams use it, and a use on another stream comes after those.
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
    """A queue of work: how much was put into it, and how much of others' comes before the next."""

    def __init__(self, handle: c_void_p) -> None:
        self.handle = handle
        self.issued = 0
        self.capturing = False  # what it is given becomes a graph
        self.rehearsing = False  # its kernels are compiled and not launched
        self.watch: int | None = None  # where a graph notes an index that is out of range
        self.workspace: Block | None = None  # of cuBLASLt; a graph has one of its own
        self.seen: dict[Stream, int] = {}
        self._since: int | None = None

    def is_after(self, uses: Uses) -> bool:
        """Whether the next work comes after all of the uses."""
        return all(
            other is self or self.seen.get(other, 0) >= ticket for other, ticket in uses.items()
        )

    @property
    def settled(self) -> int:
        """How much of the work is sure to be before an event that is recorded now."""
        return self.issued if self._since is None else self._since

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, addresses are taken several pieces of work before they are used."""
        before, self._since = self._since, self.settled
        try:
            yield
        finally:
            self._since = before


# Which streams use some memory: the number of the latest piece of work that does.
Uses = dict[Stream, int]


class Mark:
    """A point in a stream's work, by an event."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        self._streams, self.stream, self.ticket = streams, stream, stream.settled
        self.event = streams._new_event()
        streams._context.call("cuEventRecord", self.event, stream.handle)

    def is_done(self) -> bool:
        """Whether the GPU has got there."""
        try:
            self._streams._context.call("cuEventQuery", self.event)
        except CudaError as error:
            if error.code != NOT_READY:
                raise
            return False
        return True

    def wait(self) -> None:
        """Wait, on the host, until the GPU has got there."""
        self._streams._context.call("cuEventSynchronize", self.event)

    def __del__(self) -> None:
        if hasattr(self, "event"):
            self._streams._events.append(self.event)


class _Lease:
    """A thread's stream; when the thread ends, the next one may have it."""

    def __init__(self, streams: Streams) -> None:
        self._idle = streams._idle
        self.stream = streams._idle_or_new()

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self._idle.append(self.stream)


class Streams:
    """The streams of a GPU, one a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._thread = threading.local()
        self._all: list[Stream] = []
        self._idle: list[Stream] = []
        self._events: list[c_void_p] = []

    @property
    def current(self) -> Stream:
        """This thread's."""
        try:
            return self._thread.lease.stream
        except AttributeError:
            self._thread.lease = _Lease(self)
            return self._thread.lease.stream

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
        """Where a stream, or this thread's, is now."""
        with self._context.lock:  # an event in a stream that captures would belong to its graph
            return Mark(self, stream or self.current)

    def use(self, uses: Uses) -> None:
        """This thread's next work uses memory with these uses, and comes after them."""
        here = self.current
        uses[here] = here.issued + 1
        if len(uses) > 1 and not here.capturing:  # else it was ordered before
            self.order(here, uses)

    def order(self, here: Stream, uses: Uses, marks: Sequence[Mark] = ()) -> None:
        """What `here` is given next comes after the uses; `marks` are known to be after them."""
        if here.is_after(dict(uses)):
            return
        for mark in marks or [self.mark(other) for other in tuple(uses) if other is not here]:
            if mark.stream is not here:
                self._context.call("cuStreamWaitEvent", here.handle, mark.event, 0)
                here.seen[mark.stream] = max(here.seen.get(mark.stream, 0), mark.ticket)
                here.issued += 1

    def synchronize(self) -> None:
        """Wait until all threads' work is done."""
        with self._context.lock:
            marks = [Mark(self, stream) for stream in self._all]
        for mark in marks:
            mark.wait()
