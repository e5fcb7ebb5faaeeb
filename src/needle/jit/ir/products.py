"""The matrix products that get code specialized for their shape."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ...backend_ndarray import is_stored
from ...backend_ndarray.layout import joined_axes
from .graph import Node, View


class ProductShape(NamedTuple):
    """`batch` products C (m, n) = A (m, k) B (k, n) and the strides of their operands.

    `a_batch` and `b_batch` are the strides from one product's operand to the next one's; 0 where
    the products share the operand.
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
    """The shape of a product, or of a batch of products; None where it gets no code of its own.

    The matrices must be of floats and contiguous along one axis, and those of a batch evenly
    spaced.
    """
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
    """The stride from one matrix of a batch to the next; None where they are not evenly spaced."""
    batch = zip(x.shape[:-2], x.strides[:-2], strict=True)
    axes = joined_axes((n, (stride,), None) for n, stride in batch)
    if len(axes) > 1:
        return None
    step = axes[0][1][0] if axes else 0
    return step if step >= 0 else None


def _unit_stride(x: View) -> tuple[int, int] | None:
    """The strides of a matrix that is contiguous along an axis; None for other matrices.

    An axis of length 1 gets a stride that makes it so.
    """
    (rows, cols), (row, col) = x.shape[-2:], x.strides[-2:]
    if cols == 1:
        row, col = (row, 1) if rows > 1 else (1, 1)
    elif rows == 1:
        row = cols if col == 1 else 1
    return (row, col) if (col == 1 or row == 1) and row > 0 and col > 0 else None
