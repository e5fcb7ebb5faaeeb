"""Units: what runs as one kernel, and which values must be in memory between them."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.graph import Graph, Node
from .loop_nest import Nest


@dataclass(eq=False)
class Unit:
    """What runs as one kernel: a nest, a node with a kernel of its own, or a matrix product or
    convolution and the nest that runs on its blocks."""

    number: int
    nest: Nest | None
    node: Node | None
    before: int = 0  # the units that must run earlier, as a bit mask

    @property
    def nodes(self) -> list[Node]:
        """The nodes inside."""
        first = [] if self.node is None else [self.node]
        return first if self.nest is None else [*first, *self.nest.nodes]


def arrays_of(node: Node) -> set[int]:
    """The ids of what a node needs in memory even if it is one number and the node in a loop: what
    it writes a part of, what it takes rows from."""
    bases = {id(view.value.base) for view in node.outputs}
    return bases | {id(node.inputs[0].value)} if node.op == "gather_rows" else bases


def values_needed_outside(units: list[Unit], graph: Graph) -> set[int]:
    """The ids of the values that must be in memory: read by another unit, or given out."""
    filled = graph.filled()
    maker: dict[int, Unit] = {}
    needed: set[int] = {id(view.value) for view in graph.outputs()}
    for unit in units:
        for node in unit.nodes:
            for view in node.outputs:
                maker[id(view.value)] = unit
    for unit in units:
        for node in unit.nodes:
            arrays = arrays_of(node)
            needed.update(
                key
                for key in map(id, node.needed())
                if maker.get(key) is not unit
                and (node is unit.node or key not in filled or key in arrays)
            )
    return needed
