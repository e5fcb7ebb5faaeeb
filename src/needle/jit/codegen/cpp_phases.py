"""Which nodes of a nest are computed in each phase of a row, and which of their values are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..ir.cost import CHEAP, cost_of
from ..ir.domain import FULL, ROW
from ..ir.graph import Node, Value
from ..schedule.loop_nest import Nest
from ..schedule.walk import phases_of


class Maker(NamedTuple):
    """The node of a nest that computes a value, and its kind."""

    node: Node
    kind: str


class Phases:
    """The phases of a nest; see `phases_of`.

    A later phase recomputes a full value of an earlier one if that is cheap. Otherwise the value is
    kept in a buffer of one row.
    """

    def __init__(self, nest: Nest) -> None:
        self._nest, self._phase = nest, phases_of(nest)
        self.last = max(self._phase.values(), default=0)
        self._covers_columns: set[int] = set()  # ids of nodes
        self._makers: dict[int, Maker] = {}  # by the id of the value
        self._members: dict[int, list[Node]] = {}  # by phase
        for node, domain, kind in zip(nest.nodes, nest.domains, nest.kinds, strict=True):
            self._makers[id(node.outputs[0].value)] = Maker(node, kind)
            if domain.size == nest.size:
                self._covers_columns.add(id(node))

    def of(self, node: Node) -> int:
        """The phase of a node."""
        return self._phase[id(node)]

    def maker(self, value: Value) -> Maker | None:
        """What computes a value in this nest."""
        return self._makers.get(id(value))

    def covers_columns(self, node: Node) -> bool:
        """Whether a node is computed, or sums up, at all points of a row."""
        return id(node) in self._covers_columns

    def is_kept(self, made: Maker, phase: int) -> bool:
        """Whether a phase reads a value from the buffer of a row."""
        return made.kind == FULL and self.of(made.node) < phase and not self._is_cheap(made.node)

    def members(self, phase: int) -> list[Node]:
        """The full nodes, and the reductions of full values, that a phase computes, in order.

        Among them are full values of earlier phases that are recomputed.
        """
        if phase not in self._members:
            self._members[phase] = self._find_members(phase)
        return self._members[phase]

    def kept_values(self) -> Iterator[Value]:
        """The full values that a later phase reads from a buffer of one row."""
        for node in self._nest.nodes:
            if not self.covers_columns(node):
                continue
            for phase in range(self.of(node), self.last + 1):
                if node not in self.members(phase):
                    continue
                for x in node.inputs:
                    made = self.maker(x.value)
                    if made is not None and self.is_kept(made, phase):
                        yield x.value

    def _find_members(self, phase: int) -> list[Node]:
        wanted: set[int] = set()

        def want(node: Node) -> None:
            if id(node) in wanted:
                return
            wanted.add(id(node))
            for x in node.inputs:
                made = self.maker(x.value)
                if made is None or made.kind != FULL:
                    continue
                if self.of(made.node) == phase or self._is_cheap(made.node):
                    want(made.node)

        for node, kind in zip(self._nest.nodes, self._nest.kinds, strict=True):
            if kind != ROW and self.covers_columns(node) and self.of(node) == phase:
                want(node)
        return [node for node in self._nest.nodes if id(node) in wanted]

    def _is_cheap(self, node: Node) -> bool:
        """Whether a full value is recomputed in later phases."""
        return self._cost_to_recompute(node) <= CHEAP

    def _cost_to_recompute(self, node: Node) -> int:
        total = 0 if node.op in ("fill", "copy") else cost_of(node)
        for x in node.inputs:
            made = self.maker(x.value)
            if made is not None and made.kind == FULL:
                total += self._cost_to_recompute(made.node)
        return min(total, 1000)
