"""The arguments of a traced call, and what the function gets in their place."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import MethodType
from typing import Any, TypeAlias

from ...autograd import Tensor
from ...tree import copied
from .errors import AliasedArgument
from .places import Container, Contents, is_same, snapshot

# Nested tuples, lists and dicts with leaves of any kind.
Nesting: TypeAlias = Any
Returned: TypeAlias = Any  # depends on who uses the action
Action: TypeAlias = Callable[[], Returned]


class Arguments:
    """Stand-ins of the Tensors among the arguments and copies of the lists and dicts.

    By them the trace tells an argument from the same object found outside, as a parameter of a
    model may be: that raises `AliasedArgument`, unless it is among the `aliased` ones, which the
    function gets as they are. `objects` are other arguments, which the trace must not keep alive.
    """

    def __init__(
        self, aliased: Iterable[int], objects: Iterable[object], containers: Iterable[Container]
    ) -> None:
        """`aliased` are ids of Tensors and containers."""
        self._aliased = frozenset(aliased)
        self._objects = {id(thing): weakref.ref(thing) for thing in objects}
        self._containers = list(containers)
        self._numbers: dict[int, tuple[Tensor, int]] = {}  # Tensors with a stand-in, by id
        # By the id of a container's copy: its number, the copy and the contents at the beginning.
        self._copies: dict[int, tuple[int, Container, Contents]] = {}

    def stand_ins(
        self, tensors: Sequence[Tensor], define: Callable[[Tensor, int], None]
    ) -> dict[int, Tensor]:
        """What the function gets for each Tensor, by the Tensor's id.

        `define` is called with each stand-in and its number, before its gradient is replaced.
        """
        stand_ins: dict[int, Tensor] = {}
        for i, tensor in enumerate(tensors):
            if id(tensor) in stand_ins:  # the same Tensor twice
                continue
            if id(tensor) in self._aliased:
                stand_ins[id(tensor)] = tensor
                continue
            stand_ins[id(tensor)] = stand_in = tensor._twin()
            self._numbers[id(tensor)] = tensor, i
            define(stand_in, i)
        for stand_in in stand_ins.values():
            gradient = stand_in._grad
            if id(gradient) in stand_ins:
                stand_in._grad = stand_ins[id(gradient)]
        return stand_ins

    def with_stand_ins(self, call: Nesting, stand_ins: dict[int, Tensor]) -> Nesting:
        """The arguments of a call with stand-ins, in containers that the function may change."""
        instead: dict[int, object] = dict(stand_ins)
        instead.update((id(c), c) for c in self._containers if id(c) in self._aliased)
        call = copied(call, instead)
        for i, container in enumerate(self._containers):
            copy = instead.get(id(container), container)
            if copy is not container and id(copy) not in self._copies:
                self._copies[id(copy)] = i, copy, snapshot(copy)
        return call

    def check_found(self, thing: object) -> None:
        """Called when the function finds a Tensor or container outside."""
        if id(thing) in self._numbers or any(
            thing is c for c in self._containers if id(c) not in self._aliased
        ):
            raise AliasedArgument(thing)

    def number(self, tensor_id: int) -> int | None:
        """The number of the argument with this id, if the function has a stand-in of it."""
        found = self._numbers.get(tensor_id)
        return None if found is None else found[1]

    def container_number(self, container: object) -> int | None:
        """The number of the argument that a container is the copy of."""
        found = self._copies.get(id(container))
        return None if found is None else found[0]

    def changed_copies(self) -> Iterator[tuple[int, Contents]]:
        """(number, present contents) of the lists and dicts that the function has changed."""
        for number, copy, before in self._copies.values():
            if not is_same(snapshot(copy), before):
                yield number, snapshot(copy)

    def aliased_tensors(self, tensors: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """(number, Tensor) of the Tensors that the function also reaches from outside."""
        return ((i, tensor) for i, tensor in enumerate(tensors) if id(tensor) in self._aliased)

    def aliased_containers(self) -> list[tuple[int, Container]]:
        """(number, container) of the containers that the function also reaches from outside."""
        return [(i, c) for i, c in enumerate(self._containers) if id(c) in self._aliased]

    def reference(self, thing: object) -> weakref.ref[object] | None:
        """A weak reference to one of the `objects`; None for another thing."""
        return self._objects.get(id(thing))

    def weakly(self, action: Action) -> Action:
        """The action, with a weak reference to its object if that is one of the `objects`."""
        if not isinstance(action, MethodType) or id(action.__self__) not in self._objects:
            return action
        method = weakref.WeakMethod(action)

        def call() -> Returned:
            bound = method()
            assert bound is not None, "the programs of an object die with it"
            return bound()

        return call
