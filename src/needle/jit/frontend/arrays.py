"""NumPy's arrays among the arguments of a call: a compiled function takes them as Tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import tree
from ...autograd import Tensor
from ...backend_ndarray.dtypes import FLOAT64


class Arrays:
    """The Tensors that stand for the arrays of one call.

    Floats become float32 as in `ndl.tensor(array)`, and stay float64 where an argument is a float64
    Tensor. What the function writes into such a Tensor is written into the array after the call.
    """

    def __init__(self, arguments: tuple[Any, dict[str, Any]]) -> None:
        arrays: dict[int, np.ndarray] = {}
        tree.map_leaves(lambda x: arrays.setdefault(id(x), x) if is_array(x) else None, arguments)
        tensors = tree.tensors(arguments)
        device = tensors[0].device if tensors else None
        is_double = any(x.dtype is FLOAT64 for x in tensors)
        self._pairs = [
            (
                array,
                Tensor(
                    array,
                    device=device,
                    dtype=FLOAT64 if is_double and array.dtype.kind == "f" else None,
                    requires_grad=False,
                ),
            )
            for array in arrays.values()
        ]
        instead: dict[int, object] = {id(array): tensor for array, tensor in self._pairs}
        self.args, self.kwargs = tree.copied(arguments, instead)
        self._before = [self._state(tensor) for _, tensor in self._pairs]

    @staticmethod
    def _state(tensor: Tensor) -> tuple[object, int]:
        data = tensor.cached_data
        return data, data._handle.version

    def write_back(self) -> None:
        """Write the Tensors that the call has changed into their arrays."""
        for (array, tensor), before in zip(self._pairs, self._before, strict=True):
            data, version = self._state(tensor)
            if data is not before[0] or version != before[1]:
                new, old = tensor.numpy(), array.astype(tensor.dtype)
                changed = (new != old) & ~((new != new) & (old != old))  # not the digits of others
                array[changed] = new[changed]


def is_array(leaf: object) -> bool:
    """Whether this is an array of numbers, which a Tensor can stand for."""
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf"


__all__ = ["Arrays", "is_array"]
