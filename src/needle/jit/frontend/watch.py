"""The watch of a trace: what the function reads and writes of Python objects.

The module, the optimizer and the user's objects that the function reaches report the attributes
that are read and written (`following`). The explorer adds what nothing reports: variables, class
attributes, containers and small arrays of NumPy; these are compared before and after the function
has run. What was read becomes a guard; every call repeats what was written (`journal`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ...autograd import Tensor
from ...autograd.tracing import Tracer, current_trace, watched_classes
from .attributes import Attributes, attributes_of, in_slot, is_slot
from .explorer import Explorer
from .following import Getter, follow, observed_by
from .generators import GLOBAL_GENERATORS
from .journal import Counters, Journal
from .places import MISSING, place_id, read


class Watch:
    """Follows the Python objects of one trace.

    `counters` are the numbers that the function is known to increment, as `Journal.counted` gives
    them. Reading one gives a HostNumber, so that one program serves for every count.
    """

    def __init__(
        self, counters: Counters | None = None, found: Callable[[object], None] = lambda _: None
    ) -> None:
        """`found` is called with the Tensors and containers that are found outside."""
        self.journal = Journal()
        self._explorer = Explorer(self.journal, found)
        self._counters = counters or {}
        self._observed = ExitStack()

    def __enter__(self) -> Watch:
        self._observed.enter_context(observed_by(self))
        for generator in GLOBAL_GENERATORS:
            self.journal.read_generator(generator)
        for cls in watched_classes:
            follow(cls)
        return self

    def __exit__(self, *exc: object) -> None:
        self._explorer.close()
        self._observed.close()

    @property
    def tensors(self) -> list[Tensor]:
        """The Tensors that the function has found in objects, containers and variables."""
        return self._explorer.tensors

    def reached(self, value: object) -> None:
        """Follow an object that the function can use."""
        self._explorer.reached(value)

    def place_counters(self) -> None:
        """Put HostNumbers, until the objects are restored, where the function finds its counters.

        Those that are attributes are not among them: `attribute` gives their numbers.
        """
        places = [place for place in self._counters.values() if place is not None]
        self.journal.put_temporarily(
            (*place, _tracer().host_number(functools.partial(read, *place))) for place in places
        )

    def has_made(self, obj: object) -> bool:
        """Whether the trace has made an object; see `Journal.has_made`."""
        return self.journal.has_made(obj, attributes_of(obj))

    # ---- what objects report --------------------------------------------------------------------

    def attribute(self, obj: object, name: str, read: Getter) -> Any:
        """The attribute of an object, which the function reads."""
        if name.startswith("__") and name != "__dict__":
            return read(obj, name)
        attributes = attributes_of(obj)
        is_made = self.journal.has_made(obj, attributes)
        if name == "__dict__":
            if attributes is not None and not is_made:
                self._explorer.contents(attributes)
            return read(obj, name)
        if attributes is None or name not in attributes:
            if attributes is not None and not is_made:
                self._explorer.item(attributes, name)
            self._explorer.class_attribute(type(obj), name)
            if not is_made and is_slot(type(obj), name):
                return self._slot(obj, name, read)
            return read(obj, name)
        if is_made:
            return read(obj, name)
        if self._counters and (id(attributes), name) in self._counters:
            place = id(attributes), name
            if place not in self.journal.writes:
                return self._counter(attributes, name)
        self._explorer.item(attributes, name)
        return read(obj, name)

    def _counter(self, attributes: Attributes, name: str) -> object:
        """The HostNumber of an attribute that the function increments."""
        reads, place = self.journal.reads, (id(attributes), name)
        if place not in reads:
            number = _tracer().host_number(lambda: attributes[name])
            reads[place] = (attributes, name, number)
        return reads[place][2]

    def _slot(self, obj: object, name: str, read: Getter) -> object:
        reads, place = self.journal.reads, place_id(obj, name)
        is_known = self.journal.knows(place)
        if not is_known:
            reads[place] = (obj, name, MISSING)
        value = read(obj, name)
        if not is_known:
            reads[place] = (obj, name, value)
            self._explorer.reached(value)
        return value

    def wrote(self, obj: object, name: str) -> None:
        """The function is about to set or delete an attribute of an object."""
        attributes = attributes_of(obj)
        if self.journal.has_made(obj, attributes):
            return
        if is_slot(type(obj), name):
            self.journal.wrote(obj, name, in_slot(obj, name), is_attribute=False)
        elif attributes is not None:
            before = attributes.get(name, MISSING)
            self.journal.wrote(attributes, name, before, is_attribute=True)


def _tracer() -> Tracer:
    tracer = current_trace()
    assert tracer is not None
    return tracer
