"""Loop nests: how element-wise nodes and reductions walk memory, and which of them fit together.

The domain of a node is a list of axes, outermost first, in the order of the memory it writes; its
accesses are one stride per axis. A `Nest` holds nodes that run in one loop over a common domain of
`rows` x `cols`: a node is *full* (it has a value at every point), *row* (one value a row), or a
reduction of full values to one a row, one a column or one in all, or of row values to one in all.
Axes of domains can be split wherever every node steps evenly, so (98304,), (768, 128) and
(12, 64, 128) fit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar, Self

from ..backend_ndarray.layout import Shape, compact_strides
from .graph import Node, Value, View

Strides = tuple[int, ...]

# Functions of one number that have a branch: one in a loop would keep it from being vectorized, so
# that they stay calls of the core's kernels.
BRANCHING = ("sin", "cos")


@dataclass(frozen=True)
class Domain:
    """The axes that a node walks, and how each input moves along them."""

    shape: tuple[int, ...]
    reduced: tuple[bool, ...]
    accesses: tuple[Strides, ...]

    @cached_property
    def size(self) -> int:
        """The number of points."""
        return prod(self.shape)

    @cached_property
    def boundaries(self) -> set[int]:
        """The products of the last 0, 1, 2, … axes."""
        return {prod(self.shape[i:]) for i in range(len(self.shape) + 1)}

    def split(self, boundaries: Sequence[int]) -> Domain:
        """The same walk with axes cut at `boundaries`, a descending chain of divisors."""
        shape: list[int] = []
        reduced: list[bool] = []
        accesses: list[list[int]] = [[] for _ in self.accesses]
        inner = self.size
        for axis, length in enumerate(self.shape):
            outer, inner = inner, inner // max(length, 1)
            cuts = [outer, *(b for b in boundaries if inner < b < outer), inner]
            for a, b in itertools.pairwise(cuts):
                shape.append(a // b)
                reduced.append(self.reduced[axis])
                for access, strides in zip(accesses, self.accesses, strict=True):
                    access.append(strides[axis] * (b // inner))
        return Domain(tuple(shape), tuple(reduced), tuple(map(tuple, accesses)))


def domain_of(node: Node) -> Domain | None:
    """The domain of a node that can be in a nest, or None."""
    if node.op == "unary" and node.attributes[0] in BRANCHING:
        return None
    return _reduction_domain(node) if node.op == "reduce" else elementwise_domain(node)


def elementwise_domain(node: Node) -> Domain | None:
    """The domain of an element-wise node, or None."""
    if not node.is_elementwise:
        return None
    (out,) = node.outputs
    if out.value.base is not None or not out.covers or not out.size:
        return None
    return domain_over(out, node.inputs)


def domain_over(out: View, accessed: Sequence[View]) -> Domain:
    """The walk over `out` in the order of its memory, and over others of its shape."""
    order = _memory_order(out)
    shape = tuple(out.shape[i] for i in order)
    accesses = tuple(tuple(x.strides[i] for i in order) for x in accessed)
    return _collapsed(Domain(shape, (False,) * len(shape), accesses))


def _reduction_domain(node: Node) -> Domain | None:
    (x,), (out,) = node.inputs, node.outputs
    _, axes = node.attributes
    if out.value.base is not None or not out.covers or not x.size:
        return None
    if out.dtype.kind == "b":  # the kernel does those: sums of parts are std::vectors of the type
        return None
    order = _memory_order(x)
    kept = [i for i in order if i not in axes]
    if kept != sorted(kept):
        return None
    shape = tuple(x.shape[i] for i in order)
    reduced = tuple(i in axes for i in order)
    domain = _collapsed(Domain(shape, reduced, (tuple(x.strides[i] for i in order),)))
    return domain if reduction_shape(domain) is not None else None


def _memory_order(view: View) -> list[int]:
    """The axes longer than 1 from the largest stride to the smallest."""
    axes = [i for i, n in enumerate(view.shape) if n != 1]
    return sorted(axes, key=lambda i: -abs(view.strides[i]))


def _collapsed(domain: Domain) -> Domain:
    """With axes joined where every input steps evenly over both."""
    shape: list[int] = []
    reduced: list[bool] = []
    accesses: list[list[int]] = [[] for _ in domain.accesses]
    for axis, length in enumerate(domain.shape):
        steps = [strides[axis] for strides in domain.accesses]
        even = (
            all(a[-1] == s * length for a, s in zip(accesses, steps, strict=True))
            if shape
            else False
        )
        if even and reduced[-1] == domain.reduced[axis]:
            shape[-1] *= length
            for access, step in zip(accesses, steps, strict=True):
                access[-1] = step
        else:
            shape.append(length)
            reduced.append(domain.reduced[axis])
            for access, step in zip(accesses, steps, strict=True):
                access.append(step)
    return Domain(tuple(shape), tuple(reduced), tuple(map(tuple, accesses)))


# ---- nests ----------------------------------------------------------------------------------

FULL, ROW, ROW_SUM, COLUMN_SUM, TOTAL = "full", "row", "row sum", "column sum", "total"


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


def reduction_shape(domain: Domain) -> tuple[str, int | None] | None:
    """(kind, columns) that a domain asks for; columns None where it does not care."""
    flags = domain.reduced
    if not any(flags):
        return FULL, None
    if all(flags):
        return TOTAL, None
    cut = flags.index(True) if not flags[0] else flags.index(False)
    if any(flags[i] != flags[0] for i in range(cut)) or len(set(flags[cut:])) != 1:
        return None
    return (COLUMN_SUM if flags[0] else ROW_SUM), prod(domain.shape[cut:])


Axes = tuple[Shape, Strides]


def halves(domain: Domain, i: int, cols: int) -> tuple[Axes, Axes]:
    """The axes over rows of `cols` points and those within a row, with the strides of access `i`
    along them."""
    split = domain.split([domain.size, cols, 1])
    at, strides = _position(split.shape, cols), split.accesses[i]
    return (split.shape[:at], strides[:at]), (split.shape[at:], strides[at:])


def _position(shape: Sequence[int], inner: int) -> int:
    """How many leading axes leave `inner` points."""
    at = len(shape)
    while prod(shape[at:]) != inner:
        at -= 1
    # Axes of length 1 at the border belong to the inner part.
    while at > 0 and shape[at - 1] == 1:
        at -= 1
    return at


def is_linear(shape: Sequence[int], strides: Strides) -> bool:
    """Whether a walk goes through consecutive elements."""
    return all(
        n == 1 or s == e
        for n, s, e in zip(shape, strides, compact_strides(tuple(shape)), strict=True)
    )
