"""Matrix products. `NDArray` lists these functions as its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dtypes import FLOAT32, is_stored, promote
from .layout import broadcast_shapes

if TYPE_CHECKING:
    from .ndarray import NDArray


def matmul(x: NDArray, other: object, bias: NDArray | None = None) -> NDArray:
    """NumPy's `x @ other`, plus `bias` of shape (n,) added to every row.

    Batch axes broadcast; a 1-d operand is a row or a column. Sums of float16 and bfloat16 are
    float32, rounded at the end.
    """
    a, b = x, x._coerce(other)
    if a._dtype is not b._dtype:
        common = promote(a._dtype, b._dtype)
        a, b = a.astype(common), b.astype(common)
    if is_stored(a._dtype) and not a._device.takes_stored("matmul", a._dtype):
        bias = None if bias is None else bias.astype(FLOAT32)
        return matmul(a.astype(FLOAT32), b.astype(FLOAT32), bias).astype(a._dtype)
    if not a._shape or not b._shape:
        raise ValueError(f"[matmul] needs at least 1-d operands, got {a._shape} @ {b._shape}")
    drop_row, drop_column = len(a._shape) == 1, len(b._shape) == 1
    a = a.unsqueeze(0) if drop_row else a
    b = b.unsqueeze(1) if drop_column else b
    if a._shape[-1] != b._shape[-2]:
        raise ValueError(
            f"[matmul] {x._shape} @ {b._shape[:-1] if drop_column else b._shape}: the inner "
            f"dimensions {a._shape[-1]} and {b._shape[-2]} differ"
        )
    if len(a._shape) > 2 or len(b._shape) > 2:
        batch = broadcast_shapes(a._shape[:-2], b._shape[:-2], "matmul")
        a, b = a._broadcast(batch + a._shape[-2:]), b._broadcast(batch + b._shape[-2:])
    out = a._new(a._shape[:-1] + b._shape[-1:], a._dtype)
    a._device.matmul(a, b, out, bias)
    out = out.squeeze(-2) if drop_row else out
    return out.squeeze(-1) if drop_column else out


def matmul_operator(x: NDArray, other: object) -> NDArray:
    """NumPy's matrix product: batch axes broadcast, a 1-d operand is a row or a column."""
    return matmul(x, other)


def rmatmul(x: NDArray, other: object) -> NDArray:
    return matmul(x._coerce(other), x)
