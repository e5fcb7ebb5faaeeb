"""Rematerialization: cheap values are recomputed by their readers instead of stored.

The gradient of a layer reads values of the forward pass, such as x - mean of a layer norm. Some of
them can be computed by cheap element-wise nodes from values that are stored anyway. The loops that
read such a value then recompute it. It is never stored, and the loops read no more memory than
before. Briggs, Cooper and Torczon (1992) do the same for registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..ir.cost import cost_of
from ..ir.domain import FULL, Domain, elementwise_domain
from ..ir.graph import Graph, Node, Value, View, base_of, replace_values
from . import fuse as fusion
from .loop_nest import Nest
from .products import fits_epilogue
from .target import CPU, Target
from .units import Unit, values_needed_outside

# What an element may cost a reader, an addition being 1. To read 4 bytes that lie in memory or in
# another core's cache takes as long as 6 to 10 vectorized additions.
MOST = 6
# Values with so many times fewer elements (those of rows and of columns) cost nothing to read.
FEWER = 8


def units_of(graph: Graph, target: Target = CPU) -> list[Unit]:
    """The graph's nodes as fused units that recompute cheap values."""
    return rematerialize(graph, fusion.fuse(graph, target))


def rematerialize(graph: Graph, units: list[Unit]) -> list[Unit]:
    """The units, in the same order, with cheap values recomputed where they are read.

    A node can then be in several units, each time with a value of its own. A node whose value has
    no reader left is in none.
    """
    recomputation = _Recomputation(graph, units)
    for nest in [unit.nest for unit in units if unit.nest is not None]:
        for value in nest.outputs():
            recomputation.consider(value)
    return list(_without_dead_code(graph, recomputation.units))


@dataclass
class _Chain:
    """How to recompute a value: nodes in order, and the stored values that they read."""

    value: Value
    nodes: list[Node] = field(default_factory=list)
    leaves: list[Value] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """The cost of one element, in additions."""
        return sum(map(cost_of, self.nodes))


class _Recomputation:
    """The state of the pass: the units, and which values are stored, computed and read where."""

    def __init__(self, graph: Graph, units: list[Unit]) -> None:
        self.units = [Unit(u.number, u.nest, u.node) for u in units]
        self.filled = graph.filled()
        self.stored = values_needed_outside(units, graph) | set(map(id, graph.sources()))
        self.overwritten = {id(v.value.base) for n in graph.nodes for v in n.outputs}
        self.fixed = self.overwritten | {id(view.value) for view in graph.outputs()}
        self.copies: dict[tuple[int, int], Node] = {}  # by the unit's position and the value's id
        # By the id of a value: its node and that one's kind in a nest; where it is made and read.
        self.maker: dict[int, tuple[Node, str | None]] = {}
        self.made: dict[int, int] = {}
        self.readers: dict[int, set[int]] = {}
        for position, unit in enumerate(self.units):
            self._index(unit, position)
        # From where on states may have their new contents.
        firsts = ((graph.states[i], base_of(v.value)) for i, v in graph.updates.items())
        self.until = {id(state.value): self.made.get(id(first), 0) for state, first in firsts}

    def _index(self, unit: Unit, position: int) -> None:
        own: list[str | None] = [] if unit.node is None else [None]
        kinds = [*own, *(unit.nest.kinds if unit.nest is not None else ())]
        for node, kind in zip(unit.nodes, kinds, strict=True):
            for view in node.outputs:
                self.maker[id(view.value)] = node, kind
                self.made[id(view.value)] = position
            for value in node.needed():
                self.readers.setdefault(id(value), set()).add(position)

    def consider(self, value: Value) -> None:
        """Let the readers of a value recompute it if all can and none then reads more memory."""
        key = id(value)
        if value.size < fusion.SMALL or key not in self.stored or key in self.fixed:
            return
        chain = _Chain(value)
        if not self._trace(value, chain) or chain.cost > MOST:
            return
        changed: dict[int, tuple[Nest, dict[int, Node]]] = {}
        for position in self.readers[key] - {self.made[key]}:
            found = self._computing(position, chain)
            if found is None:
                return
            changed[position] = found
        self.stored.remove(key)
        self.stored.update(map(id, chain.leaves))
        for position, (nest, copies) in changed.items():
            self.units[position].nest = nest
            self.copies.update({(position, made): node for made, node in copies.items()})
            for leaf in chain.leaves:
                self.readers.setdefault(id(leaf), set()).add(position)

    def _trace(self, value: Value, chain: _Chain) -> bool:
        """Add the nodes that compute a value; returns whether they depend on stored values only."""
        node, kind = self.maker[id(value)]
        if node in chain.nodes:
            return True
        if kind != FULL:
            return False
        for x in node.inputs:
            if id(x.value) in self.overwritten:
                return False
            if self._is_leaf(x.value, value.size):
                chain.leaves.append(x.value)
            elif id(x.value) not in self.filled and not self._trace(x.value, chain):
                return False
        chain.nodes.append(node)
        return True

    def _is_leaf(self, value: Value, points: int) -> bool:
        """Whether a value is stored, or is so small that storing it costs almost nothing."""
        if id(value) in self.stored:
            return True
        made_in_nest = self.maker.get(id(value), (None, None))[1] not in (None, FULL)
        return made_in_nest and value.size * FEWER <= points

    def _computing(self, position: int, chain: _Chain) -> tuple[Nest, dict[int, Node]] | None:
        """A reader's nest with copies of the chain's nodes, and the copies by the old values' ids.

        None where the copies do not fit, or would read more memory than the value itself.
        """
        unit, value = self.units[position], chain.value
        by_kernel = unit.node is not None and any(v is value for v in unit.node.needed())
        if unit.nest is None or by_kernel or self._reads_more(position, chain):
            return None
        copies = self._copies(position, chain)
        instead = {id(value): copies[id(value)].outputs[0].value}
        own = set(map(id, copies.values()))
        # The chain comes first: it needs nothing that the nest makes.
        members: list[tuple[Node, Domain | None]]
        members = [(node, elementwise_domain(node)) for node in copies.values()]
        members += [
            (replace_values(node, instead), domain)
            for node, domain in zip(unit.nest.nodes, unit.nest.domains, strict=True)
            if id(node) not in own
        ]
        nest = unit.nest.empty()
        if not all(domain is not None and nest.add(node, domain) for node, domain in members):
            return None
        if unit.node is not None and not fits_epilogue(nest, unit.node):
            return None
        return nest, copies

    def _reads_more(self, position: int, chain: _Chain) -> bool:
        """Whether a unit would read more memory than the value, or a state after its update."""
        new = [v for v in chain.leaves if position not in self.readers.get(id(v), ())]
        if any(self.until.get(id(v), position + 1) <= position for v in new):
            return True
        large = {id(v): v.nbytes for v in new if v.size * FEWER > chain.value.size}
        return sum(large.values()) > chain.value.nbytes

    def _copies(self, position: int, chain: _Chain) -> dict[int, Node]:
        """Copies of the chain's nodes with new values, by the ids of the old values.

        Copies that the unit already has are reused.
        """
        copies: dict[int, Node] = {}
        instead: dict[int, Value] = {}
        for old in chain.nodes:
            (out,) = old.outputs
            copy = self.copies.get((position, id(out.value)))
            if copy is None:
                mine = View(Value(out.value.size, out.dtype), out.shape, out.strides, out.offset)
                operands = tuple(mine if x is out else x for x in old.operands)
                copy = replace_values(Node(old.op, operands, old.run), instead)
            copies[id(out.value)] = copy
            instead[id(out.value)] = copy.outputs[0].value
        return copies


def _without_dead_code(graph: Graph, units: list[Unit]) -> Iterator[Unit]:
    """The units without the nodes of their nests whose values nothing needs."""
    needed = {id(view.value) for view in graph.outputs()}
    living: set[int] = set()
    for node in (node for unit in reversed(units) for node in reversed(unit.nodes)):
        if any(id(view.value) in needed for view in node.outputs):
            living.add(id(node))
            needed.update(map(id, node.needed()))
    for unit in units:
        nest = unit.nest and unit.nest.only([id(node) in living for node in unit.nest.nodes])
        if unit.node is not None or nest is not None:
            yield Unit(unit.number, nest, unit.node)
