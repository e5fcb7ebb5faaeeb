"""Loop nests: which element-wise nodes and reductions fit into one loop.

A `Nest` holds nodes that run in one loop over a common domain (see `ir.domain`) of `rows` x `cols`
points. A *full* node has a value at every point, a *row* node one value per row. The other nodes
are reductions: of full values to one per row, one per column or a single one, and of row values to
a single one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from ..ir.domain import FULL, ROW, ROW_SUM, TOTAL, Domain, halves, is_linear, reduction_shape
from ..ir.graph import Node, Value, View


@dataclass(eq=False)
class Nest:
    """Nodes that run in one loop; see the module. `cols` is None until a node determines it."""

    size: int
    cols: int | None = None
    nodes: list[Node] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    produced: dict[int, str] = field(default_factory=dict)  # the kind of a value, by its id
    # The kinds of values that may be written where the nest has read others.
    in_place: ClassVar[tuple[str, ...]] = (FULL,)

    def add(self, node: Node, domain: Domain) -> bool:
        """Add the node if it fits; returns whether it did."""
        if self.nodes and self.nodes[0].run != node.run:
            return False
        choice = self._kind(domain)
        if choice is None:
            return False
        kind, cols = choice
        if self._axes((*self.domains, domain), cols) is None:
            return False
        if not all(self._readable(x, domain, i, kind, cols) for i, x in enumerate(node.inputs)):
            return False
        self.cols = cols
        self.nodes.append(node)
        self.domains.append(domain)
        self.kinds.append(kind)
        self.produced[id(node.outputs[0].value)] = kind
        return True

    def empty(self) -> Self:
        """A nest of the same size without nodes."""
        return type(self)(self.size, self.cols)

    def merged_with(self, other: Self) -> Self | None:
        """An empty nest for the nodes of both nests; None where their sizes or columns differ."""
        if self.size != other.size:
            return None
        if None not in (self.cols, other.cols) and self.cols != other.cols:
            return None
        return (other if self.cols is None else self).empty()

    def only(self, chosen: Sequence[bool]) -> Self | None:
        """The nest with the chosen nodes only; None where none is chosen."""
        nest = self.empty()
        nest.nodes = list(itertools.compress(self.nodes, chosen))
        nest.domains = list(itertools.compress(self.domains, chosen))
        nest.kinds = list(itertools.compress(self.kinds, chosen))
        pairs = zip(nest.nodes, nest.kinds, strict=True)
        nest.produced = {id(node.outputs[0].value): kind for node, kind in pairs}
        return nest if nest.nodes else None

    def _kind(self, domain: Domain) -> tuple[str, int | None] | None:
        """(kind of a node in this nest, columns of the nest with it); None if it does not fit."""
        wanted = reduction_shape(domain)
        if wanted is None:
            return None
        kind, cols = wanted
        if domain.size == self.size and (cols is None or self.cols in (None, cols)):
            return kind, self.cols if cols is None else cols
        if self.cols is None or domain.size * self.cols != self.size:
            return None
        return {FULL: (ROW, self.cols), TOTAL: (TOTAL, self.cols)}.get(kind)

    def _axes(self, domains: Sequence[Domain], cols: int | None) -> list[int] | None:
        """The boundaries of the common domain, descending; None without a common domain."""
        boundaries = {1, self.size} | ({cols} if cols is not None else set())
        for domain in domains:
            scale = 1 if domain.size == self.size else self.size // max(domain.size, 1)
            boundaries |= {b * scale for b in domain.boundaries}
        chain = sorted(boundaries, reverse=True)
        return chain if all(a % b == 0 for a, b in itertools.pairwise(chain)) else None

    def _readable(self, x: View, domain: Domain, i: int, kind: str, cols: int | None) -> bool:
        """Whether the node may read input `i` if this nest produces it."""
        made = self.produced.get(id(x.value))
        if made is None:
            return True
        if made not in (FULL, ROW, ROW_SUM) or x.offset:
            return False
        if made == FULL:
            return domain.size == self.size and is_linear(domain.shape, domain.accesses[i])
        return self.reads_line(domain, i, cols)

    def reads_line(self, domain: Domain, i: int, cols: int | None) -> bool:
        """Whether input `i` of a node has one element per row, broadcast over its `cols` points."""
        if domain.size != self.size:
            return is_linear(domain.shape, domain.accesses[i])
        if cols is None:
            return False
        (shape, outer), (_, inner) = halves(domain, i, cols)
        return is_linear(shape, outer) and not any(inner)

    def can_have_columns(self, cols: int) -> bool:
        """Whether every node allows rows of `cols` points."""
        return self.cols in (None, cols) and self._axes(self.domains, cols) is not None

    def boundaries(self, cols: int | None) -> list[int]:
        """The boundaries of the common domain, descending from its size to 1."""
        chain = self._axes(self.domains, cols)
        assert chain is not None
        return chain

    def outputs(self) -> list[Value]:
        """The values that the nest computes, in order."""
        return [node.outputs[0].value for node in self.nodes]
