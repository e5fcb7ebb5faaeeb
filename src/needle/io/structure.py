"""Nested Python values as a tree of JSON and named tensors, and back.

Of JSON's values None, bools, numbers, texts and arrays (lists) stand for themselves. Everything
else is an object of one member, `{kind: content}`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import BackendDevice, NDArray, as_dtype
from ..backend_ndarray.dtypes import BFLOAT16, bfloat16_bits, own_dtype
from ..nn import Module, Parameter
from ..nn.module_methods import Members
from ..optim import Optimizer
from .tensor_file import RESERVED, Stored, stored

Place = Callable[[str], "BackendDevice | str | None"]
DEEPEST = 200  # containers in containers; JSON's own limit lies a little higher


class Writer:
    """Turns a value into JSON, and collects its tensors under the paths where they stand."""

    def __init__(self) -> None:
        self.tensors: dict[str, Stored] = {}
        # By identity: a Tensor that stands in two places is written once. The objects are kept, so
        # that no other gets the number of one.
        self._written: dict[int, tuple[object, Any]] = {}

    def tree(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        """`value` as JSON. Raises TypeError or ValueError, which name the place in it."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, (Tensor, np.ndarray, NDArray, np.generic)):
            return self._array(value, path)
        if len(path) >= DEEPEST:
            raise ValueError(f"[save] {_named(path[:3])}… is nested more than {DEEPEST} deep")
        if type(value) in (list, Members):
            return self._items(value, path)
        if type(value) is tuple:
            return {"tuple": self._items(value, path)}
        if type(value) in (dict, OrderedDict):
            pairs = [
                [self.tree(key, (*path, "key")), self.tree(item, (*path, str(key)))]
                for key, item in value.items()
            ]
            return {type(value).__name__: pairs}
        if isinstance(value, np.dtype) or value is BFLOAT16:
            return {"dtype": value.name}
        if isinstance(value, BackendDevice):
            return {"device": value.name}
        raise TypeError(f"[save] {_named(path)} is a {_kind(value)}; {_instead(value)}")

    def _items(self, values: Any, path: tuple[str, ...]) -> list[Any]:
        return [self.tree(item, (*path, str(i))) for i, item in enumerate(values)]

    def _array(self, value: Any, path: tuple[str, ...]) -> Any:
        found = self._written.get(id(value))
        if found is None:
            found = self._written[id(value)] = (value, self._written_array(value, path))
        return found[1]

    def _written_array(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, (Tensor, NDArray)):
            data = value.realize_cached_data() if isinstance(value, Tensor) else value
            bits = data.numpy()
            held = Stored("BF16", bfloat16_bits(bits)) if data.dtype is BFLOAT16 else stored(bits)
            kind: dict[str, Any] = {"device": data.device.name}
            kind["tensor"] = "NDArray" if isinstance(value, NDArray) else type(value).__name__
            if isinstance(value, Tensor):
                kind["requires_grad"] = bool(value.requires_grad)
        else:
            held = stored(np.asarray(value))
            kind = {"tensor": "array" if isinstance(value, np.ndarray) else "number"}
        if held is None:
            raise TypeError(
                f"[save] {_named(path)} is a NumPy {type(value).__name__} of dtype {value.dtype}, "
                "which the file cannot hold; save complex numbers as their real and imaginary "
                "parts, texts and objects as lists"
            )
        name = self._free_name(".".join(path) or "value")
        self.tensors[name] = held
        return {**kind, "name": name}

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.tensors or name == RESERVED:
            number += 1
            name = f"{wanted}#{number}"
        return name


class Reader:
    """Turns the JSON and the tensors of a `Writer` into the value."""

    def __init__(self, tensors: Mapping[str, Stored], place: Place) -> None:
        self._tensors = tensors
        self._place = place
        self._read: dict[str, Any] = {}

    def value(self, tree: Any) -> Any:
        """The value of a tree. Raises ValueError where the tree is none of a `Writer`'s."""
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "tensor" in tree:
            name = tree["name"]
            if name not in self._read:
                self._read[name] = self._array(tree, self._tensors[name])
            return self._read[name]
        ((kind, content),) = tree.items()
        if kind == "tuple":
            return tuple(self.value(item) for item in content)
        if kind in ("dict", "OrderedDict"):
            pairs = [(self.value(key), self.value(item)) for key, item in content]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
        if kind == "float":
            return float(content)
        if kind == "dtype":
            return as_dtype(content) if content == BFLOAT16.name else np.dtype(content)
        if kind == "device":
            return self._place(content)
        raise ValueError(f"unknown kind {kind!r}")

    def _array(self, tree: Mapping[str, Any], held: Stored) -> Any:
        kind = tree["tensor"]
        if kind == "array":
            return held.values()
        if kind == "number":
            return held.values()[()]
        data = as_ndarray(held, self._place(tree["device"]))
        if kind == "NDArray":
            return data
        made = Parameter if kind == "Parameter" else Tensor
        return made.make_const(data, requires_grad=bool(tree["requires_grad"]))


def as_ndarray(held: Stored, device: BackendDevice | str | None) -> NDArray:
    """The array of a stored tensor. A dtype that needle lacks becomes the next wider one.

    Raises ValueError where numbers are too large for that.
    """
    values = held.values()
    dtype = BFLOAT16 if held.code == "BF16" else own_dtype(values.dtype)
    try:
        return NDArray(values, device=device, dtype=dtype)
    except OverflowError as error:
        raise ValueError(f"holds {values.dtype} numbers that {dtype} cannot: {error}") from None


def _named(path: tuple[str, ...]) -> str:
    return repr(".".join(path)) if path else "the object"


def _kind(value: object) -> str:
    bases = [b.__name__ for b in type(value).__mro__ if b in (dict, list, tuple, int, float, str)]
    return f"{type(value).__name__}, a kind of {bases[0]}" if bases else type(value).__name__


def _instead(value: object) -> str:
    """What to save in place of an object whose class the file cannot hold."""
    if isinstance(value, (Module, Optimizer)) or hasattr(value, "state_dict"):
        return "a file holds numbers, no code: save its state_dict()"
    for base in (dict, list, tuple, int, float, str):
        if isinstance(value, base):
            return f"save it as {base.__name__}(x)"
    if isinstance(value, (set, frozenset)):
        return "save it as sorted(x) or list(x)"
    return (
        "a file holds Tensors, arrays, numbers, texts, None, and lists, tuples and dicts of them; "
        "of other objects save vars(x), or what you need to make them again"
    )
