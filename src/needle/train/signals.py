"""Signals while training: stop after this step, save and go on, or stop at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one comes where a terminal is closed
SAVES = ("SIGUSR1",)


class Interrupted(KeyboardInterrupt):
    """`fit` was stopped by SIGINT; the step had ended and a checkpoint was written.

    Attributes
    ----------
    code : int
        The exit code for programs, 130.
    """

    code = 128 + signal.SIGINT


class Terminated(SystemExit):
    """`fit` was stopped by SIGTERM or SIGHUP, as `Interrupted` by SIGINT; the exit code is 143
    or 129."""

    def __init__(self, message: str, by: int = signal.SIGTERM) -> None:
        super().__init__(128 + by)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Signals:
    """A context that catches signals: the first one is noted, the second ends the program at once.

    Only the main thread gets signals, so nothing is caught in others. A signal that was ignored, as
    under `nohup`, stays so.
    """

    def __init__(self) -> None:
        self.pending = False  # whether anything was noted
        self.stop: signal.Signals | None = None
        self.save = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for name in (*STOPS, *SAVES):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    handler = self._save if name in SAVES else self._stop
                    self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:
            _at_once(number)
        self.stop, self.pending = signal.Signals(number), True

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.save = self.pending = True


def stopped(by: signal.Signals, message: str) -> NoReturn:
    """Raises what stands for a signal."""
    raise Interrupted(message) if by == signal.SIGINT else Terminated(message, by)


def _at_once(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
