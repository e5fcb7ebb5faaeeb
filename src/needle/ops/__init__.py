"""Every differentiable operator: its forward and its gradient side by side, one file a family."""

import sys
from types import FunctionType

from .. import autograd
from . import precision
from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .checkpoint import *  # noqa: F403
from .common import FusedOp, names_tensors, unbroadcast
from .convolution import *  # noqa: F403
from .elementwise import (
    Abs,
    AddScalar,
    Clip,
    Cos,
    DivScalar,
    Erf,
    EWiseAdd,
    EWiseDiv,
    EWiseMul,
    EWisePow,
    EWiseSub,
    Exp,
    Expm1,
    FusedAddScalars,
    Log,
    Log1p,
    Maximum,
    Minimum,
    MulScalar,
    Negate,
    PowerScalar,
    RDivScalar,
    Remainder,
    RPowScalar,
    Rsqrt,
    RSubScalar,
    Sin,
    Sqrt,
    To,
    Where,
    abs,
    add,
    add_scalar,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    cos,
    divide,
    divide_scalar,
    equal,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    fused_add_scalars,
    greater,
    greater_equal,
    left_shift,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    mul_scalar,
    multiply,
    negate,
    not_equal,
    power,
    power_scalar,
    remainder,
    right_shift,
    round,
    rsqrt,
    sign,
    sin,
    sqrt,
    subtract,
    to,
    where,
)
from .linalg import *  # noqa: F403
from .loss import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pooling import *  # noqa: F403
from .recurrent import *  # noqa: F403
from .reduction import *  # noqa: F403
from .scan import *  # noqa: F403
from .shape import *  # noqa: F403

for _name, _function in list(globals().items()):
    if isinstance(_function, FunctionType) and _name != "names_tensors":
        globals()[_name] = names_tensors(_function)

_NO_OPS = ("FunctionType", "autograd", "names_tensors", "sys")
__all__ = [name for name in dir() if not name.startswith("_") and name not in _NO_OPS]

# Tensor's operators and methods are the functions of this room; autograd, below, cannot import it.
autograd.ops = sys.modules[__name__]
