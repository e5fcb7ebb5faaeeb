"""The journal of a trace: what the function has read and written of Python objects, by place.

It makes the guards of what was read, the writes that every call repeats, and gives the objects
back what they had before the trace.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np

from ...autograd.tracing import plain_constructors
from ...backend_ndarray import HostNumber
from .attributes import Attributes, attributes_of, slots_of
from .errors import Unrepeatable
from .generators import describe, set_state, state_of
from .places import (
    CONTENTS,
    LENGTH,
    MISSING,
    Container,
    Contents,
    Entry,
    Holder,
    Key,
    Nesting,
    PlaceId,
    is_same,
    parts_of,
    place_id,
    put,
    read,
    snapshot,
)

T = TypeVar("T")

# The places of numbers that the function increments: (holder, key), or None for an attribute, whose
# reads the object reports.
Counters: TypeAlias = Mapping[PlaceId, tuple[Holder, Key] | None]

# Containers with more items than this are guarded by their identity and their length alone.
LARGEST_CONTAINER = 1000
# Bytes of larger arrays that a trace copies, to find out whether the function writes into them.
MOST_COPIED = 1 << 26

# Types of values in dicts and lists that a function increments or replaces.
_PLAIN = (int, float, bool, str, type(None), HostNumber)


class Journal:
    """What one trace reads and writes of Python objects."""

    def __init__(self) -> None:
        self.reads: dict[PlaceId, Entry] = {}  # with the first value
        self.writes: dict[PlaceId, Entry] = {}  # with the value before the trace
        self.explored: dict[int, object] = {}  # containers and functions that were read, by id
        self.classes: dict[int, type] = {}  # that were read, by the ids of their namespaces
        self._other_writes: dict[PlaceId, Entry] = {}  # those that are no attributes
        self._replaced: set[PlaceId] = set()  # places where calls find the states themselves
        self._nestings: dict[PlaceId, tuple[Holder, Key, Nesting]] = {}  # of states in such places
        # Objects that have only slots, and the `__dict__`s of others, by their ids: those that were
        # there before the trace, and those that it has made.
        self._outside: dict[int, object] = {}
        self._made: dict[int, object] = {}
        self._managed: set[int] = set()  # ids of containers whose guards needle itself gives
        self._large: dict[int, tuple[Container, Contents]] = {}  # with the contents before
        self._may_copy = MOST_COPIED
        self._generators: dict[int, tuple[object, object]] = {}  # with the states before
        self._temporary: list[Entry] = []  # see `put_temporarily`

    # ---- while the function runs ----------------------------------------------------------------

    def knows(self, place: PlaceId) -> bool:
        """Whether a place was read or written before."""
        return place in self.reads or place in self.writes

    def wrote(self, holder: Holder, key: Key, before: object, *, is_attribute: bool) -> None:
        """Note the first write to a place, which had `before`."""
        place = place_id(holder, key)
        if place not in self.writes:
            self.writes[place] = holder, key, before
            if not is_attribute:
                self._other_writes[place] = self.writes[place]

    def read_contents(self, container: Container) -> Contents | None:
        """Note that a container or array was read; returns its contents, None if it is large."""
        self.explored[id(container)] = container
        if isinstance(container, np.ndarray):
            if container.size <= LARGEST_CONTAINER:
                self.reads[id(container), CONTENTS] = (container, CONTENTS, container.copy())
            elif container.nbytes <= self._may_copy:
                self._may_copy -= container.nbytes
                self._large[id(container)] = container, container.copy()
            return None
        contents = snapshot(container)
        if len(container) > LARGEST_CONTAINER:
            self._large[id(container)] = container, contents
            self.reads[id(container), id(LENGTH)] = (container, LENGTH, len(container))
            return None
        if not isinstance(container, (tuple, frozenset)):
            self.reads[id(container), CONTENTS] = (container, CONTENTS, contents)
        return contents

    def read_generator(self, generator: object) -> None:
        """Note a generator of random numbers: its state tells whether the function draws some."""
        self._generators.setdefault(id(generator), (generator, state_of(generator)))

    def manage(self, container: Container) -> None:
        """Leave the objects in `container` to needle itself, which gives guards of its own."""
        self._managed.add(id(container))

    def put_temporarily(self, entries: Iterable[Entry]) -> None:
        """Put values at places until `restore`; these are no writes of the function."""
        for holder, key, value in entries:
            self._temporary.append((holder, key, read(holder, key)))
            put(holder, key, value)
        self.writes.clear()  # slots report what was put there

    # ---- objects that the function makes --------------------------------------------------------

    def found_outside(self, obj: object) -> None:
        """Note that the function has found an object: unless made before, it is from outside."""
        attributes = attributes_of(obj)
        holder = obj if attributes is None else attributes
        if id(holder) not in self._made:
            self._outside[id(holder)] = holder

    def has_made(self, obj: object, attributes: Attributes | None) -> bool:
        """Whether the trace has made an object, whose `__dict__` is `attributes`.

        Such an object was empty when it was first seen, and the function has found it nowhere. It
        is not guarded, and what the function writes there is not written again.
        """
        holder = obj if attributes is None else attributes
        key = id(holder)
        if key not in self._outside and key not in self._made:
            is_empty = not attributes and not slots_of(obj)
            (self._made if is_empty else self._outside)[key] = holder
        return key in self._made

    def attributes_made(self, obj: object) -> Attributes | None:
        """The attributes and slots of an object that the trace has made.

        None for other objects, and for those that need more than attributes to be made again.
        """
        attributes = attributes_of(obj)
        is_made = id(obj if attributes is None else attributes) in self._made
        new: object = type(obj).__new__
        if not is_made or new not in plain_constructors:
            return None
        return {**slots_of(obj), **(attributes or {})}

    # ---- what has changed -----------------------------------------------------------------------

    def find_changed(self) -> None:
        """Note the writes that no object reports.

        They are writes to variables, class attributes, slots that were read, and containers.
        """
        for place, (holder, key, first) in list(self.reads.items()):
            if key is CONTENTS:
                self._find_changed_items(holder, first)
            elif key is not LENGTH and place not in self.writes:
                now = read(holder, key)
                if first is MISSING and isinstance(now, types.ModuleType):
                    continue  # imported meanwhile, for good
                if now is not first and not is_same(now, first):
                    holder = self.classes.get(id(holder), holder)
                    self.writes[place] = self._other_writes[place] = holder, key, first

    def _find_changed_items(self, container: Container, first: Contents) -> None:
        now = snapshot(container)
        if isinstance(container, dict):
            items: Iterable[tuple[Key, object]] = [
                *first.items(), *((key, MISSING) for key in now if key not in first)
            ]  # fmt: skip
            if list(now) != [key for key, _ in items]:
                if id(container) not in self._managed:
                    self._changed(container, CONTENTS, first, now)
                return
        elif isinstance(container, list) and len(now) == len(first):
            items = enumerate(first)
        else:
            self._changed(container, CONTENTS, first, now)
            return
        for key, before in items:
            value = now[key]
            if self._is_managed(container, before, value):
                continue
            if place_id(container, key) not in self.writes and not is_same(value, before):
                self.reads.setdefault(place_id(container, key), (container, key, before))
                self._changed(container, key, before, value)

    def _changed(self, holder: Holder, key: Key, before: object, now: object) -> None:
        if now is not before and not is_same(now, before):
            self.wrote(holder, key, before, is_attribute=False)

    def _is_managed(self, container: Container, before: object, now: object) -> bool:
        return id(container) in self._managed and not (
            type(before) in _PLAIN and type(now) in _PLAIN
        )

    def check_unseen(self) -> None:
        """Raises Unrepeatable where the function has made a change that no guard can see.

        It has drawn random numbers itself, or written into a large container.
        """
        for container, before in self._large.values():
            if not is_same(snapshot(container), before):
                kind = type(container).__name__
                raise Unrepeatable(f"it changes a {kind} of more than {LARGEST_CONTAINER} items")
        for generator, state in self._generators.values():
            if not is_same(state_of(generator), state):
                raise Unrepeatable(
                    f"it draws numbers of {describe(generator)} itself (needle's functions and "
                    "ndl.Generator can be compiled)"
                )

    def restore(self) -> None:
        """Give objects and variables from before the trace the values that they had then."""
        written = [*self.writes.values(), *self._temporary]
        written.sort(key=lambda entry: entry[1] is not CONTENTS)  # lists have their lengths first
        for holder, key, before in written:
            if id(holder) not in self._made:
                put(holder, key, before)
        for container, contents in self._large.values():
            if not is_same(snapshot(container), contents):
                put(container, CONTENTS, contents)
        for generator, state in self._generators.values():
            if not is_same(state_of(generator), state):
                set_state(generator, state)

    # ---- what every call does again -------------------------------------------------------------

    def is_written(self, holder: Holder, key: Key) -> bool:
        """Whether every call writes the place, as far as is known by now."""
        return place_id(holder, key) in self.writes

    def repeated_writes(self) -> Iterator[Entry]:
        """(holder, key, value at the end) of each place that every call writes.

        Only places of objects that were there before the trace count.
        """
        for place, (holder, key, before) in self.writes.items():
            value = read(holder, key)
            if value is MISSING and isinstance(holder, list):
                continue  # it has become shorter, which is another write
            is_changed = place not in self.reads or not is_same(value, before)
            if is_changed and id(holder) not in self._made:
                yield holder, key, value

    def reshaped(self) -> set[int]:
        """The ids of the containers that get other contents, or another length, at every call."""
        return {
            id(holder)
            for holder, key, _ in self.repeated_writes()
            if key is CONTENTS
            or (id(holder) in self.explored and self.writes[place_id(holder, key)][2] is MISSING)
        }

    def counted(self) -> Counters:
        """The places of numbers that were read and then changed."""
        return {
            place: self._other_writes[place][:2] if place in self._other_writes else None
            for place, (holder, key, before) in self.writes.items()
            if place in self.reads
            and not isinstance(self.reads[place][2], HostNumber)
            and type(before) in (int, float)
            and type(read(holder, key)) in (int, float)
            and read(holder, key) != before
        }

    def replaced(self, kind: type[T]) -> Iterator[tuple[Holder, Key, tuple[object, ...], T]]:
        """(holder, key, path, object before) of the objects of a kind that every call replaces.

        They are at a place that was read and then written, or in the nesting there, and at no other
        place that was read.
        """
        seen = Counter(id(x) for x in self._read_objects())
        for place, (holder, key, before) in self.writes.items():
            if place not in self.reads or key is CONTENTS or read(holder, key) is before:
                continue
            parts = list(parts_of(before))
            leaves = [(path, leaf) for path, leaf in parts if isinstance(leaf, kind)]
            own = [x for _, x in parts if isinstance(x, (kind, list, dict))]
            if not leaves or any(seen[id(x)] != 1 for x in own):
                continue
            self._replaced.add(place)
            self._replaced.update((id(x), CONTENTS) for x in own if isinstance(x, (list, dict)))
            if before is not leaves[0][1]:
                self._nestings[place] = holder, key, Nesting(before, kind)
            for path, leaf in leaves:
                yield holder, key, path, leaf

    def _read_objects(self) -> Iterator[object]:
        """The objects that were read, once for each place; the items of tuples with them."""
        for holder, key, first in list(self.reads.values()):
            if key is not CONTENTS:
                yield from _with_items(first)
            elif not isinstance(first, np.ndarray):
                for at, item in first.items() if isinstance(first, dict) else enumerate(first):
                    if place_id(holder, at) not in self.reads:
                        yield from _with_items(item)

    # ---- guards ---------------------------------------------------------------------------------

    def is_outside(self, container: Container) -> bool:
        """Whether every call finds the same list, dict or array as the trace."""
        return id(container) in self.explored and (id(container), CONTENTS) not in self._replaced

    def guards(self, final: Iterable[tuple[Holder, Key]]) -> list[Entry]:
        """The objects that must be at certain places at a later call; `restore` must have run.

        `final` are places that must have what is there now. What the function itself changes in
        containers may be anything.
        """
        found: list[Entry] = [(holder, key, read(holder, key)) for holder, key in final]
        found += self._nestings.values()
        for place, (holder, key, first) in self.reads.items():
            if isinstance(first, HostNumber) or place in self._replaced:
                continue
            now = read(holder, key)
            if key is CONTENTS and isinstance(holder, dict):
                # An item that the function sets may be anything before.
                first = {k: MISSING if self.is_written(holder, k) else v for k, v in first.items()}
            elif key is CONTENTS and isinstance(holder, list):
                written = {i for i in range(len(first)) if self.is_written(holder, i)}
                first = tuple(MISSING if i in written else v for i, v in enumerate(first))
            if is_same(now, first):
                found.append((holder, key, first))
            elif key is CONTENTS and isinstance(holder, dict):
                found += [(holder, k, v) for k, v in first.items() if now.get(k, MISSING) is v]
        return found


def _with_items(value: object) -> Iterator[object]:
    """An object and, if it is a tuple, all that it contains."""
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from _with_items(item)
