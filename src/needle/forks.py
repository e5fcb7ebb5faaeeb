"""What a forked child has to put right: of all threads only the one that forked goes on in it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[[], None])
_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def in_child(function: _Function) -> _Function:
    """A decorator of what every forked child does first, in the order of the decorations."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


def fork_safe(lock: Any) -> Any:
    """`lock`, a Lock or RLock of `threading`, free in every forked child.

    The thread that held it when the process was forked does not exist in the child.
    """
    _locks.add(lock)
    return lock


@in_child
def _free_locks() -> None:
    for lock in tuple(_locks):
        lock._at_fork_reinit()
