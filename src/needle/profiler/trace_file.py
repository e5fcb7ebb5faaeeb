"""Profiles as files of Chrome's trace format, which Perfetto (https://ui.perfetto.dev) shows.

The format: "Trace Event Format", Google, 2016. Times are in microseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..files import written_whole
from .recording import Recording, Span


def write_trace(path: str | os.PathLike[str], recording: Recording, spans: Iterable[Span]) -> None:
    """Write the spans and the memory in use; see `profile.export_chrome_trace`."""
    document = {"displayTimeUnit": "ms", "traceEvents": list(_events(recording, spans))}
    with written_whole(path) as file:
        file.write(json.dumps(document, ensure_ascii=False).encode())


def _events(recording: Recording, spans: Iterable[Span]) -> Iterator[dict[str, Any]]:
    process = os.getpid()
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": "needle"}}
    for i, (thread, name) in enumerate(recording.threads.items()):
        common = {"ph": "M", "pid": process, "tid": thread}
        yield {**common, "name": "thread_name", "args": {"name": name}}
        yield {**common, "name": "thread_sort_index", "args": {"sort_index": i}}
    for span in spans:
        facts = {k: v for k, v in span.facts.items() if k != "program"}
        if span.memory:
            facts["bytes"] = span.memory
        yield {
            "ph": "X", "name": span.name, "cat": span.category, "pid": process,
            "tid": span.thread, "ts": span.start / 1000, "dur": span.duration / 1000,
            "args": facts,
        }  # fmt: skip
    for when, used in recording.samples:
        yield {
            "ph": "C", "name": "memory in use", "pid": process, "ts": when / 1000,
            "args": {"bytes": used},
        }  # fmt: skip
