"""Which nests can be the epilogue of a matrix product or of a convolution."""

from __future__ import annotations

from math import prod

from ..ir.domain import COLUMN_SUM, FULL, is_linear
from ..ir.graph import Node
from ..ir.products import product_shape
from .convolutions import convolution_shape
from .loop_nest import Nest
from .walk import make_walk


def result_matrix(node: Node) -> tuple[int, int] | None:
    """(rows, columns) of the matrix on whose blocks an epilogue of the node runs.

    The matrix of a convolution has pixels as rows and filters as columns. None where the node takes
    no epilogue.
    """
    if shape := product_shape(node):
        return (shape.m, shape.n) if shape.batch == 1 else None
    if node.op == "conv2d_weight_grad" or convolution_shape(node) is None:
        return None
    out = node.outputs[0]
    return out.size // out.shape[3], out.shape[3]


def fits_epilogue(nest: Nest, node: Node) -> bool:
    """Whether a nest can run on each block of the result of a node while the block is in cache."""
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
