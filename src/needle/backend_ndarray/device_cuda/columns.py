"""Kernels on `cuda()` that sum over the rows of a matrix: batch norm, gradients of norms' weights.

The kernels are in columns.cuh. Each sum takes two launches: one sums parts of the rows, the other
the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...typing import Shape
from .arrays import Array, address, scratch
from .context import Context
from .kernels import (
    THREADS,
    Operand,
    input_operand,
    launch,
    launcher,
    output_operand,
    type_of,
)

WIDEST = 32  # the most columns of a strip
LEAST_ROWS = 8  # the least rows of a thread
BLOCKS_PER_MULTIPROCESSOR = 4  # resident at the same time, with enough reads in flight


class _Found(NamedTuple):
    """The partial result for a part of a column: a struct of columns.cuh."""

    struct: str
    fields: int
    sum: str  # the kernel that combines the partial results into two arrays


MOMENTS = _Found("Moments", 3, "sum_moments")
GRADS = _Found("WeightGrads", 2, "sum_weight_grads")


@launcher
def batch_norm(
    context: Context, x: Array, weight: Array, bias: Array, eps: float, out: Array, mean: Array,
    var: Array,
) -> None:  # fmt: skip
    """Every column of x (n, c) to mean 0 and biased variance 1, then scaled and shifted."""
    with context.streams.current.together():
        _sums(context, "column_moments", x, [input_operand("x", x)], MOMENTS, mean, var)
        _by_strips(
            context,
            "batch_norm",
            x,
            [
                input_operand("x", x),
                input_operand("weight", weight),
                input_operand("bias", bias),
                input_operand("mean", mean),
                input_operand("var", var),
                ("double eps", float(eps)),
                output_operand("out", out),
            ],
        )


@launcher
def batch_norm_grad(
    context: Context, g: Array, x: Array, weight: Array, mean: Array, var: Array, eps: float,
    dx: Array, dweight: Array, dbias: Array,
) -> None:  # fmt: skip
    """dx (n, c), dweight (c,) and dbias (c,) from g (n, c) and the results of `batch_norm`."""
    data = [input_operand("g", g), input_operand("x", x)]
    statistics = [
        input_operand("mean", mean),
        input_operand("var", var),
        ("double eps", float(eps)),
    ]
    with context.streams.current.together():
        _sums(context, "batch_norm_weight_grads", x, [*data, *statistics], GRADS, dweight, dbias)
        _by_strips(context, "batch_norm_grad", x, [
            *data, input_operand("weight", weight), *statistics, input_operand("dweight", dweight),
            input_operand("dbias", dbias), output_operand("dx", dx),
        ])  # fmt: skip


def layer_norm_weight_grads(
    context: Context, g: Array, x: Array, mean: Array, rstd: Array, dweight: Array, dbias: Array
) -> None:
    """dweight (c,) and dbias (c,) from g and x (n, c), the means and the 1/deviations (n,)."""
    operands = [
        input_operand("g", g),
        input_operand("x", x),
        input_operand("means", mean),
        input_operand("rstds", rstd),
    ]
    with context.streams.current.together():
        _sums(context, "layer_norm_weight_grads", x, operands, GRADS, dweight, dbias)


def _sums(
    context: Context, name: str, x: Array, operands: Sequence[Operand], found: _Found, first: Array,
    second: Array,
) -> None:  # fmt: skip
    """The two sums (c,) over the rows of x (n, c) whose parts the kernel `name` computes."""
    parts, cols = _parts(context, x._shape), x._shape[1]
    memory = scratch(context, (parts, cols, found.fields), x._dtype)
    pointer = f"{found.struct}<{type_of(x)}>* found", address(memory)
    _launch(context, name, x._shape, parts, [*operands, pointer])
    results = [output_operand("first", first), output_operand("second", second)]
    _launch(context, found.sum, (parts, cols), 1, [pointer, *results])


def _by_strips(context: Context, name: str, x: Array, operands: Sequence[Operand]) -> None:
    _launch(context, name, x._shape, _parts(context, x._shape), operands)


def _launch(
    context: Context, name: str, shape: Shape, parts: int, operands: Sequence[Operand]
) -> None:
    """Launch a kernel of columns.cuh on a matrix, with a block for each strip and part."""
    width, strips = _strips(shape[1])
    if not strips:
        return
    sizes = zip(("rows", "cols", "width", "parts"), (*shape, width, parts), strict=True)
    launch(
        context, f"{name} of {shape}", "columns.cuh", name,
        [*((f"int64_t {size}", value) for size, value in sizes), *operands], strips * parts,
    )  # fmt: skip


def _strips(cols: int) -> tuple[int, int]:
    """(columns of a strip, a power of two; number of strips)."""
    width = min(1 << max(cols - 1, 0).bit_length(), WIDEST)
    return width, -(-cols // width)


def _parts(context: Context, shape: Shape) -> int:
    """The number of parts that the rows are divided into: enough to fill the GPU."""
    width, strips = _strips(shape[1])
    wanted = context.multiprocessors * BLOCKS_PER_MULTIPROCESSOR // max(strips, 1)
    return max(min(wanted, shape[0] * width // (THREADS * LEAST_ROWS)), 1)
