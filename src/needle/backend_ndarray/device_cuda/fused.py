"""Kernels along rows and of optimizers on `cuda()`; for the operands see `primitives`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .arrays import Array, address, reshaped, scratch
from .columns import layer_norm_weight_grads
from .context import Context
from .kernels import (
    Operand,
    elementwise,
    first_bad,
    input_operand,
    integer_at,
    launch,
    launcher,
    output_operand,
    reduce,
    shapes_of,
    type_of,
)

ROW_THREADS = 128


def _rows(context: Context, function: str, x: Array, operands: Sequence[Operand]) -> None:
    """Launch a kernel of rows.cuh, with a block for each row of x."""
    rows, cols = x._shape
    if not rows or not cols:
        return
    sizes: list[Operand] = [("int64_t rows", rows), ("int64_t cols", cols)]
    blocks = min(rows, context.multiprocessors * 64)
    launch(
        context, f"{function.split('<')[0]} of {shapes_of(x)}", "rows.cuh",
        function, [*sizes, *operands], blocks, resident="2", threads=ROW_THREADS,
    )  # fmt: skip


def _pointers(**arrays: Array) -> list[Operand]:
    return [output_operand(name, x) for name, x in arrays.items()]


@launcher
def softmax(context: Context, x: Array, out: Array) -> None:
    """softmax of each row of x (n, c)."""
    _rows(context, "softmax<false>", x, _pointers(x=x, out=out))


@launcher
def log_softmax(context: Context, x: Array, out: Array) -> None:
    """log_softmax of each row of x (n, c)."""
    _rows(context, "softmax<true>", x, _pointers(x=x, out=out))


@launcher
def cross_entropy(
    context: Context, logits: Array, labels: Array, losses: Array, lse: Array, ignore_index: int,
    smoothing: float,
) -> None:  # fmt: skip
    """losses (n,) of logits (n, c). Raises IndexError for a label that is no class."""
    _check_labels(context, logits, labels, ignore_index)
    _rows(context, "cross_entropy", logits, [
        output_operand("logits", logits), input_operand("labels", labels),
        *_pointers(losses=losses, lse=lse),
        ("int64_t ignored", ignore_index), ("double smoothing", float(smoothing)),
    ])  # fmt: skip


@launcher
def cross_entropy_grad(
    context: Context, logits: Array, labels: Array, scale: Array, lse: Array, out: Array,
    ignore_index: int, smoothing: float,
) -> None:  # fmt: skip
    """scale (n,) · (softmax(logits) - target) → out (n, c)."""
    _rows(context, "cross_entropy_grad", logits, [
        output_operand("logits", logits), input_operand("labels", labels),
        *_pointers(scale=scale, lse=lse, out=out),
        ("int64_t ignored", ignore_index), ("double smoothing", float(smoothing)),
    ])  # fmt: skip


def _check_labels(context: Context, logits: Array, labels: Array, ignored: int) -> None:
    def check(bad: int) -> None:
        _rows(context, "check_labels", logits, [
            input_operand("labels", labels), ("int64_t ignored", ignored),
            ("unsigned long long* bad", bad),
        ])  # fmt: skip

    position = first_bad(context, check)
    if position is not None:
        label, classes = integer_at(context, labels, position), logits._shape[1]
        raise IndexError(f"[cross_entropy] label {label} is out of range for {classes} classes")


@launcher
def layer_norm(
    context: Context, x: Array, weight: Array, bias: Array, eps: float, out: Array, mean: Array,
    rstd: Array,
) -> None:  # fmt: skip
    """Every row of x (n, c) to mean 0 and biased variance 1, then scaled and shifted."""
    _rows(context, "layer_norm", x, [
        *_pointers(x=x, weight=weight, bias=bias), ("double eps", float(eps)),
        *_pointers(out=out, mean=mean, rstd=rstd),
    ])  # fmt: skip


@launcher
def layer_norm_grad(
    context: Context, g: Array, x: Array, weight: Array, mean: Array, rstd: Array, dx: Array,
    dweight: Array, dbias: Array,
) -> None:  # fmt: skip
    """dx (n, c), dweight (c,) and dbias (c,) from g (n, c) and the results of `layer_norm`."""
    _rows(context, "layer_norm_grad", x,
          _pointers(g=g, x=x, weight=weight, mean=mean, rstd=rstd, dx=dx))  # fmt: skip
    layer_norm_weight_grads(context, g, x, mean, rstd, dweight, dbias)


# ---- optimizers -------------------------------------------------------------------------------


# As in optimizer.cuh: the most rows of a launch, and the bytes of an array that a block covers.
TABLE, BLOCK_BYTES = 64, 16384


class Table(NamedTuple):
    """The operand of a kernel of optimizer.cuh: rows of arrays, each row of one size."""

    operand: Operand
    rows: int
    blocks: int


def _tables(*columns: list[Array]) -> Iterator[Table]:
    """The arrays of the columns, row by row, as one table for each launch, without empty arrays.

    The addresses in a table are taken when the iterator yields it.
    """
    rows = [row for row in zip(*columns, strict=True) if row[0].size]
    for start in range(0, len(rows), TABLE):
        yield _table(rows[start : start + TABLE])


def _table(rows: Sequence[Sequence[Array]]) -> Table:
    first, unused = rows[0][0], (0,) * (TABLE - len(rows))
    share = BLOCK_BYTES // first._dtype.itemsize
    sizes = [row[0].size for row in rows]
    blocks = list(accumulate(-(-size // share) for size in sizes))
    arrays = ([address(x) for x in column] for column in zip(*rows, strict=True))
    words = sum(((*column, *unused) for column in (blocks, sizes, *arrays)), (len(rows),))
    declared = f"Table<{type_of(first)}, {len(rows[0])}> table"
    return Table((declared, words), len(rows), blocks[-1])


def _update(
    context: Context, step: str, arrays: Sequence[list[Array]], numbers: Sequence[Operand]
) -> None:
    """Launch a step of optimizer.cuh on all parameters."""
    with context.streams.current.together():
        for table in _tables(*arrays):
            launch(
                context, f"{step.split('<')[0]} of {table.rows} parameters",
                "optimizer.cuh", step, [table.operand, *numbers], table.blocks,
            )  # fmt: skip


@launcher
def sgd(
    context: Context, params: list[Array], grads: list[Array], momenta: list[Array],
    outs: list[Array], lr: float, momentum: float, weight_decay: float, dampening: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """Write one step of each parameter to `outs` and update `momenta`, which may be empty."""
    numbers = [
        ("double lr", float(lr)), ("double momentum", float(momentum)),
        ("double decay", float(weight_decay)), ("double dampening", float(dampening)),
    ]  # fmt: skip
    moments = [momenta] if momenta else []
    step = f"sgd<{str(nesterov).lower()}>"
    _update(context, step, [params, grads, outs, *moments], numbers)


@launcher
def adam(
    context: Context, params: list[Array], grads: list[Array], ms: list[Array], vs: list[Array],
    outs: list[Array], lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    step: int, decoupled: bool,
) -> None:  # fmt: skip
    """Write one step of each parameter to `outs` and update the moments `ms` and `vs`."""
    l2, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    unbias = [1 / (1 - float(np.float64(beta) ** step)) for beta in (beta1, beta2)]
    names = ("lr", "beta1", "beta2", "eps", "l2", "keep", "unbias1", "unbias2")
    values = (lr, beta1, beta2, eps, l2, keep, *unbias)
    numbers = [(f"double {n}", float(v)) for n, v in zip(names, values, strict=True)]
    _update(context, "adam", [params, grads, outs, ms, vs], numbers)


@launcher
def sum_of_squares(context: Context, arrays: list[Array], out: Array) -> None:
    """The sum of squares of the elements of compact arrays of one dtype → out (), float64."""
    with context.streams.current.together():
        share = BLOCK_BYTES // arrays[0]._dtype.itemsize
        blocks = sum(-(-x.size // share) for x in arrays)
        sums = scratch(context, (max(blocks, 1),), out._dtype)
        elementwise(context, "fill", "s", sums, scalar=0)
        first = address(sums)
        for table in _tables(arrays):
            launch(
                context, f"sum_of_squares of {table.rows} arrays", "optimizer.cuh",
                "sums_of_squares", [table.operand, ("double* sums", first)], table.blocks,
            )  # fmt: skip
            first += table.blocks * out._dtype.itemsize
        reduce(context, "sum", sums, (0,), reshaped(out, (1,)))
