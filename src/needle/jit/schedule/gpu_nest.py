"""Nests on a GPU: what one kernel computes along the rows or along the columns of its points.

A nest becomes one of three kernels (see `cuda_loops`), by what its nodes are:

- *flat*, a thread a point: full values and totals.
- *along rows*, some threads a row: also sums of rows, values of a row, and full values that read
  them in a later walk over the row.
- *along columns*, some threads a column: the same with columns, as the sums of a batch norm. Tall
  ones are cut into parts for several blocks, the last of which makes the sum: then no full value
  can read it.

Values that follow from totals (*scalars*) are computed by the last block too. What writes a *part*
of an array, such as one of the arrays that are put together, is in the kernel of what it copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.domain import (
    COLUMN_SUM,
    FULL,
    ROW,
    ROW_SUM,
    TOTAL,
    Domain,
    domain_over,
    elementwise_domain,
    halves,
    is_linear,
    reduction_shape,
)
from ..ir.domain import domain_of as loop_domain_of
from ..ir.graph import Node, Value, View, base_of
from .loop_nest import Nest

COLUMN, SCALAR, PART = "column", "scalar", "part"
# What has one value a line, by the lines that a nest with them walks along.
LINES = {ROW_SUM: ROW, ROW: ROW, COLUMN_SUM: COLUMN, COLUMN: COLUMN}
# Rows of a column that one block sums alone, and again for each later walk.
SHORT_COLUMN = 512
# Rows longer than this are not left to a block each, unless they are so many.
LONG_ROW, MANY_ROWS = 1 << 14, 128


def domain_of(node: Node) -> Domain | None:
    """The domain of a node that can be in a kernel, or None.

    The last access of one that writes a part of an array is to what it writes. One that takes rows
    accesses a row, the index along the rows, and last the numbers of the rows.
    """
    if node.op == "gather_rows":
        return _lookup_domain(node)
    if not writes_part(node):
        # A kernel's threads may branch.
        return elementwise_domain(node) or loop_domain_of(node)
    (out,) = node.outputs
    return domain_over(out, (*node.inputs, out)) if out.size else None


def _lookup_domain(node: Node) -> Domain | None:
    (x, index), (out,) = node.inputs, node.outputs
    if out.value.base is not None or not out.covers or not out.size:
        return None
    steps = (0, x.strides[1]), (index.strides[0], 0), (1, 0)
    return domain_over(out, [View(x.value, out.shape, strides) for strides in steps])


def writes_part(node: Node) -> bool:
    """Whether an element-wise node leaves a part of its array as it was."""
    if not node.is_elementwise:
        return False
    (out,) = node.outputs
    return out.value.base is not None or not out.covers


def share_nothing(a: View, b: View) -> bool:
    """Whether two views of one buffer are known to have no element in common."""
    if a.strides != b.strides or any(stride <= 0 for stride in a.strides):
        return False
    axes = sorted(zip(a.strides, a.shape, b.shape, strict=True), reverse=True)
    first, second = a.offset, b.offset
    for i, (step, _, _) in enumerate(axes):
        if _end(first, axes[i:], 1) <= second or _end(second, axes[i:], 2) <= first:
            return True
        # Else compare what they have of one step, if what lies inside does not reach the next.
        first, second = first % step, second % step
        if max(_end(first, axes[i + 1 :], 1), _end(second, axes[i + 1 :], 2)) > step:
            return False
    return first != second


def _end(start: int, axes: Sequence[tuple[int, ...]], which: int) -> int:
    """The end of what a view spans; its lengths are the entries `which` of its axes."""
    return start + 1 + sum(axis[0] * (axis[which] - 1) for axis in axes)


@dataclass(eq=False)
class LineNest(Nest):
    """A nest that is one kernel of a GPU. `along` is ROW, COLUMN, or None while it is flat."""

    along: str | None = None
    in_place = (FULL, *LINES)

    def add(self, node: Node, domain: Domain) -> bool:
        """Take the node in if it fits; returns whether it did."""
        is_part = writes_part(node)
        if is_part and domain.size != self.size:
            return False
        if node.op == "gather_rows" and id(node.inputs[0].value) in self.produced:
            return False
        parts = (n for n, kind in zip(self.nodes, self.kinds, strict=True) if kind == PART)
        if any(_interfere(node, other) for other in ((node, *self.nodes) if is_part else parts)):
            return False
        if not super().add(node, domain):
            return False
        if is_part:
            self.kinds[-1] = self.produced[id(node.outputs[0].value)] = PART
        self.along = LINES.get(self.kinds[-1], self.along)
        return True

    def empty(self) -> LineNest:
        """A nest of the same points and lines without nodes."""
        return LineNest(self.size, self.cols, along=self.along)

    def merged_with(self, other: Nest) -> LineNest | None:
        """An empty nest for the nodes of both; None where they do not fit together.

        All points of a flat one can be the lines of the other.
        """
        assert isinstance(other, LineNest)
        for flat, lined in ((self, other), (other, self)):
            if flat.along is None and flat.size == lined.lines:
                return lined.empty()
        if self.along is not None and other.along not in (None, self.along):
            return None
        merged = super().merged_with(other)
        assert merged is None or isinstance(merged, LineNest)
        return merged

    @property
    def lines(self) -> int | None:
        """How many there are; None for a flat nest."""
        return None if self.along is None else self.rows if self.along == ROW else self.cols

    @property
    def rows(self) -> int:
        """The rows of a nest; 1 where it has no columns."""
        return self.size // (self.cols or self.size)

    def _kind(self, domain: Domain) -> tuple[str, int | None] | None:
        wanted = reduction_shape(domain)
        if wanted is None:
            return None
        kind, cols = wanted
        if domain.size == self.size:
            fits = cols is None or self.cols in (None, cols)
            return (kind, cols or self.cols) if fits and self._takes(kind, cols) else None
        return self._kind_of_line(kind, domain.size)

    def _takes(self, kind: str, cols: int | None) -> bool:
        """Whether a node of all points can be in the kernel."""
        if kind == ROW_SUM:
            assert cols is not None
            is_long = cols > LONG_ROW and self.size < cols * MANY_ROWS
            return self.along != COLUMN and not is_long
        if kind == COLUMN_SUM:
            return self.along != ROW and TOTAL not in self.kinds
        return kind == FULL or self.along != COLUMN

    def _kind_of_line(self, kind: str, size: int) -> tuple[str, int | None] | None:
        """(kind, columns) of a node with a value a line, or one in all."""
        if self.along is not None and size == self.lines:
            if kind == FULL:
                return self.along, self.cols
            return (TOTAL, self.cols) if (kind, self.along) == (TOTAL, ROW) else None
        return (SCALAR, self.cols) if size == 1 and TOTAL in self.kinds else None

    def _axes(self, domains: Sequence[Domain], cols: int | None) -> list[int] | None:
        if self.along == COLUMN:  # values of columns have no axes of rows
            domains = [domain for domain in domains if domain.size == self.size]
        return super()._axes(domains, cols)

    def _readable(self, x: View, domain: Domain, i: int, kind: str, cols: int | None) -> bool:
        made = self.produced.get(id(x.value))
        if made is None:
            return True
        if x.offset:
            return False
        if kind == SCALAR:
            return made in (TOTAL, SCALAR)
        if made == FULL:
            return domain.size == self.size and is_linear(domain.shape, domain.accesses[i])
        if domain.size == self.size and self.along == COLUMN and self.rows > SHORT_COLUMN:
            return False
        return made in LINES and self.reads_line(domain, i, cols)

    def reads_line(self, domain: Domain, i: int, cols: int | None) -> bool:
        """Whether input `i` of a node has an element a line, read at each point."""
        if domain.size not in (self.size, self.lines):
            return False
        if self.along != COLUMN or domain.size != self.size:
            return super().reads_line(domain, i, cols)
        assert cols is not None
        (_, outer), (columns, inner) = halves(domain, i, cols)
        return is_linear(columns, inner) and not any(outer)


def _interfere(a: Node, b: Node) -> bool:
    """Whether a thread for one of two nodes may write what another thread uses for the other."""
    if a is not b and writes_part(a) and writes_part(b) and _array(a) is _array(b):
        return not share_nothing(a.outputs[0], b.outputs[0])
    return any(
        writes_part(writer) and any(base_of(x.value) is _array(writer) for x in reader.inputs)
        for writer, reader in ((a, b), (b, a))
    )


def _array(node: Node) -> Value:
    return base_of(node.outputs[0].value)
