"""Units: groups of nodes that run as one kernel, and the values stored between them."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.graph import Graph, Node
from .loop_nest import Nest


@dataclass(eq=False)
class Unit:
    """The nodes of one kernel.

    A unit is a nest, a node with a kernel of its own, or a matrix product or convolution with a
    nest as its epilogue.
    """

    number: int
    nest: Nest | None
    node: Node | None
    before: int = 0  # the units that must run earlier, as a bit mask

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the unit, in order."""
        first = [] if self.node is None else [self.node]
        return first if self.nest is None else [*first, *self.nest.nodes]


def arrays_of(node: Node) -> set[int]:
    """The ids of the values that a node needs as arrays even where one number fills them.

    These are the values that the node overwrites in part, and the one that it gathers rows from.
    """
    bases = {id(view.value.base) for view in node.outputs}
    return bases | {id(node.inputs[0].value)} if node.op == "gather_rows" else bases


def values_needed_outside(units: list[Unit], graph: Graph) -> set[int]:
    """The ids of the values that must be stored: outputs, and inputs of another unit."""
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
