"""What devices compute: every primitive and every fused kernel, declared once.

A device has all that are `required`, as methods, and any of the others, as fused kernels. From the
records here follow the names that a trace records, which operands a node of a graph reads and
writes, the flops of an explanation, what the evaluator of graphs runs, and the tests of
completeness. To add a fused kernel, write

1. its record here, with its definition in NumPy in `reference`,
2. its kernel for the CPU: a line in `csrc/cpu/kernels.h`, its contract in `csrc/cpu/contracts.cpp`,
   the code in `csrc/cpu/kernels/`, its types in `_core.pyi`,
3. its launcher for the GPU in `cuda/` and the kernel in `csrc/cuda/`, and
4. the op that calls it.

A device without the kernel runs the op's `decompose`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

from ..typing import Shape
from . import reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """One of a device's functions on arrays.

    `operands` has one letter for each of its arguments, in their order:
    i is read, o is written, u is read and written in place, ? is read unless it is None, and a is
    a plain Python value. Capital letters stand for lists of arrays.
    """

    operands: str
    is_required: bool = False  # every device has it
    is_elementwise: bool = False  # a loop body of scalars, which compiled code may fuse
    # Whether a trace records it as one node; other fused kernels are traced by what they decompose
    # into, so that compiled code can fuse that anew. True of kernels with large loops of their own.
    is_node: bool = False
    takes_tensor_cores: bool = False  # `cuda()` can take numbers of 16 bits as they are stored
    reference: Callable[..., None] | None = None  # its definition; None: the method of cpu_numpy()
    # Floating-point operations, from the operands; None: a few for each element of the result.
    flops: Callable[..., int] | None = None


class Reduction(NamedTuple):
    """The names of an operation of `reduce`; its NumPy function is in `device_numpy`."""

    cuda: str  # the struct in csrc/cuda/reduce.cuh
    combine: str  # the function of two values in csrc/cpu
    clause: str  # what a reduction clause of OpenMP calls it


REDUCTIONS = {
    "sum": Reduction("Sum", "f::add", "+"),
    "prod": Reduction("Product", "f::mul", "*"),
    "max": Reduction("Max", "larger", "larger"),
    "min": Reduction("Min", "smaller", "smaller"),
}


# ---- floating-point operations ------------------------------------------------------------------


class Operand(Protocol):
    """An array, as far as the count of operations needs it."""

    @property
    def shape(self) -> Shape:
        """The length of each axis."""


def _of_product(a: Operand, b: Operand, out: Operand, *bias: object) -> int:
    return 2 * prod(out.shape) * a.shape[-1]


def _of_convolution(image: Operand, weight: Operand, result: Operand) -> int:
    return 2 * prod(result.shape[:3]) * prod(weight.shape)


def _of_recurrence(gates: Operand, weight: Operand, *rest: object) -> int:
    return 2 * gates.shape[0] * gates.shape[1] * prod(weight.shape)


def _of_attention(q: Operand, k: Operand, *rest: object) -> int:
    return 4 * prod(q.shape) * k.shape[2]  # two products


def _of_attention_grad(g: object, q: Operand, k: Operand, *rest: object) -> int:
    return 10 * prod(q.shape) * k.shape[2]  # five


# ---- the table ----------------------------------------------------------------------------------


def _required(operands: str, **facts: Any) -> Primitive:
    return Primitive(operands=operands, is_required=True, is_node=True, **facts)


def _elementwise(operands: str) -> Primitive:
    return _required(operands, is_elementwise=True)


def _fused(operands: str, definition: Callable[..., None], **facts: Any) -> Primitive:
    return Primitive(operands=operands, reference=definition, **facts)


def _convolution(definition: Callable[..., None], flops: Callable[..., int]) -> Primitive:
    return _fused("iioaaaa", definition, is_node=True, takes_tensor_cores=True, flops=flops)


def _pooling(operands: str, definition: Callable[..., None]) -> Primitive:
    return _fused(operands, definition, is_node=True)


def _recurrence(operands: str, definition: Callable[..., None]) -> Primitive:
    return _fused(operands, definition, is_node=True, flops=_of_recurrence)


def _attention(
    operands: str, definition: Callable[..., None], flops: Callable[..., int]
) -> Primitive:
    return _fused(operands, definition, is_node=True, takes_tensor_cores=True, flops=flops)


PRIMITIVES: dict[str, Primitive] = {
    "fill": _elementwise("oa"),
    "copy": _elementwise("io"),
    "unary": _elementwise("aio"),
    "binary": _elementwise("aiio"),
    "binary_scalar": _elementwise("aiaoa"),
    "where": _elementwise("iiio"),
    "reduce": _required("aiao"),
    "argreduce": _required("aiao"),
    "cumsum": _required("iao"),
    "argsort": _required("iaao"),
    "matmul": _required("iio?", flops=_of_product),
    "gather_rows": _required("iio"),
    "scatter_add_rows": _required("uii"),
    # Only compiled code knows of this one.
    "matmul_relu": _fused("iio?", reference.matmul_relu, flops=_of_product),
    "softmax": _fused("io", reference.softmax),
    "log_softmax": _fused("io", reference.log_softmax),
    "cross_entropy": _fused("iiooaa", reference.cross_entropy),
    "cross_entropy_grad": _fused("iiiioaa", reference.cross_entropy_grad),
    "batch_norm": _fused("iiiaooo", reference.batch_norm),
    "batch_norm_grad": _fused("iiiiiaooo", reference.batch_norm_grad),
    "layer_norm": _fused("iiiaooo", reference.layer_norm),
    "layer_norm_grad": _fused("iiiiiooo", reference.layer_norm_grad),
    "conv2d": _convolution(reference.conv2d, lambda x, w, y, *_: _of_convolution(x, w, y)),
    "conv2d_input_grad": _convolution(
        reference.conv2d_input_grad, lambda g, w, dx, *_: _of_convolution(dx, w, g)
    ),
    "conv2d_weight_grad": _convolution(
        reference.conv2d_weight_grad, lambda x, g, dw, *_: _of_convolution(x, dw, g)
    ),
    "max_pool2d": _pooling("iooaaaa", reference.max_pool2d),
    "max_pool2d_grad": _pooling("iiiioaaaa", reference.max_pool2d_grad),
    "avg_pool2d": _pooling("ioaaaa", reference.avg_pool2d),
    "avg_pool2d_grad": _pooling("ioaaaa", reference.avg_pool2d_grad),
    "lstm": _recurrence("uiuu", reference.lstm),
    "lstm_grad": _recurrence("uiiiiuu", reference.lstm_grad),
    "rnn": _recurrence("uiua", reference.rnn),
    "rnn_grad": _recurrence("uiiiua", reference.rnn_grad),
    "attention": _attention("iii?ooaa", reference.attention, _of_attention),
    "attention_grad": _attention("iiii?iioooaa", reference.attention_grad, _of_attention_grad),
    "philox": _fused("aiio", reference.philox, is_node=True),
    "sgd": _fused("IIUOaaaaa", reference.sgd),
    "adam": _fused("IIUUOaaaaaaa", reference.adam),
    "sum_of_squares": _fused("Io", reference.sum_of_squares),
}
REQUIRED = tuple(name for name, primitive in PRIMITIVES.items() if primitive.is_required)
# Every device has these as attributes: memory, the way to the host and the required primitives.
FUNCTIONS = ("allocate", "wrap", "view", *REQUIRED)
