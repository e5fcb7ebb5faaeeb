"""Modes of a thread: whether operations are recorded, autocast, and what undoes host actions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from ..backend_ndarray import versions
from ..contexts import Setting, decorated

# When True, operations only record the graph; data is computed when it is first asked for.
LAZY_MODE = False


class _Mode(threading.local):
    recording = True
    autocast: np.dtype | None = None
    # What undoes changes of Python state, in their order, while someone wants to take them back.
    undo_log: list[Callable[[], Any]] | None = None

    def __init__(self) -> None:
        # `recording` and `autocast` outside of the contexts that this thread is in.
        self.outer_recording: list[bool] = []
        self.outer_autocast: list[np.dtype | None] = []


_mode = _Mode()


@contextmanager
def undone() -> Iterator[None]:
    """What this thread changes inside and says to `changed` is as before afterwards; Tensors are
    not."""
    outer, _mode.undo_log = _mode.undo_log, []
    try:
        yield
    finally:
        undos, _mode.undo_log = _mode.undo_log, outer
        for undo in reversed(undos or ()):
            undo()


class undone_on_error:
    """What this thread changes inside and says to `changed` is as before if an exception leaves."""

    __slots__ = ("_outer",)

    def __enter__(self) -> None:
        self._outer, _mode.undo_log = _mode.undo_log, []

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        log, _mode.undo_log = _mode.undo_log or (), self._outer
        if kind is not None:
            for undo in reversed(log):
                undo()
        elif self._outer is not None:
            self._outer.extend(log)


def changed(undo: Callable[[], Any]) -> None:
    """A host action has changed Python state, such as a count of steps; `undo` takes it back."""
    if _mode.undo_log is not None:
        _mode.undo_log.append(undo)


class _SetRecording(Setting):
    recording: ClassVar[bool]
    _context: ClassVar[Any]  # the only object of the class, as `_mode` has what changes

    def __init_subclass__(cls) -> None:
        cls._context = super().__new__(cls)
        super().__init__(cls._context, _mode, "recording", cls.recording, "outer_recording")

    def __new__(cls, function: Any = None) -> Any:
        return cls._context if function is None else cls._context(function)

    def __init__(self) -> None:
        """It was made with its class."""

    def __call__(self, function: Any) -> Any:
        return decorated(function, type(self), type(self).__name__)


class no_grad(_SetRecording):
    """A context in which no operation is recorded, in this thread.

    Also a decorator of functions, generators and coroutines: `@no_grad()` or `@no_grad`.
    """

    recording = False


class enable_grad(_SetRecording):
    """A context in which operations are recorded, also inside `no_grad`; a decorator like it."""

    recording = True


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.recording


def autocast_dtype() -> np.dtype | None:
    """The dtype in which products run in this thread (see `needle.amp`); None: in their inputs'."""
    return _mode.autocast


class autocasting(Setting):
    """Inside, products run in `dtype`; None turns it off."""

    def __init__(self, dtype: np.dtype | None) -> None:
        super().__init__(_mode, "autocast", dtype, "outer_autocast")


def moment() -> int:
    """A point in time: every Value was made before it or will be made after it."""
    return versions.advance()
