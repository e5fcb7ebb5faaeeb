"""Which function of needle's stands for one of NumPy's that is no ufunc: the one of its name.

The files with these functions are imported when they are first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

_FILES = {
    "numpy": ("_arrangements", "_reductions", "_selections"),
    "numpy.fft": ("_fft",),
    "numpy.linalg": ("_linalg",),
}


def find(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function with NumPy's arguments that runs in place of `function`, or None."""
    return named(function.__module__, function.__name__)


@cache
def named(module: str, name: str) -> Callable[..., Any] | None:
    """The function that runs in place of the one of that name in a module of NumPy, or None."""
    for file in _FILES.get(module, ()):
        functions = import_module(f".{file}", __package__)
        if name in functions.__all__:
            found: Callable[..., Any] = getattr(functions, name)
            return found
    return None


__all__ = ["find", "named"]
