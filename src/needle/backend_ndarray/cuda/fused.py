"""Kernels of rows and of optimizers; for the operands see `primitives` and `reference`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import kernels
from .columns import layer_norm_weight_grads
from .kernels import Operand, address, input_operand, launch, launcher, output_operand, type_of

if TYPE_CHECKING:
    from .device import CudaDevice

ROW_THREADS = 128


def _rows(device: CudaDevice, function: str, x: Any, operands: Sequence[Operand]) -> None:
    """A kernel of rows.cuh, a block a row of x."""
    rows, cols = x._shape
    if not rows or not cols:
        return
    sizes: list[Operand] = [("int64_t rows", rows), ("int64_t cols", cols)]
    blocks = min(rows, device.context.multiprocessors * 64)
    launch(
        device.context, f"{function.split('<')[0]} of {kernels.shapes_of(x)}", "rows.cuh",
        function, [*sizes, *operands], blocks, resident="2", threads=ROW_THREADS,
    )  # fmt: skip


def _pointers(**arrays: Any) -> list[Operand]:
    return [output_operand(name, x) for name, x in arrays.items()]


@launcher
def softmax(device: CudaDevice, x: Any, out: Any) -> None:
    """exp(x) over its sum along the rows of x (n, c)."""
    _rows(device, "softmax<false>", x, _pointers(x=x, out=out))


@launcher
def log_softmax(device: CudaDevice, x: Any, out: Any) -> None:
    """x - logsumexp(x) along the rows of x (n, c)."""
    _rows(device, "softmax<true>", x, _pointers(x=x, out=out))


@launcher
def cross_entropy(
    device: CudaDevice, logits: Any, labels: Any, losses: Any, lse: Any, ignore_index: int,
    smoothing: float,
) -> None:  # fmt: skip
    """losses (n,) of logits (n, c). Raises IndexError for a label that is no class."""
    _check_labels(device, logits, labels, ignore_index)
    _rows(device, "cross_entropy", logits, [
        output_operand("logits", logits), input_operand("labels", labels),
        *_pointers(losses=losses, lse=lse),
        ("int64_t ignored", ignore_index), ("double smoothing", float(smoothing)),
    ])  # fmt: skip


@launcher
def cross_entropy_grad(
    device: CudaDevice, logits: Any, labels: Any, scale: Any, lse: Any, out: Any,
    ignore_index: int, smoothing: float,
) -> None:  # fmt: skip
    """scale (n,) · (softmax(logits) - target) → out (n, c)."""
    _rows(device, "cross_entropy_grad", logits, [
        output_operand("logits", logits), input_operand("labels", labels),
        *_pointers(scale=scale, lse=lse, out=out),
        ("int64_t ignored", ignore_index), ("double smoothing", float(smoothing)),
    ])  # fmt: skip


def _check_labels(device: CudaDevice, logits: Any, labels: Any, ignored: int) -> None:
    def launch(bad: int) -> None:
        _rows(device, "check_labels", logits, [
            input_operand("labels", labels), ("int64_t ignored", ignored),
            ("unsigned long long* bad", bad),
        ])  # fmt: skip

    position = device.first_bad(launch)
    if position is not None:
        label, classes = int(device.view(labels)[position]), logits._shape[1]
        raise IndexError(f"[cross_entropy] label {label} is out of range for {classes} classes")


@launcher
def layer_norm(
    device: CudaDevice, x: Any, weight: Any, bias: Any, eps: float, out: Any, mean: Any, rstd: Any
) -> None:
    """Every row of x (n, c) to mean 0 and biased variance 1, then scaled and shifted."""
    _rows(device, "layer_norm", x, [
        *_pointers(x=x, weight=weight, bias=bias), ("double eps", float(eps)),
        *_pointers(out=out, mean=mean, rstd=rstd),
    ])  # fmt: skip


@launcher
def layer_norm_grad(
    device: CudaDevice, g: Any, x: Any, weight: Any, mean: Any, rstd: Any, dx: Any, dweight: Any,
    dbias: Any,
) -> None:  # fmt: skip
    """dx (n, c), dweight (c,) and dbias (c,) from g (n, c) and what `layer_norm` has left."""
    _rows(device, "layer_norm_grad", x,
          _pointers(g=g, x=x, weight=weight, mean=mean, rstd=rstd, dx=dx))  # fmt: skip
    layer_norm_weight_grads(device, g, x, mean, rstd, dweight, dbias)


# ---- optimizers -------------------------------------------------------------------------------


# As in optimizer.cuh: the rows of a launch, and the bytes of an array that a block goes over.
TABLE, BLOCK_BYTES = 64, 16384


class Table(NamedTuple):
    """What a kernel of optimizer.cuh takes: rows of arrays of one size, and the blocks for them."""

    operand: Operand
    rows: int
    blocks: int


def _tables(*columns: list[Any]) -> Iterator[Table]:
    """The arrays of the columns, row by row, as tables of a launch; empty ones are left out.

    Each one's addresses are taken when it is asked for.
    """
    rows = [row for row in zip(*columns, strict=True) if row[0].size]
    for start in range(0, len(rows), TABLE):
        yield _table(rows[start : start + TABLE])


def _table(rows: Sequence[Sequence[Any]]) -> Table:
    first, unused = rows[0][0], (0,) * (TABLE - len(rows))
    share = BLOCK_BYTES // first._dtype.itemsize
    sizes = [row[0].size for row in rows]
    blocks = list(accumulate(-(-size // share) for size in sizes))
    arrays = ([address(x) for x in column] for column in zip(*rows, strict=True))
    words = sum(((*column, *unused) for column in (blocks, sizes, *arrays)), (len(rows),))
    declared = f"Table<{type_of(first)}, {len(rows[0])}> table"
    return Table((declared, words), len(rows), blocks[-1])


def _update(
    device: CudaDevice, step: str, arrays: Sequence[list[Any]], numbers: Sequence[Operand]
) -> None:
    """A step of optimizer.cuh of all parameters."""
    with device.context.streams.current.together():
        for table in _tables(*arrays):
            launch(
                device.context, f"{step.split('<')[0]} of {table.rows} parameters",
                "optimizer.cuh", step, [table.operand, *numbers], table.blocks,
            )  # fmt: skip


@launcher
def sgd(
    device: CudaDevice, params: list[Any], grads: list[Any], momenta: list[Any], outs: list[Any],
    lr: float, momentum: float, weight_decay: float, dampening: float, nesterov: bool,
) -> None:  # fmt: skip
    """One step of each parameter into `outs`; momenta, where there are any, are updated."""
    numbers = [
        ("double lr", float(lr)), ("double momentum", float(momentum)),
        ("double decay", float(weight_decay)), ("double dampening", float(dampening)),
    ]  # fmt: skip
    moments = [momenta] if momenta else []
    step = f"sgd<{str(nesterov).lower()}>"
    _update(device, step, [params, grads, outs, *moments], numbers)


@launcher
def adam(
    device: CudaDevice, params: list[Any], grads: list[Any], ms: list[Any], vs: list[Any],
    outs: list[Any], lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    step: int, decoupled: bool,
) -> None:  # fmt: skip
    """One step of each parameter into `outs`; the moments `ms` and `vs` are updated."""
    l2, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    unbias = [1 / (1 - float(np.float64(beta) ** step)) for beta in (beta1, beta2)]
    names = ("lr", "beta1", "beta2", "eps", "l2", "keep", "unbias1", "unbias2")
    values = (lr, beta1, beta2, eps, l2, keep, *unbias)
    numbers = [(f"double {n}", float(v)) for n, v in zip(names, values, strict=True)]
    _update(device, "adam", [params, grads, outs, ms, vs], numbers)


@launcher
def sum_of_squares(device: CudaDevice, arrays: list[Any], out: Any) -> None:
    """The sum of the squares of all numbers of compact arrays of one dtype → out (), float64."""
    with device.context.streams.current.together():
        share = BLOCK_BYTES // arrays[0]._dtype.itemsize
        blocks = sum(-(-x.size // share) for x in arrays)
        sums = device.zeros((max(blocks, 1),), out._dtype)
        first = address(sums)
        for table in _tables(arrays):
            launch(
                device.context, f"sum_of_squares of {table.rows} arrays", "optimizer.cuh",
                "sums_of_squares", [table.operand, ("double* sums", first)], table.blocks,
            )  # fmt: skip
            first += table.blocks * out._dtype.itemsize
        device.reduce("sum", sums, (0,), out.reshape((1,)))
