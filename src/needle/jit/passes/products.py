"""Passes on matrix products: biases become additions, small products become batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..ir.graph import Graph, Node, Value, View, move_values, whole
from ..ir.products import product_shape

# Products of at least this many multiply-adds stay alone. Each keeps two threads busy, and a nest
# can be its epilogue, which the products of a batch do not have.
LARGE_PRODUCT = 1 << 18


def split_biases(graph: Graph) -> Graph:
    """The graph with biases of products as additions, which can be fused into nests."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op != "matmul" or node.operands[3] is None or product_shape(node) is None:
            nodes.append(node)
            continue
        a, b, out, bias = node.operands
        product = View(Value(out.value.size, out.dtype), out.shape, out.strides)
        spread = (*(0 for _ in out.shape[1:]), bias.strides[0])
        rows = View(bias.value, out.shape, spread, bias.offset)
        nodes.append(Node("matmul", (a, b, product, None), node.run))
        nodes.append(Node("binary", ("add", product, rows, out), node.run))
    return graph.with_nodes(nodes)


def batch_products(graph: Graph) -> Graph:
    """The graph with one product in place of several small products of parts of two arrays.

    A Python loop over steps or heads makes such products, for example of each x[t] with one weight.
    If the parts are evenly spaced, the products become a batch. If they are adjacent, they become
    the rows of one product.
    """
    places: dict[int, tuple[Value, int]] = {}  # a batch and an offset for each old result
    batches: dict[int, Node | None] = {}  # what replaces the node at a position
    for members in _batches(graph):
        nodes = [graph.nodes[i] for i in members]
        batch = _batch(nodes)
        batches |= dict.fromkeys(members) | {min(members): batch}
        for number, node in enumerate(nodes):
            out = node.outputs[0]
            places[id(out.value)] = batch.outputs[0].value, number * out.size
    kept = (batches.get(i, node) for i, node in enumerate(graph.nodes))
    return graph.with_nodes(move_values(node, places) for node in kept if node is not None)


def _batches(graph: Graph) -> Iterator[list[int]]:
    """The positions of products that can be batched, in the order of their operands' memory."""
    kept = {id(view.value) for view in graph.outputs()}
    kept |= {id(view.value.base) for node in graph.nodes for view in node.outputs}
    alike: dict[object, list[tuple[int, int, int]]] = {}  # the offsets of A and B, the position
    for position, node in enumerate(graph.nodes):
        shape = product_shape(node)
        if shape is None or shape.m * shape.n * shape.k >= LARGE_PRODUCT:
            continue
        a, b, out, bias = node.operands
        alone = id(out.value) in kept or out.value.base is not None or not out.covers
        if bias is None and len(out.shape) == 2 and not alone:
            key = id(a.value), a.shape, a.strides, id(b.value), b.shape, b.strides, node.run
            alike.setdefault(key, []).append((a.offset, b.offset, position))
    for products in alike.values():
        yield from _evenly_spaced(sorted(products))


def _evenly_spaced(products: list[tuple[int, int, int]]) -> Iterator[list[int]]:
    """The positions of runs of at least two products whose offsets grow in even steps."""
    run: list[tuple[int, int, int]] = []
    for product in products:
        steps = {(y[0] - x[0], y[1] - x[1]) for x, y in itertools.pairwise([*run, product])}
        if len(steps) > 1 or any(step < 0 for pair in steps for step in pair):
            if len(run) > 1:
                yield [position for _, _, position in run]
            run = [] if len(run) > 1 else run[1:]
        run.append(product)
    if len(run) > 1:
        yield [position for _, _, position in run]


def _batch(nodes: list[Node]) -> Node:
    """The product that replaces the products of evenly spaced parts."""
    (a, b, out, _), (next_a, next_b, _, _) = nodes[0].operands, nodes[1].operands
    count, (m, k), n = len(nodes), a.shape, b.shape[1]
    step_a, step_b = next_a.offset - a.offset, next_b.offset - b.offset
    value = Value(count * out.size, out.dtype)
    if step_b == 0 and step_a == m * a.strides[0]:
        rows = View(a.value, (count * m, k), a.strides, a.offset)
        return Node("matmul", (rows, b, whole(value, (count * m, n)), None), nodes[0].run)
    left = View(a.value, (count, m, k), (step_a, *a.strides), a.offset)
    right = View(b.value, (count, k, n), (step_b, *b.strides), b.offset)
    return Node("matmul", (left, right, whole(value, (count, m, n)), None), nodes[0].run)
