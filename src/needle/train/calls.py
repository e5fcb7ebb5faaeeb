"""Calls: what a trainer calls of its callbacks, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .callbacks.base import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class Calls:
    """The calls of one trainer. Methods that a callback does not define are not called."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._started: list[Callback] = []

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call a method of every callback."""
        for method in self.methods(name):
            method(self._trainer, *arguments)

    def methods(self, name: str) -> list[Callable[..., None]]:
        """The methods of that name which callbacks define."""
        return [found for c in self._trainer.callbacks if (found := _defined(c, name))]

    def start(self) -> None:
        """Call `on_fit_start` of every callback."""
        for callback in self._trainer.callbacks:
            callback.on_fit_start(self._trainer)
            self._started.append(callback)

    def end(self) -> None:
        """Call `on_fit_end` of all that have started, and then raise the first of their errors."""
        errors = self._end()
        if errors:
            raise errors[0]

    def fail(self, error: BaseException) -> None:
        """Call `on_error` and `on_fit_end`; errors in them become notes of the first one."""
        errors: list[Exception] = []
        for callback in self._started:
            _attempt(errors, callback.on_error, self._trainer, error)
        for further in errors + self._end():
            error.add_note(f"A callback failed, too: {type(further).__name__}: {further}")

    def _end(self) -> list[Exception]:
        errors: list[Exception] = []
        while self._started:
            _attempt(errors, self._started.pop(0).on_fit_end, self._trainer)
        return errors


def _defined(callback: Callback, name: str) -> Callable[..., None] | None:
    base = getattr(Callback, name)
    found: Callable[..., None] = getattr(callback, name)
    return None if getattr(type(callback), name, base) is base else found


def _attempt(errors: list[Exception], method: Callable[..., None], *arguments: Any) -> None:
    try:
        method(*arguments)
    except Exception as error:  # the other callbacks are called all the same
        errors.append(error)
