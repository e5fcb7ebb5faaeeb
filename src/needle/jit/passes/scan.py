"""Passes on loops over time ("scan" nodes): work that a step need not do itself leaves the loop.

- Values that are the same in all steps are computed once, before the loop.
- The backward loop reads values that the forward loop has computed instead of recomputing them.
- Products whose operands are known before the loop become one product before it, and products whose
  results are read only after the loop become one product after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..ir.cost import CHEAP, cost_of
from ..ir.graph import Graph, Loop, Node, Number, Value, View, replace_values, whole
from .simplify import copied_value, expression, remove_dead_code, share_common_subexpressions


class Pair(NamedTuple):
    """A value of a step, and the array outside the loop that has it for all steps."""

    inner: View
    outer: View


class Carry(NamedTuple):
    """A carry: the argument and the result of a step, and the first and the last value outside."""

    before: View
    after: View
    first: View
    last: View


@dataclass
class Scan:
    """A "scan" node in parts that a pass can change; see `Loop`."""

    loop: Loop
    run: int
    carries: list[Carry]
    slices: list[Pair]
    fixed: list[Pair]
    outs: list[Pair]
    nodes: list[Node]
    earlier: list[Node] = field(default_factory=list)  # nodes that run before the loop
    later: list[Node] = field(default_factory=list)  # nodes that run after it

    @classmethod
    def of(cls, node: Node) -> Scan:
        """The parts of a node."""
        loop: Loop = node.operands[0]
        n, ends = loop.carries, loop.carries + loop.slices
        body, inputs, outputs = loop.body, node.inputs, node.outputs
        ends_of = zip(body.arguments[:n], body.results[:n], inputs[:n], outputs[:n], strict=True)
        pairs = list(map(Pair, body.arguments, inputs))
        outs = list(map(Pair, body.results[n:], outputs[n:]))
        carries = [Carry(*ends) for ends in ends_of]
        return cls(loop, node.run, carries, pairs[n:ends], pairs[ends:], outs, body.nodes)

    def to_nodes(self) -> Iterator[Node]:
        """The changed node, with the nodes before and after it."""
        yield from self.earlier
        if self.carries or self.outs:
            loop = Loop(
                self.body(), self.loop.length, len(self.carries), len(self.slices),
                self.loop.reverse,
            )  # fmt: skip
            inputs = [*(c.first for c in self.carries), *(p.outer for p in self.inputs())]
            outputs = [*(c.last for c in self.carries), *(p.outer for p in self.outs)]
            yield Node("scan", (loop, *inputs, *outputs), self.run)
        yield from self.later

    def inputs(self) -> list[Pair]:
        """The slices and the values that are the same in all steps."""
        return [*self.slices, *self.fixed]

    def body(self) -> Graph:
        """The graph of a step."""
        arguments = [*(c.before for c in self.carries), *(p.inner for p in self.inputs())]
        results = [*(c.after for c in self.carries), *(p.inner for p in self.outs)]
        return Graph(arguments=arguments, nodes=self.nodes, results=results)

    def results(self) -> set[int]:
        """The ids of the values that a step returns."""
        return {id(view.value) for view in self.body().results}

    def overwritten(self) -> set[int]:
        """The ids of values that a later node overwrites in part."""
        return {id(v.value.base) for n in self.nodes for v in n.outputs if v.value.base is not None}

    def readers(self, value: Value) -> list[Node]:
        """The nodes of a step that need the value."""
        return [node for node in self.nodes if any(v is value for v in node.needed())]

    def stacked(self, value: Value) -> View | None:
        """The value at all steps, as (steps, size); None where it cannot be an output of the loop.

        The value becomes an output unless it is one already, or a slice.
        """
        for pair in (*self.slices, *self.outs):
            if pair.inner.value is value:
                return _rows(pair.outer.value, self.loop.length, value.size, pair.outer.offset)
        made = any(value is v.value for node in self.nodes for v in node.outputs)
        if not made or id(value) in self.overwritten():
            return None
        outer = whole(Value(self.loop.length * value.size, value.dtype))
        rows = _rows(outer.value, self.loop.length, value.size, 0)
        self.outs.append(Pair(whole(value), rows))
        return rows

    def read(self, rows: View) -> Value:
        """The value of a step that is its row of an array (steps, size)."""
        for pair in self.slices:
            if _place(pair.outer) == _place(rows):
                return pair.inner.value
        value = Value(rows.shape[1], rows.dtype)
        self.slices.append(Pair(whole(value), rows))
        return value


def _rows(value: Value, length: int, size: int, offset: int) -> View:
    return View(value, (length, size), (size, 1), offset)


def _place(outer: View) -> tuple[int, int, int]:
    """A key that is equal for arrays with the same elements."""
    return id(outer.value), outer.offset, outer.size


def simplify_scans(graph: Graph, optimize: Callable[[Graph], Graph]) -> Graph:
    """The graph with its loops simplified; `optimize` simplifies their bodies."""

    def optimize_body(scan: Scan, filled: dict[int, Number]) -> None:
        scan.nodes = optimize(scan.body()).nodes

    if not any(node.op == "scan" for node in graph.nodes):
        return graph
    graph = drop_unused_outputs(graph)
    graph = _each(graph, bring_in_fills)
    graph = _each(graph, optimize_body)
    graph = read_forward_values(graph)
    graph = drop_unused_outputs(graph)
    for move in (move_out_fixed, move_out_inputs, move_out_outputs, move_out_sums):
        graph = _each(graph, move)
    graph = share_common_subexpressions(graph)  # among the nodes that have left the loops
    return _each(drop_unused_outputs(graph), optimize_body)


def _each(graph: Graph, change: Callable[[Scan, dict[int, Number]], None]) -> Graph:
    """The graph with every loop changed by `change(scan, graph.filled())`."""
    filled, nodes = graph.filled(), []
    for node in graph.nodes:
        if node.op != "scan":
            nodes.append(node)
            continue
        scan = Scan.of(node)
        change(scan, filled)
        nodes += scan.to_nodes()
    return graph.with_nodes(nodes)


def drop_unused_outputs(graph: Graph) -> Graph:
    """The graph without outputs of loops that nothing reads, and without carries only for them."""
    needed = {id(view.value) for view in graph.outputs()}
    nodes: list[Node] = []
    for old in reversed(graph.nodes):
        node = old
        if old.op == "scan" and any(id(view.value) in needed for view in old.outputs):
            scan = Scan.of(old)
            _drop_unused(scan, needed)
            (node,) = scan.to_nodes()
        needed.update(id(value) for value in node.needed())
        nodes.append(node)
    return graph.with_nodes(reversed(nodes))


def _drop_unused(scan: Scan, needed: set[int]) -> None:
    carries = scan.carries
    scan.outs = [pair for pair in scan.outs if id(pair.outer.value) in needed]
    scan.carries = [c for c in carries if id(c.last.value) in needed]
    while True:
        live, scan.nodes = scan.nodes, remove_dead_code(scan.body()).nodes
        used = {id(v) for node in scan.nodes for v in node.needed()}
        also = [c for c in carries if c not in scan.carries and id(c.before.value) in used]
        if not also:
            break
        scan.nodes, scan.carries = live, scan.carries + also
    scan.slices = [pair for pair in scan.slices if id(pair.inner.value) in used]
    scan.fixed = [pair for pair in scan.fixed if id(pair.inner.value) in used]


def bring_in_fills(scan: Scan, filled: dict[int, Number]) -> None:
    """Move inputs that are filled with one number into the body, where passes can fold them."""
    fills = []
    for pairs in (scan.slices, scan.fixed):
        for pair in [p for p in pairs if id(p.outer.value) in filled]:
            pairs.remove(pair)
            fills.append(Node("fill", (pair.inner, filled[id(pair.outer.value)]), scan.run))
    scan.nodes = [*fills, *scan.nodes]


# ---- forward and backward ---------------------------------------------------------------------


def read_forward_values(graph: Graph) -> Graph:
    """The graph with loops that read what an earlier loop has computed from the same inputs.

    The gradient of a scan recomputes the function at every step. Nodes that the forward loop has
    computed too are removed, and the values that the other nodes read become outputs of the forward
    loop.
    """
    scans: list[Scan] = []
    parts: list[Node | Scan] = []
    for node in graph.nodes:
        if node.op != "scan":
            parts.append(node)
            continue
        scan = Scan.of(node)
        for first in scans:
            if first.loop.length == scan.loop.length and first.run == scan.run:
                _share(first, scan)
        scans.append(scan)
        parts.append(scan)
    nodes: list[Node] = []
    for part in parts:
        nodes += part.to_nodes() if isinstance(part, Scan) else [part]
    return graph.with_nodes(nodes)


def _share(first: Scan, second: Scan) -> None:
    copies = {id(n.outputs[0].value): x for n in first.nodes if (x := copied_value(n)) is not None}
    known = {_place(p.outer): p.inner.value for p in first.slices}
    known |= {_place(p.outer): copies.get(id(p.inner.value), p.inner.value) for p in first.outs}
    fixed = {_place(p.outer): p.inner.value for p in first.fixed}
    same: dict[int, Value] = {}  # a value of `first` by the id of the equal one of `second`
    for pairs, values in ((second.slices, known), (second.fixed, fixed)):
        for pair in pairs:
            if _place(pair.outer) in values:
                same[id(pair.inner.value)] = values[_place(pair.outer)]

    def name(value: Value) -> int:
        equal = same.get(id(value), value)
        return id(copies.get(id(equal), equal))

    changing = first.overwritten() | second.overwritten() | second.results()

    def stays(node: Node) -> bool:
        return any(v.value.base is not None or id(v.value) in changing for v in node.outputs)

    computed = {expression(node, name): node for node in first.nodes if not stays(node)}
    kept = []
    for node in second.nodes:
        equal = None if stays(node) else computed.get(expression(node, name))
        if equal is None:
            kept.append(node)
            continue
        for mine, theirs in zip(node.outputs, equal.outputs, strict=True):
            same[id(mine.value)] = theirs.value
    if len(kept) < len(second.nodes):
        kept = _with_cheap(second, kept)
        second.nodes = list(_reading_stored(first, second, kept, same, copies))


def _with_cheap(scan: Scan, kept: list[Node]) -> list[Node]:
    """The kept nodes, and cheap nodes that compute what they read from what they need anyway."""
    needed = {id(view.value) for view in scan.body().arguments}
    needed |= {id(value) for node in kept for value in node.needed()}
    chosen = set(map(id, kept))
    for node in reversed(scan.nodes):
        if (
            node.is_elementwise
            and cost_of(node) <= CHEAP
            and id(node.outputs[0].value) in needed
            and all(id(value) in needed for value in node.needed())
        ):
            chosen.add(id(node))
    return [node for node in scan.nodes if id(node) in chosen]


def _reading_stored(
    first: Scan, second: Scan, kept: list[Node], same: dict[int, Value], copies: dict[int, Value]
) -> Iterator[Node]:
    """The kept nodes of `second`, with outputs of `first` in place of the removed nodes' values."""
    mine = {id(view.value) for view in second.body().arguments}
    mine |= {id(view.value) for node in kept for view in node.outputs}
    filled, fixed = first.body().filled(), {id(p.inner.value): p for p in first.fixed}
    instead: dict[int, Value] = {}
    for node in kept:
        for value in node.needed():
            key = id(value)
            if key in mine or key in instead:
                continue
            equal = same[key]
            equal = copies.get(id(equal), equal)
            if id(equal) in filled:
                instead[key] = Value(value.size, value.dtype)
                yield Node("fill", (whole(instead[key]), filled[id(equal)]), second.run)
            elif id(equal) in fixed:
                instead[key] = Value(value.size, value.dtype)
                second.fixed.append(Pair(whole(instead[key]), fixed[id(equal)].outer))
            else:
                instead[key] = second.read(_stored(first, equal))
        yield replace_values(node, instead)


def _stored(first: Scan, value: Value) -> View:
    rows = first.stacked(value)
    if rows is None:  # a carry, or a value that is overwritten later
        own = Value(value.size, value.dtype)
        copy = Node("copy", (whole(value), whole(own)), first.run)
        makers = [i for i, n in enumerate(first.nodes) if any(v.value is value for v in n.outputs)]
        place = makers[0] + 1 if makers else 0
        first.nodes = [*first.nodes[:place], copy, *first.nodes[place:]]
        rows = first.stacked(own)
    assert rows is not None
    return rows


# ---- out of the loop --------------------------------------------------------------------------


def move_out_fixed(scan: Scan, filled: dict[int, Number]) -> None:
    """Move nodes whose inputs are the same in all steps before the loop."""
    outside = {id(p.inner.value): p.outer.value for p in scan.fixed}
    stay = scan.results() | scan.overwritten()
    instead: dict[int, Value] = {}
    nodes = []
    for node in scan.nodes:
        needed = list(node.needed())
        made = [v.value for v in node.outputs]
        if (
            not needed
            or any(id(v) not in outside for v in needed)
            or any(id(v) in stay or v.base is not None for v in made)
        ):
            nodes.append(replace_values(node, instead))
            continue
        scan.earlier.append(replace_values(node, outside))
        for value in made:
            outside[id(value)], instead[id(value)] = value, Value(value.size, value.dtype)
            scan.fixed.append(Pair(whole(instead[id(value)]), whole(value)))
    scan.nodes = nodes


def move_out_inputs(scan: Scan, filled: dict[int, Number]) -> None:
    """Make products of slices with a fixed matrix one product of all steps, before the loop."""
    nodes: list[Node] = []
    instead: dict[int, Value] = {}
    for node in scan.nodes:
        rows = _all_rows(scan, node, {id(p.inner.value) for p in scan.slices})
        # A value that leaves the loop, or is overwritten in it, keeps its place.
        if rows is None or id(node.outputs[0].value) in scan.results() | scan.overwritten():
            nodes.append(replace_values(node, instead))
            continue
        out = node.outputs[0]
        product = whole(Value(scan.loop.length * out.size, out.dtype))
        scan.earlier.append(_one_product(scan, node, rows, product.value))
        all_steps = _rows(product.value, scan.loop.length, out.size, 0)
        instead[id(out.value)] = scan.read(all_steps)
    scan.nodes = nodes


def move_out_outputs(scan: Scan, filled: dict[int, Number]) -> None:
    """Make products with a fixed matrix that no step reads one product of all steps, after it."""
    for pair in list(scan.outs):
        maker = _only_maker(scan, pair.inner)
        if maker is None or maker.op != "matmul":
            continue
        made = {id(v.value) for node in scan.nodes for v in node.outputs}
        rows = _all_rows(scan, maker, made)
        if rows is None:
            continue
        scan.outs.remove(pair)
        scan.nodes = [node for node in scan.nodes if node is not maker]
        scan.later.append(_one_product(scan, maker, rows, pair.outer.value))


def _only_maker(scan: Scan, result: View) -> Node | None:
    """The node that computes a result; None where the value is also read or returned again."""
    value = result.value
    uses = [view for view in scan.body().results if view.value is value]
    if len(uses) > 1 or scan.readers(value):
        return None
    return next(n for n in scan.nodes if any(v.value is value for v in n.outputs))


def _all_rows(scan: Scan, node: Node, left: Iterable[int]) -> View | None:
    """The left operand of a product, with the rows of all steps in one matrix.

    None unless the operand is a part of one of the values in `left`, its rows of all steps are
    evenly spaced, and the right operand is the same in all steps.
    """
    if node.op != "matmul" or node.operands[3] is not None:
        return None
    a, b, out, _ = node.operands
    fixed = {id(p.inner.value) for p in scan.fixed}
    if id(a.value) not in left or id(b.value) not in fixed or not out.is_compact:
        return None
    if len(a.shape) != 2 or not _continues(a, 0) or out.value.base is not None:
        return None
    return _over_time(scan, a, 0)


def _continues(x: View, axis: int) -> bool:
    """Whether the matrix of the next step continues the one of this step along an axis."""
    n = x.shape[axis]
    return n == 1 or x.strides[axis] * n == x.value.size


def _over_time(scan: Scan, x: View, axis: int) -> View | None:
    """The matrices of all steps, joined along an axis; see `_continues`."""
    stack = scan.stacked(x.value)
    if stack is None:
        return None
    shape, strides = list(x.shape), list(x.strides)
    if shape[axis] == 1:
        strides[axis] = x.value.size
    shape[axis] *= scan.loop.length
    return View(stack.value, tuple(shape), tuple(strides), stack.offset + x.offset)


def _one_product(scan: Scan, node: Node, rows: View, result: Value) -> Node:
    _, b, out, _ = node.operands
    pair = next(p for p in scan.fixed if p.inner.value is b.value)
    fixed = View(pair.outer.value, b.shape, b.strides, pair.outer.offset + b.offset)
    product = whole(result, (rows.shape[0], out.shape[1]))
    return Node("matmul", (rows, fixed, product, None), node.run)


def move_out_sums(scan: Scan, filled: dict[int, Number]) -> None:
    """Make a carry that only accumulates products or sums one product or sum of all steps."""
    for carry in list(scan.carries):
        term = _added_term(scan, carry)
        if term is None:
            continue
        add, maker = term
        total = _total(scan, maker)
        if total is None:
            continue
        scan.carries.remove(carry)
        scan.nodes = [n for n in scan.nodes if n is not add and n is not maker]
        last = whole(carry.last.value)
        if filled.get(id(carry.first.value)) == 0:
            scan.later.append(total(last.value))
            continue
        sums = whole(Value(last.size, last.dtype))
        first = View(carry.first.value, last.shape, last.strides, carry.first.offset)
        scan.later.append(total(sums.value))
        scan.later.append(Node("binary", ("add", first, sums, last), scan.run))


def _added_term(scan: Scan, carry: Carry) -> tuple[Node, Node] | None:
    """(the addition, the node of its other operand) of a carry that only accumulates, or None."""
    readers, add = scan.readers(carry.before.value), _only_maker(scan, carry.after)
    if add is None or readers != [add] or add.op != "binary" or add.attributes[0] != "add":
        return None
    sides = [x for x in add.inputs if x.value is not carry.before.value]
    if len(sides) != 1 or not all(x.is_compact for x in (*add.inputs, *add.outputs)):
        return None
    term = sides[0].value
    makers = [n for n in scan.nodes if any(v.value is term for v in n.outputs)]
    if not makers or scan.readers(term) != [add] or id(term) in scan.results():
        return None
    return add, makers[0]


def _total(scan: Scan, maker: Node) -> Callable[[Value], Node] | None:
    """A function that makes the node for the sum of a node's results over all steps, or None."""
    out = maker.outputs[0]
    if not out.is_compact or out.value.base is not None:
        return None
    if maker.op == "matmul" and maker.operands[3] is None and len(out.shape) == 2:
        a, b = maker.inputs
        if not (_continues(a, 1) and _continues(b, 0)):
            return None
        left, right = _over_time(scan, a, 1), _over_time(scan, b, 0)
        if left is None or right is None:
            return None
        return lambda value: Node("matmul", (left, right, whole(value, out.shape), None), maker.run)
    if maker.op == "reduce" and maker.attributes[0] == "sum":
        (x,), axes = maker.inputs, (0, *(axis + 1 for axis in maker.attributes[1]))
        stack = scan.stacked(x.value)
        if stack is None:
            return None
        shape, strides = (scan.loop.length, *x.shape), (x.value.size, *x.strides)
        steps = View(stack.value, shape, strides, stack.offset + x.offset)
        return lambda value: Node(
            "reduce", ("sum", steps, axes, whole(value, (1, *out.shape))), maker.run
        )
    return None
