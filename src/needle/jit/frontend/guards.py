"""Guards: what a function read of Python objects while it was traced, compared at later calls.

A guard is a place and what was there (see `places`). A program may run again only while all its
guards hold. The C++ core compares the places by identity, each in some ten nanoseconds; only where
another object is there the values are compared in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...native import core
from .places import CONTENTS, MISSING, Entry, Holder, Key, Nesting, is_same, read


def _first_changed(
    holders: Sequence[Holder],
    keys: Sequence[Key],
    values: Sequence[object],
    missing: object,
    start: int,
) -> int:
    """Without the core every guard is compared in Python."""
    return start if start < len(holders) else -1


first_changed = _first_changed if core is None else core.first_changed


class Guards:
    """Places, and what must be there."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self._holders = [holder for holder, _, _ in entries]
        self._keys = [key for _, key, _ in entries]
        self._values = [value for _, _, value in entries]

    def __len__(self) -> int:
        return len(self._holders)

    def found(self, kind: type) -> set[int]:
        """The ids of the objects of a kind that must be in the places."""
        found: list[object] = []
        for key, value in zip(self._keys, self._values, strict=True):
            if key is not CONTENTS:
                found.append(value)
            elif not isinstance(value, np.ndarray):
                found += value.values() if isinstance(value, dict) else value
        return {id(x) for x in found if isinstance(x, kind)}

    def hold(self) -> bool:
        """Whether every place has the same object, or an equal number or text."""
        i = first_changed(self._holders, self._keys, self._values, MISSING, 0)
        while i >= 0:
            now = read(self._holders[i], self._keys[i])
            if not is_same(now, self._values[i]):
                return False
            if self._keys[i] is not CONTENTS and type(self._values[i]) is not Nesting:
                self._values[i] = now  # the core finds it the next time
            i = first_changed(self._holders, self._keys, self._values, MISSING, i + 1)
        return True
