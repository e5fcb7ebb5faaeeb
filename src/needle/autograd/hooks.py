"""Functions that see the gradient of a Value in a backward pass, and may replace it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

from .value import Value

_numbers = itertools.count()
# The functions of each value that has some, by its id and in the order of registration.
hooks: dict[int, dict[int, Callable[[Any], Any]]] = {}


class Handle:
    """A registered function, until `remove()`."""

    def __init__(self, value: Value, function: Callable[[Any], Any]) -> None:
        self._key, self._number = id(value), next(_numbers)
        if self._key not in hooks:
            hooks[self._key] = {}
            weakref.finalize(value, hooks.pop, self._key, None)
        hooks[self._key][self._number] = function

    def remove(self) -> None:
        """Stop running the function; removing twice is harmless."""
        hooks.get(self._key, {}).pop(self._number, None)


def run_hooks(value: Value, gradient: Value) -> Value:
    """The gradient, as the value's functions leave it."""
    for function in tuple(hooks[id(value)].values()):
        result = function(gradient)
        if result is not None:
            gradient = result
    return gradient
