"""Attention and its gradient on `cuda()`, with the operands of those of `cpu()`.

The kernels are in attention.cuh; they are made for the type and for the width of a tile of results.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ..dtypes import is_stored
from ..layout import Shape
from .kernels import Operand, address, call, type_of

if TYPE_CHECKING:
    from .device import CudaDevice

NARROWEST = 16


class Tiles(NamedTuple):
    """A struct of tiles.cuh: its rows, and the widest tile of results that registers hold."""

    name: str
    rows: int
    widest: int
    widest_pair: int  # of two results at a time


FMA = {"float": Tiles("FmaTiles", 64, 128, 128), "double": Tiles("FmaTiles", 32, 64, 64)}
TENSOR_CORES = Tiles("MmaTiles", 128, 128, 64)


def attention(
    device: CudaDevice, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, scale: float,
    causal: bool,
) -> None:  # fmt: skip
    """softmax(q·kᵀ·scale + mask)·v → out (B, H, T, e), each row's logsumexp → lse (B, H, T)."""
    tiles = _tiles_for(q)
    _launch(
        device, "attention", tiles, tiles.widest, q, v._shape[3],
        [
            _input(q, k, v, mask, scale, causal), _array("out", out, False),
            (f"{type_of(lse)}* lse", address(lse)),
        ],
    )  # fmt: skip


def attention_grad(
    device: CudaDevice, g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, dq: Any,
    dk: Any, dv: Any, scale: float, causal: bool,
) -> None:  # fmt: skip
    """dq, dk and dv from g (B, H, T, e) and what `attention` has left in out and lse."""
    with device.context.streams.current.together():
        tiles, x = _tiles_for(q), _input(q, k, v, mask, scale, causal)
        dots, sums = device.empty(lse._shape, lse._dtype), type_of(lse)
        log_sums = (f"const {sums}* lse", address(lse))
        _launch(
            device, "attention_query_grad", tiles, tiles.widest, q, q._shape[3],
            [
                x, _array("g", g), _array("y", out), log_sums, (f"{sums}* dots", address(dots)),
                _array("dq", dq, False),
            ],
        )  # fmt: skip
        _launch(
            device, "attention_key_grads", tiles, tiles.widest_pair, k,
            max(k._shape[3], v._shape[3]),
            [
                x, _array("g", g), log_sums, (f"const {sums}* dots", address(dots)),
                _array("dk", dk, False), _array("dv", dv, False),
            ],
        )  # fmt: skip


def _tiles_for(x: Any) -> Tiles:
    return TENSOR_CORES if is_stored(x._dtype) else FMA[type_of(x)]


def _array(name: str, x: Any, const: bool = True) -> Operand:
    return f"Array<{'const ' if const else ''}{type_of(x)}, 4> {name}", (address(x), *x._strides)


def _input(q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool) -> Operand:
    """What all three kernels take, as the struct AttentionInput."""
    arrays = [(address(x), *x._strides) for x in (q, k, v)]
    arrays.append((0, 0, 0, 0, 0) if mask is None else (address(mask), *mask._strides))
    sizes = (q._shape[1], q._shape[2], k._shape[2], q._shape[3], v._shape[3], int(causal))
    return f"AttentionInput<{type_of(q)}> x", (*sizes, float(scale), *sum(arrays, ()))


def _launch(
    device: CudaDevice, name: str, tiles: Tiles, widest: int, x: Any, width: int,
    operands: list[Operand],
) -> None:  # fmt: skip
    """A kernel of attention.cuh: a block for each tile of rows of x and slice of `width`."""
    shape: Shape = x._shape
    wide = NARROWEST
    while wide < min(width, widest):
        wide *= 2
    blocks = prod(shape[:2]) * -(-shape[2] // tiles.rows) * max(-(-width // wide), 1)
    if not blocks:
        return
    what = f"{name} of heads {shape[:2]}, {shape[2]} rows, {width} features"
    function = f"{name}<{tiles.name}<{type_of(x)}, {wide}>>"
    call(device.context, what, "attention.cuh", function, operands, blocks)
