"""Convolution and its gradients on `cuda()`; for the operands see `primitives`.

The kernels are in convolution.cuh. They are specialized for the element type, for the product and
the tile width of a block, and for whether channels can be read 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from ..dtypes import is_stored, widened
from .arrays import Array, address, reshaped, scratch
from .context import Context
from .kernels import (
    ACCESS,
    THREADS,
    Operand,
    copy,
    input_operand,
    launch,
    launcher_of_device,
    output_operand,
    reduce,
    shapes_of,
    strided,
    type_of,
)

if TYPE_CHECKING:
    from .device import CudaDevice

WIDTHS = (32, 64, 128)  # the columns of a tile
NARROWEST = 5  # the least columns of a group for which a tile is faster
LEAST_PIXELS = 512  # the least pixels of a part of the sums over all pixels
Pair = tuple[int, int]


class Tile(NamedTuple):
    """The results that a block computes, and how: a type of block_product.cuh, or OneByOne."""

    product: str
    rows: int
    columns: int
    depth: int  # the depth of a panel
    threads: int = THREADS
    resident: int = 2  # the blocks on a multiprocessor

    def tiles(self, rows: int, columns: int) -> int:
        """The number of tiles for so many results."""
        return -(-rows // self.rows) * -(-columns // self.columns)


@launcher_of_device
def conv2d(
    device: CudaDevice, x: Array, w: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """x (N, H, W, C) * w (KH, KW, C / groups, O) → out (N, OH, OW, O)."""
    if not out.size:
        return
    tile = _tile(device, out, groups)
    packs = _pack(x, x._shape[3] // groups), _pack(w, w._shape[3] // groups)
    _launch(
        device.context, "conv2d", tile, packs, (x, w, out), (stride, dilation, padding, groups),
        [strided("x", x), input_operand("w", w), output_operand("out", out)],
        tile.tiles(prod(out._shape[:3]), out._shape[3] // groups),
    )  # fmt: skip


@launcher_of_device
def conv2d_input_grad(
    device: CudaDevice, g: Array, w: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """The gradient out (N, H, W, C) of the image from g (N, OH, OW, O) and w (KH, KW, …, O)."""
    if not out.size:
        return
    tile, (n, height, width, channels) = _tile(device, out, groups), out._shape
    filters = w._shape[3] // groups
    pixels = n * -(-height // stride[0]) * -(-width // stride[1])  # of one phase of the stride
    _launch(
        device.context, "conv2d_input_grad", tile, (_pack(g, filters), _pack(w, filters)),
        (out, w, g), (stride, dilation, padding, groups),
        [input_operand("g", g), input_operand("w", w), output_operand("out", out)],
        tile.tiles(pixels, channels // groups) * prod(stride),
    )  # fmt: skip


@launcher_of_device
def conv2d_weight_grad(
    device: CudaDevice, x: Array, g: Array, out: Array, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """The gradient out (KH, KW, C / groups, O) of the weights from x (N, H, W, C) and g."""
    if not out.size:
        return
    tile, filters = _tile(device, out, groups), out._shape[3] // groups
    packs = _pack(x, x._shape[3] // groups), _pack(g, filters)
    tiles, pixels = tile.tiles(prod(out._shape[:3]), filters), prod(g._shape[:3])
    context = device.context
    at_once = context.multiprocessors * tile.resident * THREADS // tile.threads
    parts = max(min(at_once // (tiles * groups), pixels // LEAST_PIXELS), 1)
    share = max(-(-pixels // parts // tile.depth), 1) * tile.depth
    parts = max(-(-pixels // share), 1)
    with context.streams.current.together():
        wide = widened(out._dtype)
        sums = out if parts == 1 else scratch(context, (parts, out.size), wide)
        _launch(
            context, "conv2d_weight_grad", tile, packs, (x, out, g),
            (stride, dilation, padding, groups),
            [
                strided("x", x), input_operand("g", g), ("int64_t share", share),
                output_operand("out", sums),
            ],
            tiles * parts,
        )  # fmt: skip
        if parts > 1:
            total = scratch(context, out._shape, wide) if is_stored(out._dtype) else out
            reduce(context, "sum", sums, (0,), reshaped(total, (1, out.size)))
            if total is not out:
                copy(context, total, out)


def _tile(device: CudaDevice, out: Array, groups: int) -> Tile:
    """The tile for results (…, channels) in `groups`; on tensor cores where they may be used."""
    kind, width = type_of(out), out._shape[3] // groups
    if groups > 1 and width < NARROWEST:
        return Tile(f"OneByOne<{kind}>", 1, 1, 1, threads=1, resident=8)
    tf32 = kind == "float" and device.allow_tf32 and device.has_tensor_cores
    product, rows, depth = ("FmaBlock", 128 if kind == "float" else 64, 8)
    if tf32 or is_stored(out._dtype):
        product, rows, depth = "MmaBlock", 128, 64 // out._dtype.itemsize
    columns = next((n for n in WIDTHS if n >= min(width, rows)), WIDTHS[-1])
    return Tile(f"{product}<{kind}, {columns}>", rows, columns, depth)


def _pack(x: Array, channels: int) -> int:
    """The number of channels that are read at a time.

    It is what 16 bytes hold if all groups, all pixels and x itself start at multiples of 16 bytes,
    else 1.
    """
    length = ACCESS // x._dtype.itemsize
    steps = [step for n, step in zip(x._shape[:3], x._strides, strict=False) if n > 1]
    fits = x._strides[3] == 1 and not any(n % length for n in (channels, *steps))
    return length if fits and address(x) % ACCESS == 0 else 1


def _launch(
    context: Context, name: str, tile: Tile, packs: Pair, arrays: Sequence[Array],
    geometry: tuple[Pair, Pair, Pair, int], operands: Sequence[Operand], tiles: int,
) -> None:  # fmt: skip
    """Launch a kernel of convolution.cuh on so many tiles a group.

    `arrays` are the image, the weights and the image of results.
    """
    image, weights, result = (a._shape for a in arrays)
    stride, dilation, padding, groups = geometry
    problem = (
        *image[:3], *weights[:3], weights[3] // groups, groups, *result[1:3], *stride, *dilation,
        *padding,
    )  # fmt: skip
    if tile.rows == 1:
        packs = 1, 1
    # The largest number of threads, rows, depths and offsets, with the excess of the last tile.
    threads = tiles * groups * tile.threads
    most = max(*map(_reach, arrays), threads if tile.rows == 1 else 0) + THREADS
    index = "int32_t" if most < 2**31 else "int64_t"
    narrow = most < 2**31 and 1 not in packs  # else two blocks have too few registers
    launch(
        context, f"{name} of {shapes_of(*arrays)}", "convolution.cuh",
        f"{name}<{tile.product}, {packs[0]}, {packs[1]}, {index}>",
        [("Convolution p", problem), *operands], -(-threads // THREADS),
        "2" if narrow else "1",
    )  # fmt: skip


def _reach(x: Array) -> int:
    """The largest offset in x, and at least its number of elements."""
    return max(x.size, sum((n - 1) * abs(s) for n, s in zip(x._shape, x._strides, strict=True)))
