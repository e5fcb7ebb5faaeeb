"""What a compiled program depends on among the arguments of a call."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, TensorTuple
from ..backend_ndarray import NDArray


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
