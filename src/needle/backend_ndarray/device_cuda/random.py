"""Random numbers that `cuda()` makes; the kernel is in random.cuh."""

from __future__ import annotations

from ..philox import blocks_of
from .arrays import Array
from .context import Context
from .kernels import grid, input_operand, launch, launcher, output_operand, shapes_of


@launcher
def philox(context: Context, normal: bool, seed: Array, offset: Array, out: Array) -> None:
    """The numbers of a draw from `offset` on, uniform or normal → out, which is compact.

    seed and offset are int64 arrays of one element.
    """
    if not out.size:
        return
    function = f"random_numbers<{'true' if normal else 'false'}>"
    operands = [
        input_operand("seed", seed),
        input_operand("offset", offset),
        output_operand("out", out),
    ]
    launch(
        context, f"random numbers of {shapes_of(out)}", "random.cuh", function,
        [("int64_t size", out.size), *operands],
        grid(context, blocks_of(out.size, out._dtype)),
    )  # fmt: skip
