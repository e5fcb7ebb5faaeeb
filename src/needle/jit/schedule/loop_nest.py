"""Loop nests: which element-wise nodes and reductions fit into one loop.

A `Nest` holds nodes that run in one loop over a common domain (see `ir.domain`) of `rows` x `cols`:
a node is *full* (it has a value at every point), *row* (one value a row), or a reduction of full
values to one a row, one a column or one in all, or of row values to one in all.
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
    """Nodes that run in one loop; see the module. `cols` is None until a node decides it."""

    size: int
    cols: int | None = None
    nodes: list[Node] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    produced: dict[int, str] = field(default_factory=dict)  # the kind of a value, by its id
    # The kinds of values that may be written where the nest has read others.
    in_place: ClassVar[tuple[str, ...]] = (FULL,)

    def add(self, node: Node, domain: Domain) -> bool:
        """Take the node in if it fits; returns whether it did."""
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
        """A nest of the same points without nodes."""
        return type(self)(self.size, self.cols)

    def merged_with(self, other: Self) -> Self | None:
        """An empty nest for the nodes of both, or None where their points are not the same."""
        if self.size != other.size:
            return None
        if None not in (self.cols, other.cols) and self.cols != other.cols:
            return None
        return (other if self.cols is None else self).empty()

    def only(self, chosen: Sequence[bool]) -> Self | None:
        """The nest with the chosen ones of its nodes; None where there are none."""
        nest = self.empty()
        nest.nodes = list(itertools.compress(self.nodes, chosen))
        nest.domains = list(itertools.compress(self.domains, chosen))
        nest.kinds = list(itertools.compress(self.kinds, chosen))
        pairs = zip(nest.nodes, nest.kinds, strict=True)
        nest.produced = {id(node.outputs[0].value): kind for node, kind in pairs}
        return nest if nest.nodes else None

    def _kind(self, domain: Domain) -> tuple[str, int | None] | None:
        """(what the node is in this nest, the columns of the nest then), or None."""
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
        """The boundaries of the common domain, descending; None where there is none."""
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
        """Whether input `i` of a node has an element a row of `cols` points, read at each point."""
        if domain.size != self.size:
            return is_linear(domain.shape, domain.accesses[i])
        if cols is None:
            return False
        (shape, outer), (_, inner) = halves(domain, i, cols)
        return is_linear(shape, outer) and not any(inner)

    def can_have_columns(self, cols: int) -> bool:
        """Whether rows of `cols` points suit every node."""
        return self.cols in (None, cols) and self._axes(self.domains, cols) is not None

    def boundaries(self, cols: int | None) -> list[int]:
        """The boundaries of the common domain, descending from its size to 1."""
        chain = self._axes(self.domains, cols)
        assert chain is not None
        return chain

    def outputs(self) -> list[Value]:
        """The values that the nest makes, in order."""
        return [node.outputs[0].value for node in self.nodes]
