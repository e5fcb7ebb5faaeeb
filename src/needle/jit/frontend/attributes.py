"""Attributes and slots of objects and classes, read without telling a trace."""

from __future__ import annotations

import gc
import types
from typing import Any, TypeAlias

from .places import MISSING

# The `__dict__` of an object or a class.
Attributes: TypeAlias = dict[str, Any]

_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8  # of type.__flags__


def attributes_of(obj: object) -> Attributes | None:
    """The object's `__dict__`; None for an object that has only slots."""
    try:
        attributes: Attributes = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None
    return attributes


def is_mutable(cls: type) -> bool:
    """Whether attributes of the class can be set."""
    return bool(cls.__flags__ & _HEAP_TYPE) and not cls.__flags__ & _IMMUTABLE_TYPE


def namespace_of(cls: type) -> Attributes:
    """The dict behind the read-only view that is `cls.__dict__`."""
    namespace: Attributes = gc.get_referents(cls.__dict__)[0]
    return namespace


def in_class(cls: type, name: str) -> Any:
    """The attribute of a class or its bases, as it is stored; MISSING for none."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), MISSING)


def is_slot(cls: type, name: str) -> bool:
    """Whether objects of the class have a slot of that name."""
    return isinstance(in_class(cls, name), types.MemberDescriptorType)


def in_slot(obj: object, name: str) -> object:
    """What is in a slot; MISSING for nothing."""
    try:
        value: object = in_class(type(obj), name).__get__(obj)
    except AttributeError:
        return MISSING
    return value


def slots_of(obj: object) -> Attributes:
    """The slots of an object that have a value."""
    slots = {
        name: in_slot(obj, name)
        for base in type(obj).__mro__
        if is_mutable(base)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    }
    return {name: value for name, value in slots.items() if value is not MISSING}
