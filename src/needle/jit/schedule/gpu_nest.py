"""Nests on a GPU: which nodes share a kernel that iterates along rows or along columns.

A nest becomes one of three kinds of kernel (see `cuda_loops`), depending on its nodes:

- A *flat* kernel has a thread for each point. It computes full values and totals.
- A kernel *along rows* has several threads for each row. It also computes sums over a row, values
  per row, and full values that read those in a later pass over the row.
- A kernel *along columns* has several threads for each column, as for the sums of a batch norm. It
  computes the same for columns. Tall columns are split over several blocks, and the last block to
  finish adds up their parts. A full value of the same kernel cannot read such a sum.

The last block also computes *scalars*, the values that depend on totals. A node that writes a
*part* of an array, as a concatenation does, can be in the kernel of the node whose result it
copies.
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
# The kinds of nodes with one value for each row or column: which of the two their nest iterates
# along. A *line* is a row or a column, whichever that is.
LINES = {ROW_SUM: ROW, ROW: ROW, COLUMN_SUM: COLUMN, COLUMN: COLUMN}
# Columns of up to so many rows are summed by one block, which reads them again in later passes.
SHORT_COLUMN = 512
# Rows longer than LONG_ROW get a block each only where there are at least MANY_ROWS.
LONG_ROW, MANY_ROWS = 1 << 14, 128


def domain_of(node: Node) -> Domain | None:
    """The domain of a node that can be in a kernel, or None.

    The last access of a node that writes a part of an array is the access to its output. The
    accesses of `gather_rows` are: x within a row, the index, and the position in the index.
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
    """Whether an element-wise node writes only a part of its output's buffer."""
    if not node.is_elementwise:
        return False
    (out,) = node.outputs
    return out.value.base is not None or not out.covers


def share_nothing(a: View, b: View) -> bool:
    """Whether two views of one buffer are known to be disjoint."""
    if a.strides != b.strides or any(stride <= 0 for stride in a.strides):
        return False
    axes = sorted(zip(a.strides, a.shape, b.shape, strict=True), reverse=True)
    first, second = a.offset, b.offset
    for i, (step, _, _) in enumerate(axes):
        if _end(first, axes[i:], 1) <= second or _end(second, axes[i:], 2) <= first:
            return True
        # Compare the offsets within one step, provided that the inner axes do not exceed a step.
        first, second = first % step, second % step
        if max(_end(first, axes[i + 1 :], 1), _end(second, axes[i + 1 :], 2)) > step:
            return False
    return first != second


def _end(start: int, axes: Sequence[tuple[int, ...]], which: int) -> int:
    """The end of the range that a view spans; entry `which` of each axis is its length."""
    return start + 1 + sum(axis[0] * (axis[which] - 1) for axis in axes)


@dataclass(eq=False)
class LineNest(Nest):
    """A nest that becomes one GPU kernel. `along` is ROW, COLUMN, or None for a flat nest."""

    along: str | None = None
    in_place = (FULL, *LINES)

    def add(self, node: Node, domain: Domain) -> bool:
        """Add the node if it fits; returns whether it did."""
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
        """A nest without nodes that has the same size and lines."""
        return LineNest(self.size, self.cols, along=self.along)

    def merged_with(self, other: Nest) -> LineNest | None:
        """An empty nest for the nodes of both nests; None where they do not fit together.

        The points of a flat nest can become the lines of the other nest.
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
        """The number of lines; None for a flat nest."""
        return None if self.along is None else self.rows if self.along == ROW else self.cols

    @property
    def rows(self) -> int:
        """The number of rows; 1 where the nest has no columns."""
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
        """Whether a node whose domain is all points can be in the kernel."""
        if kind == ROW_SUM:
            assert cols is not None
            is_long = cols > LONG_ROW and self.size < cols * MANY_ROWS
            return self.along != COLUMN and not is_long
        if kind == COLUMN_SUM:
            return self.along != ROW and TOTAL not in self.kinds
        return kind == FULL or self.along != COLUMN

    def _kind_of_line(self, kind: str, size: int) -> tuple[str, int | None] | None:
        """(kind, columns) of a node with one value per line, or a single one."""
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
        """Whether input `i` of a node has one element per line, broadcast along the line."""
        if domain.size not in (self.size, self.lines):
            return False
        if self.along != COLUMN or domain.size != self.size:
            return super().reads_line(domain, i, cols)
        assert cols is not None
        (_, outer), (columns, inner) = halves(domain, i, cols)
        return is_linear(columns, inner) and not any(outer)


def _interfere(a: Node, b: Node) -> bool:
    """Whether two nodes race: a thread may write for one what another thread uses for the other."""
    if a is not b and writes_part(a) and writes_part(b) and _array(a) is _array(b):
        return not share_nothing(a.outputs[0], b.outputs[0])
    return any(
        writes_part(writer) and any(base_of(x.value) is _array(writer) for x in reader.inputs)
        for writer, reader in ((a, b), (b, a))
    )


def _array(node: Node) -> Value:
    return base_of(node.outputs[0].value)
