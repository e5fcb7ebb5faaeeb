"""In which dtype each op runs: for float16 and bfloat16 Tensors, and under `needle.amp.autocast`.

The table is all there is to it: every op passes through `call`, as Tensors that gradients flow
through. An op that is not in the table runs in the wider of its inputs' dtypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import reduce
from typing import Any

from ..autograd import Tensor, TensorTuple, TensorTupleOp, autocast_dtype, autocasting
from ..backend_ndarray import is_float, is_stored, promote, widened
from .activation import LogSoftmax, Softmax
from .attention import Attention
from .convolution import Conv, ConvInputGrad, ConvWeightGrad
from .elementwise import (
    EWisePow,
    Exp,
    Expm1,
    Log,
    Log1p,
    PowerScalar,
    RDivScalar,
    RPowScalar,
    Rsqrt,
    to,
)
from .linalg import Linear, MatMul
from .loss import CrossEntropy, CrossEntropyGrad
from .normalization import BatchNorm, LayerNorm
from .recurrent import LSTM, RNN
from .reduction import CumSum, LogSumExp, Prod, Summation
from .shape import make_tuple


class Precision(Enum):
    """What an op does with float Tensors below float64."""

    # Its inputs are rounded to autocast's dtype or the widest of theirs, and so is its result.
    PRODUCT = "product"
    # The same for products whose kernels know only float32: they get the rounded inputs in it.
    WIDE_PRODUCT = "wide product"
    # Runs in float32; its result is float32 under autocast, else in its inputs' dtype.
    WIDE = "wide"


TABLE: dict[Precision, tuple[Any, ...]] = {
    Precision.PRODUCT: (MatMul, Linear),
    Precision.WIDE_PRODUCT: (Conv, ConvInputGrad, ConvWeightGrad, Attention, LSTM, RNN),
    Precision.WIDE: (
        Exp, Expm1, Log, Log1p, Rsqrt, EWisePow, PowerScalar, RPowScalar, RDivScalar,
        Summation, Prod, CumSum, LogSumExp,
        Softmax, LogSoftmax, CrossEntropy, CrossEntropyGrad, BatchNorm, LayerNorm,
    ),
}  # fmt: skip
for _precision, _ops in TABLE.items():
    for _op in _ops:
        _op.precision = _precision


def call(op: Any, inputs: Sequence[Any]) -> Any:
    """The result of `op`, which is in the table, on Tensors."""
    target = autocast_dtype()
    dtype = reduce(promote, (x.dtype for x in inputs))
    if target is None and not any(is_stored(x.dtype) for x in inputs):
        return _recorded(op, inputs)
    if not is_float(dtype) or dtype == "float64":
        return _recorded(op, inputs)
    if target is not None:
        dtype = widened(dtype) if op.precision is Precision.WIDE else target
    if op.precision is not Precision.WIDE:
        inputs = [to(x, dtype) for x in inputs]
    if op.precision is not Precision.PRODUCT:
        inputs = [to(x, widened(x.dtype)) for x in inputs]
    with autocasting(None):
        return _as_dtype(_recorded(op, inputs), dtype)


def _recorded(op: Any, inputs: Sequence[Tensor]) -> Any:
    kind = TensorTuple if isinstance(op, TensorTupleOp) else Tensor
    return kind.make_from_op(op, inputs)


def _as_dtype(result: Any, dtype: Any) -> Any:
    if isinstance(result, Tensor):
        return to(result, dtype)
    return make_tuple(*(to(x, dtype) for x in result))


__all__ = ["Precision"]
