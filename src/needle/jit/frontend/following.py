"""Classes whose objects report which of their attributes are read and written.

While a thread traces a function, the classes that it meets get another `__getattribute__`,
`__setattr__` and `__delattr__`. These tell the observer of the thread; objects that other threads
use report nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from ...forks import fork_safe, in_child
from .attributes import Attributes, is_mutable
from .places import MISSING

# A class's `__getattribute__`; an attribute may be anything.
Getter: TypeAlias = Callable[[object, str], Any]

# Methods that are replaced in the classes that are followed.
REPLACED = frozenset(("__getattribute__", "__setattr__", "__delattr__"))


class Observer(Protocol):
    """Is told of attributes by the objects that its thread uses."""

    def attribute(self, obj: object, name: str, read: Getter) -> Any:
        """The attribute of an object; `read` is the class's own way to read it."""

    def wrote(self, obj: object, name: str) -> None:
        """An attribute of an object is about to be set or deleted."""


_observers: dict[int, Observer] = {}  # by their threads
_followed: dict[type, Attributes] = {}  # classes, and the methods that they had before
_lock = fork_safe(threading.Lock())


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """A context in which the objects that this thread uses report to `observer`."""
    thread = threading.get_ident()
    _observers[thread] = observer
    try:
        yield
    finally:
        del _observers[thread]
        _end_following()


def follow(cls: type) -> None:
    """Let objects of the class report their attributes, until no thread observes any more."""
    with _lock:
        if not is_mutable(cls) or any(issubclass(cls, known) for known in _followed):
            return
        replacements = _replacements(cls)
        _followed[cls] = {name: cls.__dict__.get(name, MISSING) for name in replacements}
        for name, function in replacements.items():
            setattr(cls, name, function)


def _replacements(cls: type) -> dict[str, Callable[..., object]]:
    read: Getter = cls.__getattribute__  # type: ignore[assignment]
    write: Callable[[object, str, object], None] = cls.__setattr__  # type: ignore[assignment]
    remove: Callable[[object, str], None] = cls.__delattr__  # type: ignore[assignment]

    def get(obj: object, name: str) -> Any:
        observer = _observers.get(threading.get_ident())
        return read(obj, name) if observer is None else observer.attribute(obj, name, read)

    def set_(obj: object, name: str, value: object) -> None:
        observer = _observers.get(threading.get_ident())
        if observer is not None:
            observer.wrote(obj, name)
        write(obj, name, value)

    def delete(obj: object, name: str) -> None:
        observer = _observers.get(threading.get_ident())
        if observer is not None:
            observer.wrote(obj, name)
        remove(obj, name)

    return {"__getattribute__": get, "__setattr__": set_, "__delattr__": delete}


def _end_following() -> None:
    """Give the classes their methods back, if no thread observes any more."""
    with _lock:
        if _observers:
            return
        for cls, before in reversed(_followed.items()):
            for name, function in before.items():
                if function is MISSING:
                    delattr(cls, name)
                else:
                    setattr(cls, name, function)
        _followed.clear()


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread: the traces of the other threads ended with them."""
    for thread in [key for key in _observers if key != threading.get_ident()]:
        del _observers[thread]
    _end_following()
