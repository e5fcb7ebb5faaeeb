"""Matrix products that get code of their own: which they are, and what can follow in the loop of
a product or of a convolution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from ..backend_ndarray import is_stored
from .convolutions import convolution_shape
from .graph import Graph, Node, Value, View, move_values, whole
from .loops import make_walk
from .nest import COLUMN_SUM, FULL, Nest, is_linear

# Multiply-adds of a product that is large enough by itself: it keeps two threads busy, and the loop
# that follows it runs on its blocks, which those of a batch have not.
LARGE_PRODUCT = 1 << 18


class ProductShape(NamedTuple):
    """`batch` products C (m, n) = A (m, k) B (k, n) and the strides of the operands.

    `a_batch` and `b_batch` lie between the operands of one product and the next, 0 where they
    share one.
    """

    m: int
    n: int
    k: int
    a_row: int
    a_col: int
    b_row: int
    b_col: int
    batch: int = 1
    a_batch: int = 0
    b_batch: int = 0


def product_shape(node: Node) -> ProductShape | None:
    """The shape of products of matrices of floats that are contiguous along an axis, evenly
    spaced where there are several; None for others."""
    if node.op != "matmul":
        return None
    a, b, out, _ = node.operands
    if out.dtype.kind != "f" or is_stored(out.dtype) or not out.is_compact:
        return None
    (m, k), n, batch = a.shape[-2:], b.shape[-1], prod(out.shape[:-2])
    of_a, of_b, step_a, step_b = _unit_stride(a), _unit_stride(b), _even_step(a), _even_step(b)
    if min(m, n) < 2 or min(k, batch) < 1:
        return None
    if of_a is None or of_b is None or step_a is None or step_b is None:
        return None
    return ProductShape(m, n, k, *of_a, *of_b, batch, step_a, step_b)


def _even_step(x: View) -> int | None:
    """How far apart the matrices of a batch lie, or None where they are not evenly spaced."""
    step, count = 0, 1
    for n, stride in zip(reversed(x.shape[:-2]), reversed(x.strides[:-2]), strict=True):
        if n == 1:
            continue
        if count > 1 and stride != step * count:
            return None
        step, count = (stride, n) if count == 1 else (step, count * n)
    return step if step >= 0 else None


def _unit_stride(x: View) -> tuple[int, int] | None:
    """The strides of a matrix, one of them 1; an axis of length 1 has what is convenient."""
    (rows, cols), (row, col) = x.shape[-2:], x.strides[-2:]
    if cols == 1:
        row, col = (row, 1) if rows > 1 else (1, 1)
    elif rows == 1:
        row = cols if col == 1 else 1
    return (row, col) if (col == 1 or row == 1) and row > 0 and col > 0 else None


def split_biases(graph: Graph) -> Graph:
    """With the bias of a product as an addition of its own, for loops to take in."""
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
    """With one product in the place of several small ones of the same two arrays' evenly spaced
    parts.

    A Python loop over steps or heads makes such products, as those of x[t] with one weight. They
    become a batch, or one product of all rows where the parts lie one after the other.
    """
    places: dict[int, tuple[Value, int]] = {}  # a batch and an offset for each old result
    batches: dict[int, Node | None] = {}  # what is in the place of a node
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
    """The positions of products that can be one, in the order of their operands' memory."""
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
    """Runs of at least two neighbours whose offsets grow in even steps."""
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
    """One product for those of evenly spaced parts."""
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


def result_matrix(node: Node) -> tuple[int, int] | None:
    """(rows, columns) of the matrix whose blocks a node gives to an epilogue: that of a product or
    of a convolution, pixels x filters. None where it gives none."""
    if shape := product_shape(node):
        return (shape.m, shape.n) if shape.batch == 1 else None
    if node.op == "conv2d_weight_grad" or convolution_shape(node) is None:
        return None
    out = node.outputs[0]
    return out.size // out.shape[3], out.shape[3]


def fits_epilogue(nest: Nest, node: Node) -> bool:
    """Whether a nest can run block by block on the result of a product or convolution while that
    is in cache."""
    matrix = result_matrix(node)
    if matrix is None or nest.size != prod(matrix) or nest.cols not in (None, matrix[1]):
        return False
    value = node.outputs[0].value
    if any(kind not in (FULL, COLUMN_SUM) for kind in nest.kinds):
        return False
    if not nest.can_have_columns(matrix[1]):
        return False
    walk = make_walk(nest, matrix[1])
    if len(walk.rows) != 1 or len(walk.cols) != 1:
        return False
    return all(
        x.value is not value or (x.offset == 0 and is_linear(domain.shape, access))
        for member, domain in zip(nest.nodes, nest.domains, strict=True)
        for x, access in zip(member.inputs, domain.accesses, strict=True)
    )
