"""Nested lists, tuples and dicts of Tensors: what functions take and return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .autograd import Tensor


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting with `function(leaf)` in the place of every leaf."""
    if not isinstance(tree, (list, tuple, dict)):
        return function(tree)
    if isinstance(tree, dict):
        return type(tree)((key, map_leaves(function, item)) for key, item in tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # a namedtuple
        return type(tree)(*(map_leaves(function, item) for item in tree))
    return type(tree)(map_leaves(function, item) for item in tree)


def tensors(tree: Any) -> list[Tensor]:
    """The Tensors in a nesting, from left to right."""
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            _collect(item, found)
    elif isinstance(tree, dict):
        for item in tree.values():
            _collect(item, found)
