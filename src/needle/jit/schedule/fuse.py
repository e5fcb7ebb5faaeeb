"""Fusion: partition the nodes into units, each of which runs as one kernel.

The partition is greedy, in the order of the program. A node joins the nest of one of its producers
if their loops fit together and no path through other units leads from that nest to the node. Then
the nests of its other producers are merged with that nest where possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ..ir.domain import Domain
from ..ir.graph import Graph, Node
from .loop_nest import Nest
from .products import fits_epilogue, result_matrix
from .target import CPU, Target
from .units import Unit, arrays_of

# Nodes in one nest. Longer loops gain nothing and run out of registers.
MAX_NODES = 96


SMALL = 4096  # points of a domain


@dataclass
class _Schedule:
    """The units so far, and the producer and the readers of each value."""

    new_nest: Callable[[int], Nest]  # makes an empty nest of so many points
    small: int  # a nest of fewer points should not wait for larger ones
    units: list[Unit] = field(default_factory=list)
    maker: dict[int, Unit] = field(default_factory=dict)
    readers: dict[int, list[Unit]] = field(default_factory=dict)
    order: dict[int, int] = field(default_factory=dict)  # node id -> position in the program
    updates: set[int] = field(default_factory=set)  # ids of the nodes of an optimizer's step
    count: int = 0

    def predecessors(self, node: Node) -> list[Unit]:
        """The units that produce the node's inputs, and the units that read what it overwrites."""
        found = [self.maker[id(v)] for v in node.needed() if id(v) in self.maker]
        for view in node.outputs:
            if view.value.base is not None:
                found += self.readers.get(id(view.value.base), [])
        return found

    def new(self, node: Node, domain: Domain | None) -> Unit:
        """A unit for the node alone."""
        nest = None
        if domain is not None:
            nest = self.new_nest(domain.size)
            if not nest.add(node, domain):
                nest = None
        unit = Unit(self.count, nest, None if nest else node)
        self.count += 1
        self.units.append(unit)
        self.connect(unit, node)
        return unit

    def connect(self, unit: Unit, node: Node) -> None:
        """Record what a node of the unit produces, reads and depends on."""
        earlier = 0
        for other in self.predecessors(node):
            if other is not unit:
                earlier |= other.before | 1 << other.number
        unit.before |= earlier
        for other in self.units:
            if other.before >> unit.number & 1:
                other.before |= unit.before
        for view in node.outputs:
            self.maker[id(view.value)] = unit
        for view in node.inputs:
            self.readers.setdefault(id(view.value), []).append(unit)

    def are_apart(self, node: Node, other: Node) -> bool:
        """Whether exactly one of them belongs to an optimizer's step that is kept separate."""
        return (id(node) in self.updates) != (id(other) in self.updates)

    def would_delay(self, unit: Unit, node: Node) -> bool:
        """Whether the node would make the unit depend on one more large unit."""
        return any(
            other is not unit
            and not unit.before >> other.number & 1
            and (other.nest is None or other.nest.size >= self.small)
            for other in self.predecessors(node)
        )

    def merge(self, unit: Unit, other: Unit) -> bool:
        """Merge `other` into `unit` if their loops fit together; returns whether they do."""
        if self._separated(unit, other) or self._separated(other, unit):
            return False
        nest = _merged(unit.nest, other.nest, self.order)
        if nest is None:
            return False
        unit.nest = nest
        self._absorb(unit, other)
        return True

    def append(self, unit: Unit, other: Unit) -> bool:
        """Make the nest of `other` the epilogue of the product of `unit` if it fits."""
        assert unit.node is not None
        assert other.nest is not None
        if self._separated(unit, other) or not fits_epilogue(other.nest, unit.node):
            return False
        unit.nest = other.nest
        self._absorb(unit, other)
        return True

    def _absorb(self, unit: Unit, other: Unit) -> None:
        """Replace `other` by `unit`, which now has its nodes, in all records."""
        mine, theirs = 1 << unit.number, 1 << other.number
        unit.before = (unit.before | other.before) & ~(mine | theirs)
        self.units.remove(other)
        for third in self.units:
            if third.before & (mine | theirs):
                third.before = (third.before | mine | unit.before) & ~theirs
        for node in other.nodes:
            for view in node.outputs:
                self.maker[id(view.value)] = unit
            for view in node.inputs:
                readers = self.readers[id(view.value)]
                readers[:] = [unit if reader is other else reader for reader in readers]

    def _separated(self, first: Unit, last: Unit) -> bool:
        """Whether a third unit must run after `first` and before `last`."""
        return any(
            third.before >> first.number & 1 and last.before >> third.number & 1
            for third in self.units
            if third is not first and third is not last
        )

    def can_wait_for(self, unit: Unit, node: Node) -> bool:
        """Whether adding the node to the unit makes no cycle.

        There would be one if another predecessor of the node depended on the unit.
        """
        return not any(
            other is not unit and other.before >> unit.number & 1
            for other in self.predecessors(node)
        )


def fuse(graph: Graph, target: Target = CPU, enabled: bool = True) -> list[Unit]:
    """The graph's nodes as units in an order in which they can run.

    Unless fusion is `enabled`, each node is a unit of its own.
    """
    schedule = _Schedule(target.new_nest, 1 if target.few_launches else SMALL)
    if target.few_launches:
        schedule.updates = _last_updates(graph)
    domains = [target.domain_of(node) for node in graph.nodes]
    numbers = graph.filled().keys() - _needed_as_arrays(graph, domains)
    for number, (node, domain) in enumerate(zip(graph.nodes, domains, strict=True)):
        schedule.order[id(node)] = number
        if id(node.outputs[0].value) in numbers:
            continue
        unit = _joined(schedule, node, domain) if enabled and domain is not None else None
        if unit is None:
            schedule.new(node, domain)
    if enabled and target.few_launches:
        _merge_late(schedule)
    if enabled and target.nests_are_epilogues:
        _append_to_products(schedule)
    return list(_sorted(schedule.units))


def _append_to_products(schedule: _Schedule) -> None:
    """Give each matrix product and convolution the first nest that can be its epilogue."""
    for unit in list(schedule.units):
        if unit.node is None or unit.nest is not None or result_matrix(unit.node) is None:
            continue
        readers = schedule.readers.get(id(unit.node.outputs[0].value), [])
        for other in sorted(readers, key=lambda u: u.number):
            if other.node is None and other in schedule.units and schedule.append(unit, other):
                break


def _needed_as_arrays(graph: Graph, domains: list[Domain | None]) -> set[int]:
    """The ids of values that must be stored: outputs, and values that a node outside nests reads.

    Nests contain the number of a filled value as a literal.
    """
    readers = (n for n, domain in zip(graph.nodes, domains, strict=True) if domain is None)
    needed = {id(value) for node in readers for value in node.needed()}
    needed.update(*map(arrays_of, graph.nodes))
    return {id(view.value) for view in graph.outputs()} | needed


def _joined(schedule: _Schedule, node: Node, domain: Domain) -> Unit | None:
    """Add the node to an existing unit if one fits; returns that unit, else None."""
    for unit in _candidates(schedule, node):
        nest = unit.nest
        assert nest is not None
        if schedule.are_apart(node, nest.nodes[0]):
            continue
        if len(nest.nodes) >= MAX_NODES or not schedule.can_wait_for(unit, node):
            continue
        if nest.size < schedule.small and schedule.would_delay(unit, node):
            continue
        if nest.add(node, domain):
            schedule.connect(unit, node)
            _merge_producers(schedule, node, unit)
            return unit
    return None


def _merge_producers(schedule: _Schedule, node: Node, unit: Unit) -> None:
    for x in node.inputs:
        other = schedule.maker.get(id(x.value))
        if other is None or other is unit or other.nest is None:
            continue
        if not schedule.are_apart(node, other.nest.nodes[0]):
            schedule.merge(unit, other)


def _merge_late(schedule: _Schedule) -> None:
    """Merge nests with their readers, now that it is known what the readers iterate along."""
    for unit in list(schedule.units):
        if unit not in schedule.units or unit.nest is None:
            continue
        for node in list(unit.nest.nodes):
            _merge_producers(schedule, node, unit)


def _last_updates(graph: Graph) -> set[int]:
    """The ids of the nodes of an optimizer's step.

    These are the element-wise nodes at the end of the program that only update states.
    """
    results = {id(view.value) for view in graph.results}
    last: set[int] = set()
    for node in reversed(graph.nodes):
        if not node.is_elementwise or any(id(view.value) in results for view in node.outputs):
            break
        last.add(id(node))
    return last


def _merged(a: Nest | None, b: Nest | None, order: dict[int, int]) -> Nest | None:
    """One nest with the nodes of both nests, in program order; None where they do not fit."""
    assert a is not None
    assert b is not None
    nest = a.merged_with(b)
    if nest is None or len(a.nodes) + len(b.nodes) > MAX_NODES:
        return None
    members = [*zip(a.nodes, a.domains, strict=True), *zip(b.nodes, b.domains, strict=True)]
    for node, domain in sorted(members, key=lambda member: order[id(member[0])]):
        if not nest.add(node, domain):
            return None
    return nest


def _candidates(schedule: _Schedule, node: Node) -> Iterator[Unit]:
    """The nests that the node could join: first the producers of its inputs, the latest first.

    Then come the nests that read the same arrays. Small arrays do not count: to read one again
    costs nothing, and a common nest would delay the users of each reader until all are done.
    """
    seen: set[int] = set()
    makers = [schedule.maker[id(x.value)] for x in node.inputs if id(x.value) in schedule.maker]
    shared = [x.value for x in node.inputs if x.value.size >= schedule.small]
    fellows = [unit for value in shared for unit in schedule.readers.get(id(value), ())]
    for units in (makers, fellows):
        for unit in sorted(units, key=lambda u: -u.number):
            if unit.node is None and unit.number not in seen:
                seen.add(unit.number)
                yield unit


def _sorted(units: Iterable[Unit]) -> Iterator[Unit]:
    """The units in topological order, otherwise in the order of the program.

    Units that check an index come as early as possible, so that an index out of range is found
    before a state is updated.
    """
    waiting = sorted(units, key=lambda u: u.node is None or not _checks_an_index(u.node))
    done = 0
    while waiting:
        unit = next((u for u in waiting if u.before & ~done == 0), None)
        assert unit is not None, "units wait for each other in a circle"
        done |= 1 << unit.number
        waiting.remove(unit)
        yield unit


def _checks_an_index(node: Node) -> bool:
    if node.op == "scan":
        return any(map(_checks_an_index, node.operands[0].body.nodes))
    return node.op == "gather_rows"
