"""Updates of the rows of a table that a step has looked up, instead of the whole table.

The gradient of an embedding is zero but for the rows that were looked up. A plain gradient step,
table - lr * gradient, then changes these rows only. It becomes one addition of rows to the table.
With momentum or weight decay every row changes, so that nothing is gained there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.graph import Graph, Node, Value, View, whole

# The rows of the table for each row that is added, from which on rows are cheaper: a row that is
# added is scaled, stored and added, a row of the table is cleared, read and written.
LARGER = 2


@dataclass(frozen=True)
class _Update:
    """A table's update: its nodes by position, from the sum of rows to the new contents."""

    state: int
    scatter: int
    scales: tuple[int, ...]
    last: int


def update_rows(graph: Graph) -> Graph:
    """The graph with gradient steps of tables as updates of the rows that were looked up."""
    search = _Search(graph)
    found = [u for i, node in enumerate(graph.nodes) if (u := search.update_from(i, node))]
    if not found:
        return graph
    instead: dict[int, Sequence[Node]] = {}
    updates = dict(graph.updates)
    for update in found:
        instead.update(dict.fromkeys((*update.scales, update.last), ()))
        nodes = list(_row_update(graph, update))
        instead[update.scatter] = nodes
        table, new = graph.updates[update.state], nodes[-1].outputs[0].value
        updates[update.state] = View(new, table.shape, table.strides, table.offset)
    changed = graph.with_nodes(
        node for i, old in enumerate(graph.nodes) for node in instead.get(i, (old,))
    )
    changed.updates = updates
    return changed


class _Search:
    """What must be known of a graph to find the updates of tables."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.filled = graph.filled()
        self.made = {id(v.value): i for i, node in enumerate(graph.nodes) for v in node.outputs}
        self.readers: dict[int, list[int]] = {}
        for i, node in enumerate(graph.nodes):
            for value in node.needed():
                self.readers.setdefault(id(value), []).append(i)
        self.leaving = Counter(id(view.value) for view in graph.outputs())
        self.lookups = {
            tuple(id(x.value) for x in node.inputs)
            for node in graph.nodes
            if node.op == "gather_rows"
        }

    def update_from(self, position: int, node: Node) -> _Update | None:
        """The update that begins with a sum of rows at this position, if there is one."""
        if node.op != "scatter_add_rows":
            return None
        (gradient,) = node.outputs
        base, index, rows = gradient.value.base, node.inputs[-2], node.inputs[-1]
        if base is None or self.filled.get(id(base)) != 0 or not gradient.is_compact:
            return None
        if LARGER * rows.shape[0] > gradient.shape[0]:
            return None
        scales: list[int] = []
        value = gradient.value
        while (reader := self._only_reader(value)) is not None:
            following = self.graph.nodes[reader]
            if not self._is_scale(following, value, position):
                return self._step(following, value, index, (position, (*scales,), reader))
            scales.append(reader)
            value = following.outputs[0].value
        return None

    def _only_reader(self, value: Value) -> int | None:
        readers = self.readers.get(id(value), [])
        return readers[0] if len(readers) == 1 and not self.leaving[id(value)] else None

    def _is_scale(self, node: Node, value: Value, position: int) -> bool:
        """Whether a node multiplies all of `value` by one number that was known at `position`."""
        if (node.op, *node.attributes[:1]) not in {("binary", "mul"), ("binary_scalar", "mul")}:
            return False
        out = node.outputs[0]
        if not out.is_compact or out.dtype is not value.dtype:
            return False
        others = [x for x in node.inputs if x.value is not value]
        mine = [x for x in node.inputs if x.value is value]
        return (
            len(mine) == 1
            and mine[0].is_compact
            and all(_is_number(x) and self.made.get(id(x.value), -1) < position for x in others)
        )

    def _step(
        self, node: Node, value: Value, index: View, where: tuple[int, tuple[int, ...], int]
    ) -> _Update | None:
        """The update whose last node subtracts `value` from a table that `index` looks up."""
        if (node.op, *node.attributes) != ("binary", "sub"):
            return None
        table, step = node.inputs
        new = node.outputs[0]
        views = (table, step, new)
        if step.value is not value or not all(x.is_compact for x in views):
            return None
        position, scales, last = where
        for i, update in self.graph.updates.items():
            is_table = self.graph.states[i].value is table.value
            if not is_table or update.value is not new.value or not update.is_compact:
                continue
            others = [r for r in self.readers[id(table.value)] if r != last]
            alone = self.leaving[id(new.value)] == 1 and id(new.value) not in self.readers
            looked_up = (id(table.value), id(index.value)) in self.lookups
            if alone and looked_up and all(reader < position for reader in others):
                return _Update(i, position, scales, last)
        return None


def _is_number(x: View) -> bool:
    return not any(step for n, step in zip(x.shape, x.strides, strict=True) if n != 1)


def _row_update(graph: Graph, update: _Update) -> list[Node]:
    """The nodes that add the scaled rows to the table."""
    scatter, subtract = graph.nodes[update.scatter], graph.nodes[update.last]
    gradient, index, rows = scatter.outputs[0], scatter.inputs[-2], scatter.inputs[-1]
    nodes: list[Node] = []
    for position in update.scales:
        scale = graph.nodes[position]
        made = _like(rows)
        operands = tuple(_scaled(x, scale, rows, made) for x in scale.operands)
        nodes.append(Node(scale.op, operands, scatter.run))
        rows = made
    negative = _like(rows)
    nodes.append(Node("unary", ("neg", rows, negative), scatter.run))
    table = subtract.inputs[0].value
    copied = Value(table.size, table.dtype)  # in the table's own memory, if no one reads it later
    new = View(
        Value(table.size, table.dtype, copied), gradient.shape, gradient.strides, gradient.offset
    )
    nodes.append(Node("copy", (whole(table), whole(copied)), scatter.run))
    nodes.append(Node("scatter_add_rows", (new, index, negative), scatter.run))
    return nodes


def _like(rows: View) -> View:
    return whole(Value(rows.size, rows.dtype), rows.shape)


def _scaled(x: object, scale: Node, rows: View, made: View) -> object:
    """An operand of the scale of a table, for the scale of its rows."""
    if not isinstance(x, View):
        return x
    if x is scale.outputs[0]:
        return made
    if _is_number(x) and x.value.size != scale.outputs[0].value.size:
        return View(x.value, rows.shape, (0,) * len(rows.shape), x.offset)
    return rows
