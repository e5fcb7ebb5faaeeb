"""Simplifying passes: functions from a graph to a cheaper graph that computes the same results."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...backend_ndarray import cpu_numpy
from ..ir.domain import elementwise_domain
from ..ir.graph import Graph, Node, Number, Value, View, replace_values


def remove_dead_code(graph: Graph) -> Graph:
    """The graph without the nodes whose values nothing needs."""
    needed = {id(view.value) for view in graph.outputs()}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(id(view.value) in needed for view in node.outputs):
            kept.append(node)
            needed.update(id(value) for value in node.needed())
            needed.update(id(view.value) for view in node.outputs)
    return graph.with_nodes(reversed(kept))


def share_common_subexpressions(graph: Graph) -> Graph:
    """The graph with one node in place of several that apply the same operation to equal inputs."""
    return _Sharing(graph).run()


class _Sharing:
    """Common-subexpression elimination: replaces a value by an equal value computed earlier."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.instead: dict[int, Value] = {}
        self.known: dict[object, Node] = {}
        self.outputs = {id(view.value) for view in graph.outputs()}
        # A value that a later node overwrites in part must not be shared.
        self.bases = {
            id(view.value.base)
            for node in graph.nodes
            for view in node.outputs
            if view.value.base is not None
        }

    def run(self) -> Graph:
        """The graph with shared nodes."""
        self._share_literals()
        nodes = []
        for old in self.graph.nodes:
            node = replace_values(old, self.instead)
            key = self._key(node)
            first = self.known.get(key) if key is not None else None
            if first is None:
                if key is not None:
                    self.known[key] = node
                nodes.append(node)
                continue
            for mine, shared in zip(node.outputs, first.outputs, strict=True):
                self.instead[id(mine.value)] = shared.value
        return self.graph.with_nodes(nodes)

    def _share_literals(self) -> None:
        """Share equal constants that the function made, such as a mask in forward and backward."""
        first: dict[object, Value] = {}
        for value, array in self.graph.constants:
            if id(value) in self.graph.literals:
                shared = first.setdefault((value.dtype, array.numpy().tobytes()), value)
                if shared is not value:
                    self.instead[id(value)] = shared

    def _key(self, node: Node) -> object | None:
        """The common-subexpression key of a node; None for nodes that must not be shared."""
        for view in node.outputs:
            if view.value.base is not None or id(view.value) in self.outputs | self.bases:
                return None
        return expression(node)


def expression(node: Node, name: Callable[[Value], int] = id) -> object:
    """The common-subexpression key of a node: equal for nodes that compute the same result.

    `name` identifies values. The key of an element-wise node has the addresses of its elements
    instead of its shapes, because the conversion of an array equals that of its transpose.
    """
    domain = elementwise_domain(node)
    if domain is not None:
        inputs = tuple((name(x.value), x.offset) for x in node.inputs)
        numbers = tuple((type(x), repr(x)) for x in node.attributes)
        return node.op, inputs, numbers, domain, node.outputs[0].dtype, node.run
    operands = tuple(
        (name(x.value), x.shape, x.strides, x.offset)
        if isinstance(x, View) and not any(x is out for out in node.outputs)
        else (x.shape, x.strides, x.offset, x.value.size, x.dtype)
        if isinstance(x, View)
        else (type(x), repr(x))  # tells 0.0 from -0.0
        for x in node.operands
    )
    return node.op, operands, node.run


# ---- constants and algebra --------------------------------------------------------------------

# Operations with their neutral number: x op number == x for any x.
NEUTRAL = {("mul", 1), ("div", 1), ("sub", 0), ("pow", 1)}


def fold_constants(graph: Graph) -> Graph:
    """The graph with operations on filled arrays folded.

    A result that is computed from filled arrays alone is filled directly. A filled operand becomes
    a number.
    """
    known = graph.filled()
    nodes = []
    for old in graph.nodes:
        node = _with_numbers(old, known)
        nodes.append(node)
        (out, *others) = node.outputs
        if node.op == "fill" and not others and out.covers and out.value.base is None:
            known[id(out.value)] = node.attributes[0]
    return graph.with_nodes(nodes)


def _with_numbers(node: Node, known: dict[int, Number]) -> Node:
    if node.op not in ("copy", "unary", "binary", "binary_scalar"):
        return node
    numbers = [known.get(id(x.value)) for x in node.inputs]
    (out,) = node.outputs
    if not out.covers or out.value.base is not None:
        return node
    given = [number for number in numbers if number is not None]
    if len(given) == len(numbers):
        return Node("fill", (out, _computed(node, given)), node.run)
    if node.op != "binary" or numbers == [None, None]:
        return node
    reverse = numbers[1] is None
    x, number = (node.inputs[1], numbers[0]) if reverse else (node.inputs[0], numbers[1])
    return Node("binary_scalar", (node.attributes[0], x, number, out, reverse), node.run)


def _computed(node: Node, numbers: list[Number]) -> Number:
    """The number that fills the node's result, computed by the reference device."""
    device = cpu_numpy()
    scalars = [device.full((), n, x.dtype) for n, x in zip(numbers, node.inputs, strict=True)]
    out = device.empty((), node.outputs[0].dtype)
    arrays = iter(scalars)
    operands = [
        x if role == "a" else out if role == "o" else next(arrays)
        for role, x in zip(node.roles, node.operands, strict=True)
    ]
    getattr(device, node.op)(*operands)
    number: Number = out.item()
    return number


def simplify_algebra(graph: Graph) -> Graph:
    """The graph without redundant copies and without operations with a neutral number."""
    instead: dict[int, Value] = {}
    bases = {id(v.base) for n in graph.nodes for v in (x.value for x in n.outputs) if v.base}
    kept = bases | {id(view.value) for view in graph.outputs()}
    nodes = []
    for old in graph.nodes:
        node = replace_values(old, instead)
        same, mine = _unchanged(node), id(node.outputs[0].value)
        # A value that is overwritten later cannot replace a value that is read after that.
        if same is not None and mine not in kept and id(same) not in bases:
            instead[mine] = same
        else:
            nodes.append(node)
    return graph.with_nodes(nodes)


def _unchanged(node: Node) -> Value | None:
    """The value that the node's result equals, element by element in the same memory order."""
    if node.op == "binary_scalar":
        name, x, number, out, reverse = node.operands
        if reverse or (name, number) not in NEUTRAL or math.copysign(1, number) < 0:
            return None
        return x.value if _same_layout(x, out) else None
    return copied_value(node)


def copied_value(node: Node) -> Value | None:
    """The value that the node copies as a whole, in the same memory order."""
    if node.op != "copy":
        return None
    x, out = node.operands
    return x.value if _same_layout(x, out) else None


def _same_layout(x: View, out: View) -> bool:
    layouts = (x.strides, x.offset, x.value.size), (out.strides, out.offset, out.value.size)
    return (
        x.dtype is out.dtype and layouts[0] == layouts[1] and out.covers and out.value.base is None
    )
