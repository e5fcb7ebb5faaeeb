"""Modes of a thread: whether operations are recorded, autocast, and the undo log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..backend_ndarray import versions
from ..contexts import Setting, decorated

# When True, operations only record the graph; data is computed when it is first asked for.
LAZY_MODE = False


_Function = TypeVar("_Function")


class _Mode(threading.local):
    recording = True
    autocast: np.dtype | None = None
    runs_as_written = False
    # The undo log: functions that take back changes of Python state, in the order of the changes.
    # None outside of `rollback` and `rollback_on_error`.
    undo_log: list[Callable[[], object]] | None = None

    def __init__(self) -> None:
        # `recording` and the others outside of the contexts that this thread is in.
        self.outer_recording: list[bool] = []
        self.outer_autocast: list[np.dtype | None] = []
        self.outer_runs_as_written: list[bool] = []


_mode = _Mode()


@contextmanager
def rollback() -> Iterator[None]:
    """A context at whose end the changes that this thread has logged by `log_undo` are undone.

    Tensors keep their new data.
    """
    outer, _mode.undo_log = _mode.undo_log, []
    try:
        yield
    finally:
        undos, _mode.undo_log = _mode.undo_log, outer
        for undo in reversed(undos or ()):
            undo()


class rollback_on_error:
    """A context that undoes the changes logged by `log_undo` if an exception leaves it.

    Without an exception the enclosing context takes over the log.
    """

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


def log_undo(undo: Callable[[], object]) -> None:
    """Log that a host action has changed Python state, such as a count of steps.

    `undo` takes the change back.
    """
    if _mode.undo_log is not None:
        _mode.undo_log.append(undo)


class _SetRecording(Setting):
    recording: ClassVar[bool]
    _context: ClassVar[_SetRecording]  # the only object of the class: all state is in `_mode`

    def __init_subclass__(cls) -> None:
        cls._context = super().__new__(cls)
        super().__init__(cls._context, _mode, "recording", cls.recording, "outer_recording")

    def __new__(cls, function: object = None) -> Any:
        return cls._context if function is None else cls._context(function)

    def __init__(self) -> None:
        """Does nothing: the only object was initialized when its class was defined."""

    def __call__(self, function: _Function) -> _Function:
        wrapped: _Function = decorated(function, type(self), type(self).__name__)
        return wrapped


class no_grad(_SetRecording):
    """A context in which no operation is recorded, in this thread.

    Also a decorator of functions, generators and coroutines: `@no_grad()` or `@no_grad`.
    """

    recording = False


class enable_grad(_SetRecording):
    """A context in which operations are recorded, also inside `no_grad`; a decorator like it."""

    recording = True


class set_grad_enabled:
    """Turn the recording of operations on or off in this thread, as PyTorch has it.

    `set_grad_enabled(False)` holds from there on; `with set_grad_enabled(training):` for a block
    alone. Also a decorator.

    Parameters
    ----------
    mode : bool
        Whether operations are recorded.

    Raises
    ------
    TypeError
        For what is no bool.

    Examples
    --------
    >>> import needle as ndl
    >>> with ndl.set_grad_enabled(False):
    ...     ndl.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"[set_grad_enabled] mode must be a bool, got {type(mode).__name__}")
        self._mode, self._before = bool(mode), _mode.recording
        _mode.recording = self._mode

    def __enter__(self) -> None:
        _mode.recording = self._mode

    def __exit__(self, *exc: object) -> None:
        _mode.recording = self._before

    def __call__(self, function: _Function) -> _Function:
        _mode.recording, mode = self._before, self._mode
        wrapped: _Function = decorated(function, lambda: set_grad_enabled(mode), "set_grad_enabled")
        return wrapped


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.recording


def autocast_dtype() -> np.dtype | None:
    """The dtype in which products run in this thread (see `needle.amp`).

    None means that they run in the dtype of their inputs.
    """
    return _mode.autocast


class autocasting(Setting):
    """A context in which products run in `dtype`; None turns autocast off."""

    def __init__(self, dtype: np.dtype | None) -> None:
        super().__init__(_mode, "autocast", dtype, "outer_autocast")


class running_as_written(Setting):
    """A context in which compiled functions run as they are written, line by line.

    They then record their graph, for functions that differentiate what they are given, such as
    `needle.func.grad`, and each line is seen by `detect_anomaly`.
    """

    def __init__(self) -> None:
        super().__init__(_mode, "runs_as_written", True, "outer_runs_as_written")


def runs_as_written() -> bool:
    """Whether this thread is inside of `running_as_written`."""
    return _mode.runs_as_written


def timestamp() -> int:
    """A new logical timestamp: every Value was made before it or will be made after it."""
    return versions.advance()
