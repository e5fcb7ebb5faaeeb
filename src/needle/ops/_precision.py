"""In which dtype each op runs: for Tensors of integers, of float16 and bfloat16, and under
`needle.amp.autocast`.

The tables are all there is to it: every op in them passes through `call` then. An op that is not in
one runs in the widest of its inputs' dtypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import reduce
from typing import Any

import numpy as np

from ..autograd import (
    Op,
    Tensor,
    TensorOp,
    TensorTuple,
    TensorTupleOp,
    autocast_dtype,
    is_grad_enabled,
)
from ..backend_ndarray import is_float, promote, widened
from ..backend_ndarray.dtypes import computed_dtype, float_dtype
from ._activation import LogSoftmax, Softmax
from ._arithmetic import EWisePow
from ._attention import Attention
from ._common import Fused
from ._convolution import Conv, ConvInputGrad, ConvWeightGrad
from ._elementwise import Exp, Expm1, Log, Log1p, Rsqrt
from ._joining import make_tuple
from ._linalg import Linear, MatMul
from ._loss import CrossEntropy, CrossEntropyGrad
from ._normalization import BatchNorm, LayerNorm
from ._pooling import AvgPool, AvgPoolGrad
from ._recurrent import LSTM, RNN
from ._reduction import CumSum, LogSumExp, Prod, Summation
from ._scalar_arithmetic import PowerScalar, RDivScalar, RPowScalar
from ._transcendental import Acos, Asin, Cosh, Exp2, Log2, Log10, Sinh, Tan


class Precision(Enum):
    """What an op does with float Tensors below float64."""

    # Its inputs are rounded to autocast's dtype or the widest of theirs, and so is its result.
    PRODUCT = "product"
    # The same for products that keep what they compute for the gradient: they run in float32, on
    # the rounded inputs, where the device's kernel does not take these as they are.
    WIDE_PRODUCT = "wide product"
    # Runs in float32; its result is float32 under autocast, else in its inputs' dtype.
    WIDE = "wide"


TABLE: dict[Precision, tuple[type[Op], ...]] = {
    Precision.PRODUCT: (MatMul, Linear, Conv, ConvInputGrad, ConvWeightGrad),
    Precision.WIDE_PRODUCT: (Attention, LSTM, RNN),
    Precision.WIDE: (
        Exp, Exp2, Expm1, Log, Log2, Log10, Log1p, Tan, Asin, Acos, Sinh, Cosh, Rsqrt,
        EWisePow, PowerScalar, RPowScalar, RDivScalar,
        Summation, Prod, CumSum, LogSumExp, AvgPool, AvgPoolGrad,
        Softmax, LogSoftmax, CrossEntropy, CrossEntropyGrad, BatchNorm, LayerNorm,
    ),
}  # fmt: skip
for _precision, _ops in TABLE.items():
    for _op in _ops:
        _op.precision = _precision

# Those among them that give floats: integers and bools are converted first.
FLOATS: tuple[type[Op], ...] = (
    Conv, ConvInputGrad, ConvWeightGrad, Attention, LSTM, RNN, LogSumExp, Softmax, LogSoftmax,
    CrossEntropy, CrossEntropyGrad, BatchNorm, LayerNorm,
)  # fmt: skip
for _op in FLOATS:
    _op.takes_integers = False


def _kernel(op: Op) -> str:
    assert isinstance(op, Fused)
    return op.kernel


def call(op: Op, inputs: Sequence[Any]) -> Any:
    """The result of `op`, which is in the table, on Tensors; under autocast, of integers or of 16
    bits."""
    target = autocast_dtype()
    dtype = reduce(promote, (x.dtype for x in inputs))
    if not is_float(dtype) and not op.takes_integers:
        return _converted(op, [computed_dtype(dtype)], float_dtype(dtype), inputs)
    if not is_float(dtype) or dtype == "float64":
        return _recorded(op, inputs)
    if target is not None:
        dtype = widened(dtype) if op.precision is Precision.WIDE else target
    steps = [widened(dtype)] if op.precision is Precision.WIDE else [dtype]
    wide = op.precision is Precision.WIDE_PRODUCT
    if wide and not inputs[0].device.takes_stored(_kernel(op), dtype):
        steps.append(widened(dtype))
    if len(steps) == 1 and steps[0] is dtype and all(x.dtype is dtype for x in inputs):
        return _recorded(op, inputs)
    return _converted(op, steps, dtype, inputs)


def _converted(op: Op, steps: Sequence[np.dtype], dtype: np.dtype, inputs: Sequence[Tensor]) -> Any:
    kind = _ConvertedTuple if isinstance(op, TensorTupleOp) else _Converted
    return _recorded(kind(op, steps, dtype), inputs)


def _recorded(op: Op, inputs: Sequence[Tensor]) -> Any:
    kind = TensorTuple if isinstance(op, TensorTupleOp) else Tensor
    return kind.make_from_op(op, inputs)


class _Conversion(Op):
    """`op` on inputs that are converted to one dtype after the other, its result to `dtype`.

    Only the inputs as they came are kept: the gradient converts them again.
    """

    def __init__(self, op: Op, steps: Sequence[np.dtype], dtype: np.dtype) -> None:
        self.op, self.steps, self.dtype = op, steps, dtype
        self.saves_values = op.saves_values

    def _converted(self, x: Any) -> Any:
        """An input, an array or a Tensor."""
        for dtype in self.steps:
            x = x.astype(dtype)
        return x

    def _each(self, x: Any, dtype: np.dtype) -> Any:
        """A result in `dtype`: an array or a Tensor, or several."""
        if isinstance(x, TensorTuple):
            return make_tuple(*(member.astype(dtype) for member in x))
        return tuple(a.astype(dtype) for a in x) if isinstance(x, tuple) else x.astype(dtype)

    def compute(self, *arrays: Any) -> Any:
        return self._each(self.op.compute(*map(self._converted, arrays)), self.dtype)

    def gradient(self, out_grad: Any, node: Any) -> tuple[Any, ...]:
        inputs = [self._input(x) for x in node.inputs]
        # The node of `op` that there would be, had the conversions been recorded.
        kind: Any = type(node)
        inner, wide = kind.__new__(kind), self.steps[-1]
        data = self._each(node.realize_cached_data(), wide)
        inner._init(self.op, inputs, data, is_grad_enabled())
        gradients = self.op.gradient_as_tuple(self._each(out_grad, wide), inner)
        return tuple(
            None if g is None else g.astype(x.dtype)
            for g, x in zip(gradients, node.inputs, strict=True)
        )

    def _input(self, x: Tensor) -> Tensor:
        converted: Tensor = self._converted(x)
        if converted.requires_grad == x.requires_grad:
            return converted
        return Tensor.make_const(converted.realize_cached_data(), requires_grad=x.requires_grad)


class _Converted(_Conversion, TensorOp):
    """A conversion of an op whose result is a Tensor."""


class _ConvertedTuple(_Conversion, TensorTupleOp):
    """A conversion of an op whose result is a TensorTuple."""


__all__ = ["Precision"]
