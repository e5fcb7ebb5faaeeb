"""Recurrent layers on `cuda()`, with the operands of those of `cpu()`: a kernel a step of time.

The kernels are in recurrent.cuh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .kernels import Operand, input_operand, launch, launcher, output_operand

if TYPE_CHECKING:
    from .device import CudaDevice

ROWS, UNITS = 16, 8  # of the new states, that a block makes


@launcher
def lstm(device: CudaDevice, gates: Any, w: Any, h: Any, c: Any) -> None:
    """States h and c (T + 1, B, H) from those at time 0, columns i, f, g, o.

    gates (T, B, 4·H) hold the input projections and get the activated gates; w is (H, 4·H).
    """
    for t in range(gates._shape[0]):
        _step(
            device,
            "lstm_step",
            h,
            [
                input_operand("w", w),
                _at(input_operand("before", h), h, t),
                _at(input_operand("c", c), c, t),
                _at(output_operand("gates", gates), gates, t),
                _at(output_operand("h_next", h), h, t + 1),
                _at(output_operand("c_next", c), c, t + 1),
            ],
        )


@launcher
def lstm_grad(
    device: CudaDevice, gates: Any, w: Any, h: Any, c: Any, dh: Any, dh0: Any, dc0: Any
) -> None:
    """The activated gates become the gradients of the projections.

    dh (T, B, H) are the gradients of the states; dh0 and dc0 (B, H) hold those that enter at the
    end of time and get those that leave at its beginning.
    """
    turned = _turned(device, w)
    for t in reversed(range(gates._shape[0])):
        last = t == gates._shape[0] - 1
        _step(
            device,
            f"lstm_step_grad<{str(last).lower()}>",
            h,
            [
                input_operand("turned", turned),
                _at(input_operand("later", gates), gates, t if last else t + 1),
                input_operand("d_last", dh0),
                _at(input_operand("dh", dh), dh, t),
                _at(input_operand("c", c), c, t),
                _at(input_operand("c_next", c), c, t + 1),
                _at(output_operand("gates", gates), gates, t),
                output_operand("dc", dc0),
            ],
        )
    _leave(device, gates, turned, dh0)


@launcher
def rnn(device: CudaDevice, gates: Any, w: Any, h: Any, relu: bool) -> None:
    """States h (T + 1, B, H) from the one at time 0; the projections in gates get h·w added."""
    for t in range(gates._shape[0]):
        _step(
            device,
            f"rnn_step<{str(relu).lower()}>",
            h,
            [
                input_operand("w", w),
                _at(input_operand("before", h), h, t),
                _at(output_operand("gates", gates), gates, t),
                _at(output_operand("h_next", h), h, t + 1),
            ],
        )


@launcher
def rnn_grad(device: CudaDevice, gates: Any, w: Any, h: Any, dh: Any, dh0: Any, relu: bool) -> None:
    """gates get the gradients of the projections; dh and dh0 as in `lstm_grad`."""
    turned = _turned(device, w)
    for t in reversed(range(gates._shape[0])):
        last = t == gates._shape[0] - 1
        _step(
            device,
            f"rnn_step_grad<{str(relu).lower()}, {str(last).lower()}>",
            h,
            [
                input_operand("turned", turned),
                _at(input_operand("later", gates), gates, t if last else t + 1),
                input_operand("d_last", dh0),
                _at(input_operand("dh", dh), dh, t),
                _at(input_operand("h_next", h), h, t + 1),
                _at(output_operand("gates", gates), gates, t),
            ],
        )
    _leave(device, gates, turned, dh0)


def _turned(device: CudaDevice, w: Any) -> Any:
    """The transpose of w: neighbouring threads read neighbouring units."""
    turned = device.empty(w._shape[::-1], w._dtype)
    device.copy(w.permute((1, 0)), turned)
    return turned


def _leave(device: CudaDevice, gates: Any, turned: Any, dh0: Any) -> None:
    """The gradient that leaves at the beginning of time."""
    if gates._shape[0]:
        device.matmul(gates[0], turned, dh0)


def _at(operand: Operand, x: Any, t: int) -> Operand:
    """The operand x at time t."""
    declaration, start = operand
    return declaration, start + t * x._strides[0] * x._dtype.itemsize


def _step(device: CudaDevice, function: str, h: Any, operands: list[Operand]) -> None:
    """A kernel of recurrent.cuh for states as in h (T + 1, B, H)."""
    _, rows, units = h._shape
    if not rows or not units:
        return
    what = f"{function.split('<')[0]} of {rows} rows and {units} units"
    blocks = -(-rows // ROWS) * -(-units // UNITS)
    sizes: list[Operand] = [("int64_t rows", rows), ("int64_t units", units)]
    launch(device.context, what, "recurrent.cuh", function, [*sizes, *operands], blocks)
