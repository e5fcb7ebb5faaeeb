"""Which ops are one kernel of the C++ core, or a view that the core makes.

`Op.compute` is the definition of an op. The core runs the kernel without calling it for arrays of
floats on `cpu()`, and makes the view on any device; see `EagerCall` in `needle.autograd.op`.
Everything else passes `compute`.
"""

from __future__ import annotations

from ..autograd import TensorOp
from ..native import core
from . import _elementwise, _transcendental
from ._activation import ReLU, ReLUGrad, Sigmoid, Tanh
from ._arithmetic import EWiseAdd, EWiseDiv, EWiseMul, EWisePow, EWiseSub, Negate
from ._comparison import Maximum, Minimum
from ._elementwise import Abs
from ._indexing import GetItem
from ._linalg import Linear, MatMul
from ._reduction import Summation
from ._scalar_arithmetic import (
    AddScalar,
    DivScalar,
    MulScalar,
    PowerScalar,
    RDivScalar,
    RPowScalar,
    RSubScalar,
    SubScalar,
)
from ._shape import BroadcastTo, Permute, Reshape, Transpose

TABLE: dict[str, dict[type[TensorOp], str]] = {
    "unary": {ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid", Negate: "neg", Abs: "abs"},
    "binary": {
        EWiseAdd: "add", EWiseSub: "sub", EWiseMul: "mul", EWiseDiv: "div", EWisePow: "pow",
        Maximum: "maximum", Minimum: "minimum", ReLUGrad: "relu_grad",
    },
    "scalar": {
        AddScalar: "add", SubScalar: "sub", MulScalar: "mul", DivScalar: "div", PowerScalar: "pow",
    },
    "reflected scalar": {RSubScalar: "sub", RDivScalar: "div", RPowScalar: "pow"},
    "reduce": {Summation: "sum"},
    "matmul": {MatMul: "matmul"},
    "linear": {Linear: "linear"},
    "reshape": {Reshape: "reshape"},
    "swapaxes": {Transpose: "swapaxes"},
    "permute": {Permute: "permute"},
    "broadcast": {BroadcastTo: "broadcast_to"},
    "getitem": {GetItem: "getitem"},
}  # fmt: skip
TABLE["unary"].update(
    (op, op.primitive)
    for module in (_elementwise, _transcendental)
    for op in vars(module).values()
    if isinstance(op, type)
    and issubclass(op, _elementwise._Elementwise)
    and hasattr(op, "primitive")
    and "compute" not in vars(op)
)

if core is not None:
    for _kind, _kernels in TABLE.items():
        for _op, _name in _kernels.items():
            _op.direct = _op.compute, core.direct_kernel(_kind, _name)
