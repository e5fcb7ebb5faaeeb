"""Recurrent layers on `cuda()`: one kernel for each time step.

The operands are those of the kernels of `cpu()`; see `primitives`. The kernels are in
recurrent.cuh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arrays import Array, scratch
from .context import Context
from .kernels import (
    Operand,
    copy,
    input_operand,
    launch,
    launcher,
    launcher_of_device,
    output_operand,
)

if TYPE_CHECKING:
    from ..ndarray import NDArray
    from .device import CudaDevice

ROWS, UNITS = 16, 8  # the tile of the new states that a block computes


@launcher
def lstm(context: Context, gates: Array, w: Array, h: Array, c: Array) -> None:
    """The states h and c (T + 1, B, H) of all times, from those at time 0.

    gates (T, B, 4·H) contains the input projections and receives the activated gates, in the order
    i, f, g, o; w is (H, 4·H).
    """
    for t in range(gates._shape[0]):
        _step(
            context,
            "lstm_step",
            h,
            [
                input_operand("w", w),
                input_operand("before", h, t),
                input_operand("c", c, t),
                output_operand("gates", gates, t),
                output_operand("h_next", h, t + 1),
                output_operand("c_next", c, t + 1),
            ],
        )


@launcher_of_device
def lstm_grad(
    device: CudaDevice, gates: NDArray, w: NDArray, h: Array, c: Array, dh: Array, dh0: Array,
    dc0: Array,
) -> None:  # fmt: skip
    """Replace the activated gates by the gradients of the input projections.

    dh (T, B, H) has the gradients of the states. dh0 and dc0 (B, H) contain the gradients of the
    last states and receive those of the first.
    """
    turned = _transposed(device.context, w)
    for t in reversed(range(gates._shape[0])):
        last = t == gates._shape[0] - 1
        _step(
            device.context,
            f"lstm_step_grad<{str(last).lower()}>",
            h,
            [
                input_operand("turned", turned),
                input_operand("later", gates, t if last else t + 1),
                input_operand("d_last", dh0),
                input_operand("dh", dh, t),
                input_operand("c", c, t),
                input_operand("c_next", c, t + 1),
                output_operand("gates", gates, t),
                output_operand("dc", dc0),
            ],
        )
    _first_gradient(device, gates, turned, dh0)


@launcher
def rnn(context: Context, gates: Array, w: Array, h: Array, relu: bool) -> None:
    """The states h (T + 1, B, H) of all times; h·w is added to the input projections in gates."""
    for t in range(gates._shape[0]):
        _step(
            context,
            f"rnn_step<{str(relu).lower()}>",
            h,
            [
                input_operand("w", w),
                input_operand("before", h, t),
                output_operand("gates", gates, t),
                output_operand("h_next", h, t + 1),
            ],
        )


@launcher_of_device
def rnn_grad(
    device: CudaDevice, gates: NDArray, w: NDArray, h: Array, dh: Array, dh0: Array, relu: bool
) -> None:
    """gates receives the gradients of the input projections; dh and dh0 as in `lstm_grad`."""
    turned = _transposed(device.context, w)
    for t in reversed(range(gates._shape[0])):
        last = t == gates._shape[0] - 1
        _step(
            device.context,
            f"rnn_step_grad<{str(relu).lower()}, {str(last).lower()}>",
            h,
            [
                input_operand("turned", turned),
                input_operand("later", gates, t if last else t + 1),
                input_operand("d_last", dh0),
                input_operand("dh", dh, t),
                input_operand("h_next", h, t + 1),
                output_operand("gates", gates, t),
            ],
        )
    _first_gradient(device, gates, turned, dh0)


def _transposed(context: Context, w: NDArray) -> Array:
    """The transpose of w, so that adjacent threads read adjacent units."""
    turned = scratch(context, w._shape[::-1], w._dtype)
    copy(context, w.permute((1, 0)), turned)
    return turned


def _first_gradient(device: CudaDevice, gates: NDArray, turned: Array, dh0: Array) -> None:
    """The gradient of the state at time 0."""
    if gates._shape[0]:
        device.matmul(gates[0], turned, dh0)


def _step(context: Context, function: str, h: Array, operands: list[Operand]) -> None:
    """Launch a kernel of recurrent.cuh for states as in h (T + 1, B, H)."""
    _, rows, units = h._shape
    if not rows or not units:
        return
    what = f"{function.split('<')[0]} of {rows} rows and {units} units"
    blocks = -(-rows // ROWS) * -(-units // UNITS)
    sizes: list[Operand] = [("int64_t rows", rows), ("int64_t units", units)]
    launch(context, what, "recurrent.cuh", function, [*sizes, *operands], blocks)
