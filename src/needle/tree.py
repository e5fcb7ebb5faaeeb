"""Nested lists, tuples and dicts of Tensors: what functions take and return."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from .autograd import Tensor


def map_leaves(function: Callable[[Any], object], tree: object) -> Any:
    """The same nesting with `function(leaf)` in the place of every leaf."""
    if isinstance(tree, dict):
        return like(tree, [map_leaves(function, item) for item in tree.values()])
    if isinstance(tree, (list, tuple)):
        return like(tree, [map_leaves(function, item) for item in tree])
    return function(tree)


def like(tree: Any, items: list[object]) -> Any:
    """A list, tuple or dict of the same kind as `tree`, with other items."""
    kind = type(tree)
    if kind is list:
        return items
    if isinstance(tree, tuple):
        return kind(*items) if hasattr(tree, "_fields") else kind(items)  # a namedtuple, or none
    if kind is dict:
        return dict(zip(tree, items, strict=True))
    new = copy.copy(tree)  # a class of its own, which may have more than its items
    for key, item in zip(range(len(items)) if isinstance(tree, list) else tree, items, strict=True):
        new[key] = item
    return new


def copied(tree: object, instead: dict[int, object]) -> Any:
    """The same nesting with lists and dicts of its own, and others in the place of some objects.

    `instead` tells these by their ids, and has each container's copy afterwards: one that occurs
    twice is one again.
    """
    if id(tree) in instead:
        return instead[id(tree)]
    if not isinstance(tree, (list, tuple, dict)):
        return tree
    before = list(tree.values() if isinstance(tree, dict) else tree)
    items = [copied(item, instead) for item in before]
    if isinstance(tree, tuple) and all(x is y for x, y in zip(items, before, strict=True)):
        return tree
    instead[id(tree)] = like(tree, items)
    return instead[id(tree)]


def has_leaf(tree: object, kinds: tuple[type, ...]) -> bool:
    """Whether a leaf of the nesting is of one of the kinds."""
    if isinstance(tree, dict):
        return any(has_leaf(item, kinds) for item in tree.values())
    if isinstance(tree, (list, tuple)):
        return any(has_leaf(item, kinds) for item in tree)
    return isinstance(tree, kinds)


def tensors(tree: object) -> list[Tensor]:
    """The Tensors in a nesting, from left to right."""
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: object, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            _collect(item, found)
    elif isinstance(tree, dict):
        for item in tree.values():
            _collect(item, found)
