"""Nested lists, tuples and dicts of Tensors: what functions take and return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor, TensorTuple
from ..backend_ndarray import NDArray


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


def signature(tree: Any) -> Any:
    """What a compiled program depends on: the nesting, the kinds of Tensors, the other leaves.

    Hashable. Raises TypeError for an array that is no Tensor and for a leaf that cannot be hashed.
    """
    if isinstance(tree, Tensor):
        data = tree.realize_cached_data()
        return (data._shape, data._dtype, data._device.name, tree.requires_grad)
    if isinstance(tree, (list, tuple)):
        return (type(tree), tuple(map(signature, tree)))
    if isinstance(tree, dict):
        return (type(tree), tuple((key, signature(item)) for key, item in tree.items()))
    if isinstance(tree, (NDArray, TensorTuple)) or hasattr(tree, "__array_interface__"):
        raise TypeError(
            f"[jit] an argument is a {type(tree).__name__}; compiled functions take Tensors (and "
            "plain Python values, for each of which they are compiled anew)"
        )
    try:
        hash(tree)
    except TypeError:
        raise TypeError(
            f"[jit] an argument of type {type(tree).__name__} cannot be told from another; pass "
            "Tensors, or values that can be hashed"
        ) from None
    return (type(tree), tree)
