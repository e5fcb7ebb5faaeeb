"""Attention and its gradient on `cuda()`; for the operands see `primitives`.

The kernels are in attention.cuh, specialized for the element type and the sizes of tiles. 16-bit
types run on tensor cores. Heads that are too wide for that are converted to float32.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ..dtypes import FLOAT32, is_stored
from .arrays import Array, address, scratch
from .context import Context
from .kernels import Operand, copy, launch, launcher, strided, type_of

# The rows of a tile, and the most columns of results whose sums fit into registers.
FMA_TILES = {"float": (64, 128), "double": (32, 64)}
MMA_ROWS, MMA_DEEPEST = 128, 128
MMA_WIDEST_PAIR = 64  # for two results at a time, or for dq with a mask
NARROWEST = 16


@launcher
def attention(
    context: Context, q: Array, k: Array, v: Array, mask: Array | None, out: Array, lse: Array,
    scale: float, causal: bool,
) -> None:  # fmt: skip
    """softmax(q·kᵀ·scale + mask)·v → out (B, H, T, e).

    The two terms of each row's logsumexp are written to lse (B, H, T, 2).
    """
    if _is_too_wide(q, v):
        q, k, v = (_in_float32(context, x) for x in (q, k, v))
        wide = scratch(context, out._shape, FLOAT32)
        attention(context, q, k, v, mask, wide, lse, scale, causal)
        copy(context, wide, out)
        return
    width = v._shape[3]
    tiles = _tiles(q, v, mask, width)
    small = is_stored(q._dtype) and mask is None and tiles.width <= 64
    _launch(
        context, "attention", q, width, tiles,
        [
            _input(q, k, v, mask, scale, causal), strided("out", out, False),
            (f"{type_of(lse)}* lse", address(lse)),
        ],
        "2" if small else "1",
    )  # fmt: skip


@launcher
def attention_grad(
    context: Context, g: Array, q: Array, k: Array, v: Array, mask: Array | None, out: Array,
    lse: Array, dq: Array, dk: Array, dv: Array, scale: float, causal: bool,
) -> None:  # fmt: skip
    """dq, dk and dv from g (B, H, T, e), and from the out and lse of `attention`."""
    if _is_too_wide(q, v):
        g, q, k, v, out = (_in_float32(context, x) for x in (g, q, k, v, out))
        wide_q, wide_k, wide_v = (scratch(context, x._shape, FLOAT32) for x in (q, k, v))
        attention_grad(
            context, g, q, k, v, mask, out, lse, wide_q, wide_k, wide_v, scale, causal
        )  # fmt: skip
        for wide, grad in ((wide_q, dq), (wide_k, dk), (wide_v, dv)):
            copy(context, wide, grad)
        return
    with context.streams.current.together():
        x = _input(q, k, v, mask, scale, causal)
        dots, sums = scratch(context, lse._shape[:3], lse._dtype), type_of(lse)
        log_sums, width = (f"const {sums}* lse", address(lse)), q._shape[3]
        widest = MMA_DEEPEST if mask is None else MMA_WIDEST_PAIR
        _launch(
            context, "attention_query_grad", q, width, _tiles(q, v, mask, width, widest),
            [
                x, strided("g", g), strided("y", out), log_sums, (f"{sums}* dots", address(dots)),
                strided("dq", dq, False),
            ],
        )  # fmt: skip
        width = max(k._shape[3], v._shape[3])
        _launch(
            context, "attention_key_grads", k, width,
            _tiles(q, v, mask, width, MMA_WIDEST_PAIR),
            [
                x, strided("g", g), log_sums, (f"const {sums}* dots", address(dots)),
                strided("dk", dk, False), strided("dv", dv, False),
            ],
        )  # fmt: skip


class _Tiles(NamedTuple):
    """A struct of tiles.cuh, the rows of a tile, and the columns of its results."""

    name: str
    rows: int
    width: int


def _tiles(q: Array, v: Array, mask: Array | None, width: int, widest: int = MMA_DEEPEST) -> _Tiles:
    """The tiles for results of `width` features; on tensor cores at most `widest` at a time."""
    kind = type_of(q)
    if is_stored(q._dtype):
        depth = _padded(max(q._shape[3], v._shape[3]))
        wide = min(depth, widest)
        columns = 32 if mask is not None and depth == MMA_DEEPEST else 64  # a mask takes registers
        return _Tiles(f"MmaTiles<{kind}, {depth}, {columns}, {wide}>", MMA_ROWS, wide)
    rows, most = FMA_TILES[kind]
    wide = min(_padded(width), most)
    return _Tiles(f"FmaTiles<{kind}, {wide}>", rows, wide)


def _padded(features: int) -> int:
    """The next power of two, so that few kernels serve all sizes of heads."""
    return max(NARROWEST, 1 << (features - 1).bit_length())


def _is_too_wide(q: Array, v: Array) -> bool:
    return is_stored(q._dtype) and max(q._shape[3], v._shape[3]) > MMA_DEEPEST


def _in_float32(context: Context, x: Array) -> Array:
    wide = scratch(context, x._shape, FLOAT32)
    copy(context, x, wide)
    return wide


def _input(q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool) -> Operand:
    """The operands that all three kernels take, as the struct AttentionInput."""
    arrays = [(address(x), *x._strides) for x in (q, k, v)]
    arrays.append((0, 0, 0, 0, 0) if mask is None else (address(mask), *mask._strides))
    sizes = (q._shape[1], q._shape[2], k._shape[2], q._shape[3], v._shape[3], int(causal))
    masked = "false" if mask is None else "true"
    return f"AttentionInput<{type_of(q)}, {masked}> x", (*sizes, float(scale), *sum(arrays, ()))


def _launch(
    context: Context, name: str, x: Array, width: int, tiles: _Tiles, operands: list[Operand],
    resident: str = "1",
) -> None:  # fmt: skip
    """Launch a kernel of attention.cuh: a block for each tile of rows of x and slice of `width`."""
    b, heads, rows = x._shape[:3]
    blocks = prod((b, heads, -(-rows // tiles.rows), max(-(-width // tiles.width), 1)))
    if blocks:
        what = f"{name} of heads {(b, heads)}, {rows} rows, {width} features"
        function = f"{name}<{tiles.name}>"
        launch(context, what, "attention.cuh", function, operands, blocks, resident)
