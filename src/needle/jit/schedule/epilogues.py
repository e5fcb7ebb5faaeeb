"""Epilogues of matrix products on a GPU: a bias and a ReLU, applied before the result is stored.

They cost nothing there and save a kernel. cuBLASLt has no such epilogues for float64.
"""

from __future__ import annotations

from collections import Counter

from ..ir.graph import Graph, Node, View, base_of, whole


def fuse_epilogues(graph: Graph) -> Graph:
    """The graph with biases and ReLUs fused into products whose results have no other reader."""
    reads = Counter(id(value) for node in graph.nodes for value in node.needed())
    reads.update(id(view.value) for view in graph.outputs())
    nodes: list[Node | None] = []
    products: dict[int, int] = {}  # the positions of products in `nodes`, by the id of the result
    for node in graph.nodes:
        for x in node.inputs:
            position = products.get(id(x.value))
            if position is None or reads[id(x.value)] > 1:
                continue
            product = nodes[position]
            assert product is not None
            fused = _with_bias(product, node, x) or _with_relu(product, node, x)
            if fused is not None:
                nodes[position], node = None, fused
                break
        _forget_overwritten(products, nodes, node)
        if node.op == "matmul":
            products[id(node.outputs[0].value)] = len(nodes)
        nodes.append(node)
    return graph.with_nodes(node for node in nodes if node is not None)


def _forget_overwritten(products: dict[int, int], nodes: list[Node | None], node: Node) -> None:
    """Remove the products that cannot move after `node`, because it overwrites their operands."""
    written = {id(base_of(view.value)) for view in node.outputs if view.value.base is not None}
    for result, position in tuple(products.items()) if written else ():
        product = nodes[position]
        if product is None or any(id(base_of(x.value)) in written for x in product.inputs):
            del products[result]


def _with_bias(product: Node, node: Node, x: View) -> Node | None:
    """The product fused with `node` if `node` adds a bias to its result `x`, else None."""
    a, b, out, bias = product.operands
    if bias is not None or (node.op, *node.attributes) != ("binary", "add"):
        return None
    if not _has_points_of(node, product, x):
        return None
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    rows = zip(other.shape[:-1], other.strides[:-1], strict=True)
    if other.dtype is not out.dtype or any(n != 1 and stride for n, stride in rows):
        return None
    vector = View(other.value, other.shape[-1:], other.strides[-1:], other.offset)
    result = whole(node.outputs[0].value, out.shape)
    return Node("matmul", (a, b, result, vector), node.run)


def _with_relu(product: Node, node: Node, x: View) -> Node | None:
    """The product fused with `node` if `node` is the ReLU of its result `x`, else None."""
    if (node.op, *node.attributes) != ("unary", "relu") or not _has_points_of(node, product, x):
        return None
    a, b, out, bias = product.operands
    return Node("matmul_relu", (a, b, whole(node.outputs[0].value, out.shape), bias), node.run)


def _has_points_of(node: Node, product: Node, x: View) -> bool:
    """Whether an element-wise node can be an epilogue of a product.

    `x` is the node's view of the product's result. The node must read the result in its memory
    order and write its own result in the same order.
    """
    out, result = product.outputs[0], node.outputs[0]
    return (
        len(out.shape) == 2
        and node.run == product.run
        and out.dtype is result.dtype
        and out.dtype.name != "float64"
        and all(view.is_compact and view.value.base is None for view in (out, x, result))
        and x.shape[-1:] == out.shape[-1:]
    )
