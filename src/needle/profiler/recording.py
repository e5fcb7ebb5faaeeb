"""What a profiler records: spans of time, nested in each thread, and the memory in use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..backend_selection import default_device


class Span:
    """Something that took time. Times are in nanoseconds since the recording began."""

    __slots__ = ("category", "end", "facts", "memory", "name", "parent", "start", "thread")

    def __init__(
        self, name: str, category: str, thread: int, parent: Span | None, facts: dict[str, Any]
    ) -> None:
        self.name, self.category, self.thread, self.parent = name, category, thread, parent
        self.facts = facts
        self.start = self.end = 0
        self.memory = 0  # bytes in use at the end more than at the start

    @property
    def duration(self) -> int:
        """Its length in nanoseconds."""
        return self.end - self.start

    def ancestors(self) -> Iterator[Span]:
        """The spans around it, from the inside out."""
        span = self.parent
        while span is not None:
            yield span
            span = span.parent


class _Here(threading.local):
    span: Span | None = None  # the innermost one that is open in this thread
    thread = 0  # the system's number of this thread; Python's own are too long for Perfetto


class Recording:
    """The spans between `start` and `stop`, of all threads of this process."""

    def __init__(self, shapes: bool, memory: bool, stack: bool) -> None:
        self.shapes, self.with_memory, self.stack = shapes, memory, stack
        self.spans: list[Span] = []
        self.threads: dict[int, str] = {}
        self.samples: list[tuple[int, int]] = []  # (time, bytes in use)
        self._here = _Here()
        self._process = os.getpid()  # a forked worker has a copy of the recording
        self._device = default_device()
        self._peak_before = self._stats().get("peak", 0)
        self.peak = 0
        self.start = time.perf_counter_ns()
        self._sample()

    def begin(self, name: str, category: str, **facts: Any) -> Span | None:
        """Begin a span in this thread, within the one that is open."""
        if os.getpid() != self._process:
            return None
        here = self._here
        if not here.thread:
            here.thread = threading.get_native_id()
            self.threads[here.thread] = threading.current_thread().name
        span = Span(name, category, here.thread, here.span, facts)
        here.span = span
        self.spans.append(span)
        span.memory = -self._sample()
        span.start = time.perf_counter_ns() - self.start
        return span

    def end(self, span: Span | None) -> None:
        """End a span, and those within it that an error has left open."""
        if span is None:
            return
        now = time.perf_counter_ns() - self.start
        inner = self._here.span
        while inner is not None and inner is not span:
            inner.end = inner.end or now
            inner = inner.parent
        span.end = now
        span.memory += self._sample()
        self._here.span = span.parent

    def stop(self) -> None:
        """Close what is open."""
        now = time.perf_counter_ns() - self.start
        for span in self.spans:
            if not span.end:
                span.end = now
                span.memory += self._sample()
        self._sample()
        peak = self._stats().get("peak", 0)
        if peak > self._peak_before:
            self.peak = max(self.peak, peak)

    def _stats(self) -> dict[str, int]:
        return self._device.memory_stats() if self.with_memory else {}

    def _sample(self) -> int:
        """The bytes in use; remembered where they have changed."""
        if not self.with_memory:
            return 0
        used = self._stats().get("in_use", 0)
        if not self.samples or self.samples[-1][1] != used:
            self.samples.append((time.perf_counter_ns() - self.start, used))
            self.peak = max(self.peak, used)
        return used
