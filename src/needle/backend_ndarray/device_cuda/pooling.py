"""Pooling and its gradients on `cuda()`; the kernels are in pooling.cuh."""

from __future__ import annotations

from collections.abc import Sequence

from .arrays import Array
from .context import Context
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

Pair = tuple[int, int]
MOST_UNROLLED = 16  # the most positions of a window whose loop is unrolled


@launcher
def max_pool2d(context: Context, x: Array, out: Array, ties: Array, *window: Pair) -> None:
    """The maximum of each window of x (N, H, W, C) → out (N, OH, OW, C), its count → ties."""
    operands = [strided("x", x), output_operand("out", out), output_operand("ties", ties)]
    _launch(context, "max_pool2d", x, out, window, out, operands, _size(window))


@launcher
def max_pool2d_grad(
    context: Context, g: Array, x: Array, out: Array, ties: Array, dx: Array, *window: Pair
) -> None:
    """dx (N, H, W, C) from g (N, OH, OW, C), and from the out and ties of `max_pool2d`."""
    operands = [
        input_operand("g", g),
        strided("x", x),
        input_operand("out", out),
        input_operand("ties", ties),
        output_operand("dx", dx),
    ]
    _launch(context, "max_pool2d_grad", x, out, window, dx, operands)


@launcher
def avg_pool2d(context: Context, x: Array, out: Array, *window: Pair) -> None:
    """The mean of each window of x (N, H, W, C) → out (N, OH, OW, C)."""
    operands = [strided("x", x), output_operand("out", out)]
    _launch(context, "avg_pool2d", x, out, window, out, operands, _size(window))


@launcher
def avg_pool2d_grad(context: Context, g: Array, dx: Array, *window: Pair) -> None:
    """dx (N, H, W, C): each element of g (N, OH, OW, C), spread evenly over its window."""
    _launch(
        context,
        "avg_pool2d_grad",
        dx,
        g,
        window,
        dx,
        [input_operand("g", g), output_operand("dx", dx)],
    )


def _size(window: Sequence[Pair]) -> str:
    """The size of the window as template arguments, where it is small, else 0, 0."""
    height, width = window[0]
    return f"{height}, {width}, " if height * width <= MOST_UNROLLED else "0, 0, "


def _launch(
    context: Context, name: str, image: Array, result: Array, window: Sequence[Pair], made: Array,
    operands: Sequence[Operand], size: str = "",
) -> None:  # fmt: skip
    """Launch a kernel of pooling.cuh with a thread for each element of `made`."""
    if not made.size:
        return
    problem = *image._shape, *result._shape, *(number for pair in window for number in pair)
    index = index_type(max(image.size, result.size))
    launch(
        context, f"{name} of {shapes_of(image, result)}", "pooling.cuh",
        f"{name}<{size}{index}>", [("Pooling p", problem), *operands],
        grid(context, made.size),
    )  # fmt: skip
