"""The matrix products that get code of their own."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ...backend_ndarray import is_stored
from .graph import Node, View


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
