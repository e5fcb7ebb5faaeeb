"""Convolution and its gradients on `cuda()`, with the operands of those of `cpu()`.

The kernels are in convolution.cuh; they are made for the type and for the width of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from .kernels import Operand, address, call, index_type, shapes_of, type_of

if TYPE_CHECKING:
    from .device import CudaDevice

SIDE = 16  # threads along a side of a tile
ROWS = {"float": 8, "double": 4}  # of a thread, and its most columns
DEPTH = 8  # of a panel
FEWEST_COLUMNS = 2
LEAST_PIXELS = 512  # of a part of the sums over all pixels
Pair = tuple[int, int]


def conv2d(
    device: CudaDevice, x: Any, w: Any, out: Any, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """x (N, H, W, C) * w (KH, KW, C / groups, O) → out (N, OH, OW, O)."""
    if not out.size:
        return
    _launch(
        device, "conv2d", out, (x, w, out), (stride, dilation, padding, groups),
        (prod(out._shape[:3]), out._shape[3] // groups),
        [_image(x), _pointer("const", "w", w), _pointer("", "out", out)],
    )  # fmt: skip


def conv2d_input_grad(
    device: CudaDevice, g: Any, w: Any, out: Any, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """g (N, OH, OW, O) spread by w (KH, KW, C / groups, O) over the image, out (N, H, W, C)."""
    if not out.size:
        return
    _launch(
        device, "conv2d_input_grad", out, (out, w, g), (stride, dilation, padding, groups),
        (prod(out._shape[:3]), out._shape[3] // groups),
        [_pointer("const", "g", g), _pointer("const", "w", w), _pointer("", "out", out)],
    )  # fmt: skip


def conv2d_weight_grad(
    device: CudaDevice, x: Any, g: Any, out: Any, stride: Pair, dilation: Pair, padding: Pair,
    groups: int,
) -> None:  # fmt: skip
    """Sums of x (N, H, W, C) times g (N, OH, OW, O) → out (KH, KW, C / groups, O)."""
    if not out.size:
        return
    pixels, size = prod(g._shape[:3]), (prod(out._shape[:3]), out._shape[3] // groups)
    tiles = _tiles(type_of(out), size) * groups
    parts = max(min(device.context.multiprocessors * 2 // tiles, pixels // LEAST_PIXELS), 1)
    share = -(-pixels // parts // DEPTH) * DEPTH
    parts = max(-(-pixels // max(share, 1)), 1)
    with device.context.streams.current.together():
        sums = out if parts == 1 else device.empty((parts, out.size), out._dtype)
        _launch(
            device, "conv2d_weight_grad", out, (x, out, g), (stride, dilation, padding, groups),
            size,
            [
                _image(x), _pointer("const", "g", g), ("int64_t share", share),
                _pointer("", "out", sums),
            ],
            parts,
        )  # fmt: skip
        if parts > 1:
            device.reduce("sum", sums, (0,), out.reshape((1, out.size)))


def _image(x: Any) -> Operand:
    return f"Array<const {type_of(x)}, 4> x", (address(x), *x._strides)


def _pointer(const: str, name: str, x: Any) -> Operand:
    return f"{const} {type_of(x)}* {name}".lstrip(), address(x)


def _columns(kind: str, width: int) -> int:
    """How many columns a thread has in a tile for results of that width."""
    columns = FEWEST_COLUMNS
    while columns < ROWS[kind] and columns * SIDE < width:
        columns *= 2
    return columns


def _tiles(kind: str, size: Pair) -> int:
    """Tiles of a group's results, rows and columns."""
    rows, width = size
    return -(-rows // (ROWS[kind] * SIDE)) * -(-width // (_columns(kind, width) * SIDE))


def _launch(
    device: CudaDevice, name: str, out: Any, arrays: Sequence[Any], geometry: Sequence[Any],
    size: Pair, operands: Sequence[Operand], parts: int = 1,
) -> None:  # fmt: skip
    """A kernel of convolution.cuh; `arrays` are the image, the weights and the image of results."""
    image, weights, result = (a._shape for a in arrays)
    stride, dilation, padding, groups = geometry
    kind = type_of(out)
    problem = (
        *image[:3], *weights[:3], weights[3] // groups, groups, *result[1:3], *stride, *dilation,
        *padding,
    )  # fmt: skip
    # Rows, columns and depths, and what the last tile and panel reach beyond them.
    most = max(prod(image[:3]), prod(result[:3]), prod(weights)) + ROWS[kind] * SIDE
    call(
        device.context, f"{name} of {shapes_of(*arrays)}", "convolution.cuh",
        f"{name}<{_columns(kind, size[1])}, {index_type(most)}>",
        [("Convolution p", problem), *operands], _tiles(kind, size) * groups * parts,
    )  # fmt: skip
