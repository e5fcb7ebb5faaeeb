"""Pooling and its gradients on `cuda()`; the kernels are in pooling.cuh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .kernels import (
    Operand,
    grid,
    index_type,
    input_operand,
    launch,
    launcher,
    output_operand,
    shapes_of,
    strided,
)

if TYPE_CHECKING:
    from .device import CudaDevice

Pair = tuple[int, int]
MOST_UNROLLED = 16  # positions of a kernel


@launcher
def max_pool2d(device: CudaDevice, x: Any, out: Any, ties: Any, *window: Pair) -> None:
    """The largest of x (N, H, W, C) below a kernel → out (N, OH, OW, C); how many → ties."""
    operands = [strided("x", x), output_operand("out", out), output_operand("ties", ties)]
    _launch(device, "max_pool2d", x, out, window, out, operands, _size(window))


@launcher
def max_pool2d_grad(
    device: CudaDevice, g: Any, x: Any, out: Any, ties: Any, dx: Any, *window: Pair
) -> None:
    """dx (N, H, W, C) from g (N, OH, OW, C) and what `max_pool2d` has left in out and ties."""
    operands = [
        input_operand("g", g),
        strided("x", x),
        input_operand("out", out),
        input_operand("ties", ties),
        output_operand("dx", dx),
    ]
    _launch(device, "max_pool2d_grad", x, out, window, dx, operands)


@launcher
def avg_pool2d(device: CudaDevice, x: Any, out: Any, *window: Pair) -> None:
    """The mean of x (N, H, W, C) below a kernel → out (N, OH, OW, C)."""
    operands = [strided("x", x), output_operand("out", out)]
    _launch(device, "avg_pool2d", x, out, window, out, operands, _size(window))


@launcher
def avg_pool2d_grad(device: CudaDevice, g: Any, dx: Any, *window: Pair) -> None:
    """g (N, OH, OW, C) spread evenly over the images dx (N, H, W, C)."""
    _launch(
        device,
        "avg_pool2d_grad",
        dx,
        g,
        window,
        dx,
        [input_operand("g", g), output_operand("dx", dx)],
    )


def _size(window: Sequence[Pair]) -> str:
    """The kernel's size as arguments of the code, where it is small."""
    height, width = window[0]
    return f"{height}, {width}, " if height * width <= MOST_UNROLLED else "0, 0, "


def _launch(
    device: CudaDevice, name: str, image: Any, result: Any, window: Sequence[Pair], made: Any,
    operands: Sequence[Operand], size: str = "",
) -> None:  # fmt: skip
    """A kernel of pooling.cuh with a thread an element of `made`, the image or the result."""
    if not made.size:
        return
    problem = *image._shape, *result._shape, *(number for pair in window for number in pair)
    index = index_type(max(image.size, result.size))
    launch(
        device.context, f"{name} of {shapes_of(image, result)}", "pooling.cuh",
        f"{name}<{size}{index}>", [("Pooling p", problem), *operands],
        grid(device.context, made.size),
    )  # fmt: skip
