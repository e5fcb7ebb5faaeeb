"""The programs of one function, by the key of a call."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import TypeAlias

from .program import Program, release

# Two calls with the same key may run the same program, if its guards hold.
CallKey: TypeAlias = Hashable
References: TypeAlias = list[weakref.ref[Program]]

# Programs that one function keeps. Beyond it the one unused for longest is forgotten.
MAX_PROGRAMS = 32


class ProgramCache(OrderedDict[CallKey, References]):
    """References to programs, in the order of their use; those of one key differ in their guards.

    The cache keeps no program alive, and it forgets a key when an object dies that the key tells
    of by its id.
    """

    def __init__(self) -> None:
        super().__init__()
        # By their ids: objects, and the keys that tell of them.
        self._objects: dict[int, tuple[weakref.ref[object], set[CallKey]]] = {}

    def alive(self, key: CallKey) -> list[Program]:
        """The programs of a key that live."""
        return [alive for reference in self.get(key, ()) if (alive := reference()) is not None]

    def latest(self) -> Program | None:
        """The program that was used last."""
        return next((alive[0] for key in reversed(self) if (alive := self.alive(key))), None)

    def add(self, key: CallKey, program: Program, objects: Iterable[object]) -> None:
        """Add a program; `objects` are those that the key tells of by their ids."""
        others = [reference for reference in self.get(key, ()) if reference() is not None]
        self[key] = [weakref.ref(program), *others[: MAX_PROGRAMS - 1]]
        for unused in others[MAX_PROGRAMS - 1 :]:
            release(unused)
        self.move_to_end(key)
        for thing in objects:
            self._keys_of(thing).add(key)
        while len(self) > MAX_PROGRAMS:
            oldest = next(iter(self))
            self._forget(oldest)
            for _, keys in self._objects.values():
                keys.discard(oldest)

    def _forget(self, key: CallKey) -> None:
        for program in self.pop(key, ()):
            release(program)

    def _keys_of(self, thing: object) -> set[CallKey]:
        """The keys that tell of an object: they are forgotten when it dies."""
        known = self._objects.get(id(thing))
        if known is not None:
            return known[1]
        ours, number = weakref.ref(self), id(thing)

        def forget(_: object) -> None:
            cache = ours()
            if cache is not None:
                for key in cache._objects.pop(number)[1]:
                    cache._forget(key)

        self._objects[number] = weakref.ref(thing, forget), set()
        return self._objects[number][1]
