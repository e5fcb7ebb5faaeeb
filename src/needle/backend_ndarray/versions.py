"""When the memory of arrays was last changed, so that backward can tell.

One clock counts all changes. A buffer's `version` is the time of its last change, 0 if it was only
filled when it was made: views, detached Tensors and state dicts share the buffer and so its
version. A node of a graph remembers the time of its forward pass, which costs nothing; whatever its
gradient reads must not be newer.

A buffer is `shared` where its memory may be known under another buffer as well: it was made by
`from_numpy` or `from_dlpack`, or NumPy or DLPack got a view of it. A change of one reaches the
versions of all that overlap it. What NumPy itself writes is not seen.
"""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

from ..forks import fork_safe


class Buffer(Protocol):
    """The memory of arrays, as far as its contents change."""

    version: int
    shared: bool

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""

    def ptr(self) -> int:
        """The address of the first element."""


now = 0

_lock = fork_safe(threading.Lock())
_shared: weakref.WeakSet[Buffer] = weakref.WeakSet()


def advance() -> int:
    """A new time, later than everything that was noted before."""
    global now
    with _lock:
        now += 1
        return now


def written(buffer: Buffer) -> None:
    """Note that the contents of `buffer` have changed."""
    buffer.version = time = advance()
    if buffer.shared:
        for other in _all_shared():
            if overlap(buffer, other):
                other.version = time


def share(buffer: Buffer) -> None:
    """Note that the memory of `buffer` may be known under another buffer."""
    if buffer.shared:
        return
    buffer.shared = True
    with _lock:
        _shared.add(buffer)


def overlap(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers have memory in common."""
    if a is b:
        return True
    if not (a.shared and b.shared):
        return False
    return a.ptr() < b.ptr() + b.nbytes and b.ptr() < a.ptr() + a.nbytes


def _all_shared() -> list[Buffer]:
    with _lock:
        return list(_shared)
