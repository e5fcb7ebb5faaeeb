"""Places of Python objects: how to read, write and compare what is there.

A place is a holder and a key: (dict, key) is an item, mostly an attribute in an object's
`__dict__`; (list, index) an item; (object, name) a slot, or a cell of a closure; (class, name) a
class attribute; (container, CONTENTS) all that a list, dict, set, deque or array contains;
(container, LENGTH) how many items it has.
"""

from __future__ import annotations

import array
import math
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np

from ...autograd.observing import unmeasured

Holder: TypeAlias = Any
Key: TypeAlias = Any
# What `snapshot` gives: a tuple, a dict or an array of NumPy.
Contents: TypeAlias = Any
# A container: one of `CONTAINERS`, or an array of NumPy.
Container: TypeAlias = Any
# What tells a place from others, for dicts: the holder's id, and the key or its id.
PlaceId: TypeAlias = tuple[int, object]
# A holder, a key and what is or was there.
Entry: TypeAlias = tuple[Holder, Key, Any]


class _Sentinel:
    """Stands for what is no object of the user."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


CONTENTS: Final = None
LENGTH: Any = _Sentinel("LENGTH")
MISSING: Any = _Sentinel("MISSING")  # nothing is there

CONTAINERS = (list, tuple, dict, set, frozenset, deque, bytearray, array.array)


def place_id(holder: Holder, key: Key) -> PlaceId:
    """A key that identifies the place as long as its holder and its key are alive."""
    return id(holder), key if isinstance(key, (str, int)) else id(key)


def read(holder: Holder, key: Key) -> Any:
    """The object at a place; MISSING if there is none."""
    if key is CONTENTS:
        return snapshot(holder)
    if key is LENGTH:
        return len(holder)
    if isinstance(holder, dict):
        return holder.get(key, MISSING)
    if isinstance(holder, list):
        return holder[key] if key < len(holder) else MISSING
    if isinstance(holder, type):
        return holder.__dict__.get(key, MISSING)
    try:
        return getattr(holder, key, MISSING)
    except ValueError:  # an empty cell
        return MISSING


def put(holder: Holder, key: Key, value: object) -> None:
    """Make `value` what is at a place; MISSING leaves nothing there."""
    if key is CONTENTS:
        _fill(holder, value)
    elif isinstance(holder, dict):
        if value is MISSING:
            holder.pop(key, None)
        else:
            holder[key] = value
    elif isinstance(holder, list):
        holder[key] = value
    elif value is not MISSING:
        setattr(holder, key, value)
    elif read(holder, key) is not MISSING:
        delattr(holder, key)


def _fill(container: Container, contents: Contents) -> None:
    """Make `contents`, as `snapshot` gives them, all that a container has."""
    if isinstance(container, np.ndarray):
        container[...] = contents
    elif isinstance(container, array.array):
        container[:] = array.array(container.typecode, contents)
    elif isinstance(container, list | bytearray):
        container[:] = contents
    elif isinstance(container, dict):
        container.clear()
        for key, value in contents.items():
            container[key] = value
    else:
        container.clear()
        (container.extend if isinstance(container, deque) else container.update)(contents)


def snapshot(container: Container) -> Contents:
    """A copy of the contents of a container, to compare them later."""
    if isinstance(container, dict):
        return dict(container)
    return container.copy() if isinstance(container, np.ndarray) else tuple(container)


def is_same(now: Any, then: Any) -> bool:
    """Whether two values are one object, or equal numbers, texts, NumPy arrays or tuples.

    MISSING in a tuple or dict that was there `then` stands for any object; `then` may also be a
    `Nesting`.
    """
    if now is then:
        return True
    if type(then) is Nesting:
        return then.fits(now)
    if type(now) is not type(then):
        return False
    if isinstance(now, (float, complex)):
        return _bits(now) == _bits(then)
    if isinstance(now, (int, str, bytes, np.generic, np.dtype)):
        return bool(now == then) or bool(now != now and then != then)
    if isinstance(now, np.ndarray):
        return now.dtype == then.dtype and np.array_equal(now, then)
    if isinstance(now, tuple):
        return len(now) == len(then) and all(
            value is MISSING or is_same(item, value) for item, value in zip(now, then, strict=True)
        )
    if type(now) is dict:
        return list(now) == list(then) and all(
            value is MISSING or is_same(now[key], value) for key, value in then.items()
        )
    if isinstance(now, types.MethodType):
        return now.__self__ is then.__self__ and now.__func__ is then.__func__
    if isinstance(now, types.FunctionType):
        return unmeasured(now) is unmeasured(then)
    return False


def _bits(number: complex) -> tuple[object, ...]:
    """A key for the number: 0.0 and -0.0 differ, every NaN is the same."""
    parts = (number.real, number.imag)
    return tuple((math.copysign(1, x), "nan" if x != x else x) for x in parts)


class Nesting:
    """A nesting in which objects of one kind, such as the Tensors of a hidden state, may be any."""

    def __init__(self, nesting: object, kind: type) -> None:
        free = (kind, list, tuple, dict)
        # (path, type, length, object) of each part; None for an object that may be any.
        self._parts = [
            (path, type(x), _length(x), None if isinstance(x, free) else x)
            for path, x in parts_of(nesting)
        ]

    def fits(self, nesting: object) -> bool:
        """Whether another nesting is alike."""
        parts = list(parts_of(nesting))
        return len(parts) == len(self._parts) and all(
            path == path_now
            and type(now) is kind
            and _length(now) == length
            and (x is None or is_same(now, x))
            for (path_now, now), (path, kind, length, x) in zip(parts, self._parts, strict=True)
        )


def parts_of(
    nesting: object, path: tuple[object, ...] = ()
) -> Iterator[tuple[tuple[object, ...], object]]:
    """(path, part) of a nesting of lists, tuples and dicts: itself, its parts and its leaves."""
    yield path, nesting
    if isinstance(nesting, dict):
        for key, item in nesting.items():
            yield from parts_of(item, (*path, key))
    elif isinstance(nesting, (list, tuple)):
        for i, item in enumerate(nesting):
            yield from parts_of(item, (*path, i))


def _length(part: object) -> int:
    return len(part) if isinstance(part, (list, tuple, dict)) else 0
