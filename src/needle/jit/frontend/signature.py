"""What a compiled program depends on among the arguments of a call."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Hashable
from types import EllipsisType, MethodType, NoneType, NotImplementedType
from typing import Any, TypeAlias

import numpy as np

from ...autograd import Tensor, TensorTuple
from ...backend_ndarray import BackendDevice, NDArray
from .places import Container

# An argument, or a part of one.
Argument: TypeAlias = Any
# A part of a key: what an argument is.
Part: TypeAlias = Hashable

# Types whose values are equal only if nothing can tell them apart.
_PLAIN = frozenset((int, bool, str, bytes, NoneType, EllipsisType, NotImplementedType, range))

_NUMBERS = (float, int, np.floating, np.integer)


class HasArrays(Exception):
    """A leaf is an array of NumPy's: `Arrays` puts a Tensor in its place."""


class Signature:
    """The arguments of one call: what they are, and which of them are the same object.

    Two calls may run the same program only if their `key`s are equal. It says how the arguments
    are nested, which kinds of Tensors there are, which of these are the same object or the gradient
    of another, and what the other leaves are: plain values by their value, other `objects` by their
    identity. A key keeps nothing alive: its owner must forget it when one of the objects dies.
    """

    __slots__ = ("_has_gradients", "containers", "ids", "key", "objects", "tensors")

    def __init__(self, arguments: object) -> None:
        """Raises HasArrays for an array of NumPy's, TypeError for others and without a hash."""
        self.tensors: list[Tensor] = []  # from left to right
        self.objects: list[object] = []
        self.containers: list[Container] = []  # the lists and dicts, which may change
        self._has_gradients = False
        described = self._described(arguments)
        self.ids = set(map(id, self.tensors))
        self.key = described, self._sharing()

    def _sharing(self) -> Part:
        """Which Tensors and containers are the same object, and which Tensors are gradients."""
        tensors = self.tensors
        containers = [*map(id, self.containers)] if self.containers else []
        distinct = len(self.ids) == len(tensors) and (
            not containers or len(containers) == len(set(containers))
        )
        if distinct and not self._has_gradients:
            return None
        place: dict[int, int] = {}
        same = [place.setdefault(id(t), i) for i, t in enumerate(tensors)]
        gradients = [place.get(id(t._grad)) for t in tensors]
        if distinct and not any(g is not None for g in gradients):
            return None
        return tuple(same), tuple(gradients), tuple(map(containers.index, containers))

    def _described(self, tree: Argument) -> Part:
        kind = type(tree)
        if isinstance(tree, Tensor):
            self.tensors.append(tree)
            if tree._grad is not None:
                self._has_gradients = True
            data = tree.cached_data
            if data is None:  # lazy
                data = tree.realize_cached_data()
            return (
                kind, data._shape, data._dtype, data._device.name, tree.requires_grad,
                tree.op is None,
            )  # fmt: skip
        if kind is tuple:
            return (kind, *[self._described(item) for item in tree])
        if kind in _PLAIN:
            return (kind, tree)
        if kind is float:
            return _exact(tree)
        if isinstance(tree, (list, tuple)):
            self.containers.append(tree)
            return (kind, *[self._described(item) for item in tree])
        if isinstance(tree, dict):
            self.containers.append(tree)
            return (kind, *[self._item(key, item) for key, item in tree.items()])
        return self._described_leaf(tree)

    def _item(self, key: object, item: object) -> Part:
        return (key if type(key) is str else self._described(key), self._described(item))

    def _described_leaf(self, leaf: Argument) -> Part:
        kind = type(leaf)
        for types, describe in _VALUES:
            if isinstance(leaf, types):
                return (kind, describe(self, leaf))
        parameters = getattr(kind, "__dataclass_params__", None)
        if parameters is not None and parameters.frozen:
            fields = dataclasses.fields(leaf)
            return (kind, *[self._described(getattr(leaf, f.name)) for f in fields])
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
            raise HasArrays
        if isinstance(leaf, (NDArray, TensorTuple)) or hasattr(leaf, "__array_interface__"):
            raise TypeError(
                f"[jit] an argument is a {kind.__name__}; compiled functions take Tensors, "
                "NumPy's arrays of numbers, and plain Python values, for each of which they are "
                "compiled anew"
            )
        try:
            hash(leaf)
        except TypeError:
            raise TypeError(
                f"[jit] an argument of type {kind.__name__} cannot be told from another; pass "
                "Tensors, or values that can be hashed"
            ) from None
        if kind.__weakrefoffset__ == 0:  # a value of some other library
            return (kind, leaf)
        self.objects.append(leaf)
        return (kind, id(leaf))


def without_numbers(key: Part) -> Part:
    """A key with the values of floats and integers left out."""
    if not isinstance(key, tuple):
        return key
    if key and isinstance(key[0], type) and issubclass(key[0], _NUMBERS) and key[0] is not bool:
        return key[:1]
    return tuple(map(without_numbers, key))


def _exact(x: float) -> Part:
    """A float as a key: 0.0 and -0.0 differ, all NaNs are equal."""
    return (float, x, math.copysign(1.0, x)) if x == x else (float, None)


def _members(signature: Signature, values: frozenset[object]) -> Part:
    return frozenset(map(signature._described, values))


# Other leaves that are described by their value: their types, and the part of the key.
_VALUES: tuple[tuple[type | tuple[type, ...], Callable[[Signature, Argument], Part]], ...] = (
    (np.generic, lambda _, x: (x.dtype.str, x.tobytes())),
    (np.dtype, lambda _, x: x),
    (BackendDevice, lambda _, x: x.name),
    (float, lambda _, x: _exact(float(x))),
    (complex, lambda _, x: (_exact(x.real), _exact(x.imag))),
    ((int, str, bytes), lambda _, x: x),
    (numbers.Number, lambda _, x: repr(x)),
    (slice, lambda self, x: self._described((x.start, x.stop, x.step))),
    (frozenset, _members),
    (MethodType, lambda self, x: self._described((x.__func__, x.__self__))),
    (functools.partial, lambda self, x: self._described((x.func, x.args, x.keywords))),
)
