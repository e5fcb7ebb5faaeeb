"""Attention and its gradient on `cuda()`, with the operands of those of `cpu()`.

The kernels are in attention.cuh; they are made for the type and for the width of a tile of results.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ..layout import Shape
from .kernels import Operand, address, call, type_of

if TYPE_CHECKING:
    from .device import CudaDevice

# Rows of a tile, and the widest tile of results whose sums fit a thread's registers.
TILES = {"float": (64, 128), "double": (32, 64)}
NARROWEST = 16


def attention(
    device: CudaDevice, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, scale: float,
    causal: bool,
) -> None:  # fmt: skip
    """softmax(q·kᵀ·scale + mask)·v → out (B, H, T, e), each row's logsumexp → lse (B, H, T)."""
    kind = type_of(q)
    _launch(
        device, "attention", kind, q._shape, v._shape[3], _input(q, k, v, mask, scale, causal),
        [_array("out", out, False), (f"{kind}* lse", address(lse))],
    )  # fmt: skip


def attention_grad(
    device: CudaDevice, g: Any, q: Any, k: Any, v: Any, mask: Any, out: Any, lse: Any, dq: Any,
    dk: Any, dv: Any, scale: float, causal: bool,
) -> None:  # fmt: skip
    """dq, dk and dv from g (B, H, T, e) and what `attention` has left in out and lse."""
    with device.context.streams.current.together():
        kind, operands = type_of(q), _input(q, k, v, mask, scale, causal)
        dots = device.empty(lse._shape, lse._dtype)
        _launch(
            device, "attention_query_grad", kind, q._shape, q._shape[3], operands,
            [
                _array("g", g), _array("y", out), (f"const {kind}* lse", address(lse)),
                (f"{kind}* dots", address(dots)), _array("dq", dq, False),
            ],
        )  # fmt: skip
        _launch(
            device, "attention_key_grads", kind, k._shape, max(k._shape[3], v._shape[3]), operands,
            [
                _array("g", g), (f"const {kind}* lse", address(lse)),
                (f"const {kind}* dots", address(dots)), _array("dk", dk, False),
                _array("dv", dv, False),
            ],
        )  # fmt: skip


def _array(name: str, x: Any, const: bool = True) -> Operand:
    return f"Array<{'const ' if const else ''}{type_of(x)}, 4> {name}", (address(x), *x._strides)


def _input(q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool) -> Operand:
    """What all three kernels take, as the struct AttentionInput."""
    arrays = [(address(x), *x._strides) for x in (q, k, v)]
    arrays.append((0, 0, 0, 0, 0) if mask is None else (address(mask), *mask._strides))
    sizes = (q._shape[1], q._shape[2], k._shape[2], q._shape[3], v._shape[3], int(causal))
    return f"AttentionInput<{type_of(q)}> x", (*sizes, float(scale), *sum(arrays, ()))


def _launch(
    device: CudaDevice, name: str, kind: str, shape: Shape, width: int, operands: Operand,
    others: list[Operand],
) -> None:  # fmt: skip
    """A kernel of attention.cuh: a block for each tile of rows of `shape` and slice of `width`."""
    rows, widest = TILES[kind]
    wide = NARROWEST
    while wide < min(width, widest):
        wide *= 2
    blocks = prod(shape[:2]) * -(-shape[2] // rows) * max(-(-width // wide), 1)
    if not blocks:
        return
    what = f"{name} of heads {shape[:2]}, {shape[2]} rows, {width} features"
    function = f"{name}<FmaTiles<{kind}, {wide}>>"
    call(device.context, what, "attention.cuh", function, [operands, *others], blocks)
