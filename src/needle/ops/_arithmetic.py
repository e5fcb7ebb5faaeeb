"""Arithmetic of tensors and numbers. Two operands broadcast as in NumPy."""

from __future__ import annotations

import math

from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray, is_float
from ..backend_ndarray.dtypes import python_number
from ..backend_selection import BACKEND
from ..operands import Operand
from ..typing import Scalar
from ._common import as_tensors, is_scalar, unbroadcast
from ._comparison import logical_and, where
from ._elementwise import log

# ---- two tensors ----------------------------------------------------------------------------


class EWiseAdd(TensorOp):
    """a + b."""

    saves_values = False

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a + b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        return unbroadcast(out_grad, a), unbroadcast(out_grad, b)


class EWiseSub(TensorOp):
    """a - b."""

    saves_values = False

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a - b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        return unbroadcast(out_grad, a), unbroadcast(-out_grad, b)


class EWiseMul(TensorOp):
    """a · b."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a * b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        a, b = node.inputs
        return (
            unbroadcast(out_grad * b, a) if a.requires_grad else None,
            unbroadcast(out_grad * a, b) if b.requires_grad else None,
        )


class EWiseDiv(TensorOp):
    """a / b."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a / b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        a, b = node.inputs
        return (
            unbroadcast(out_grad / b, a) if a.requires_grad else None,
            # Not -(out_grad / b)·node, which is inf · 0 for a tiny b and an a of 0.
            unbroadcast(-out_grad * (node / b), b) if b.requires_grad else None,
        )


class EWisePow(TensorOp):
    """a ** b. d/da = b·a^(b-1), 0 for b = 0; d/db = a^b·ln a, 0 where a is 0 and b ≥ 0."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a**b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        a, b = node.inputs
        da = db = None
        if a.requires_grad:
            # b = 0 would give 0 · a^-1, which is NaN at a = 0.
            power = where(b == 0, 0.0, b * a ** where(b == 0, 1.0, b - 1))
            da = unbroadcast(out_grad * power, a)
        if b.requires_grad:
            constant = logical_and(a == 0, b >= 0)  # 0 ** b does not grow with b
            db = unbroadcast(out_grad * node * log(where(constant, 1.0, a)), b)
        return da, db


class Remainder(TensorOp):
    """a - b·floor(a / b), with the sign of b. d/da = 1, d/db = -floor(a / b)."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a % b

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        a, b = node.inputs
        db = None
        if b.requires_grad:
            db = unbroadcast(-out_grad * floor_divide(a, b), b)
        return unbroadcast(out_grad, a) if a.requires_grad else None, db


# ---- a tensor and a number ------------------------------------------------------------------


class _ScalarOp(TensorOp):
    """An op with one tensor and one number."""

    def __init__(self, scalar: Scalar) -> None:
        kind = type(scalar)
        self.scalar = scalar if kind is float or kind is int else python_number(scalar)


class AddScalar(_ScalarOp):
    """a + scalar."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a + self.scalar

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad


class SubScalar(_ScalarOp):
    """a - scalar."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a - self.scalar

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad


class RSubScalar(_ScalarOp):
    """scalar - a."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return self.scalar - a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return -out_grad


class MulScalar(_ScalarOp):
    """a · scalar."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a * self.scalar

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * self.scalar


class DivScalar(_ScalarOp):
    """a / scalar."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a / self.scalar

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad / self.scalar


class RDivScalar(_ScalarOp):
    """scalar / a. The derivative is -scalar / a²."""

    def compute(self, a: NDArray) -> NDArray:
        return self.scalar / a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return -out_grad * node / node.inputs[0]


class PowerScalar(_ScalarOp):
    """a ** scalar."""

    def compute(self, a: NDArray) -> NDArray:
        return a**self.scalar

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        if self.scalar == 0:
            return out_grad * 0.0
        return out_grad * (self.scalar * node.inputs[0] ** (self.scalar - 1))


class RPowScalar(_ScalarOp):
    """scalar ** a. The derivative is scalar**a · ln scalar, 0 for scalar 0 and a ≥ 0."""

    def compute(self, a: NDArray) -> NDArray:
        return self.scalar**a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        if self.scalar == 0:
            return where(node.inputs[0] >= 0, 0.0, out_grad * (node * -math.inf))
        return out_grad * (node * (math.log(self.scalar) if self.scalar > 0 else math.nan))


class FusedAddScalars(TensorTupleOp):
    """The two tensors a + c0 and a + c1."""

    saves_values = False

    def __init__(self, c0: float, c1: float) -> None:
        self.c0, self.c1 = c0, c1

    def compute(self, a: NDArray) -> tuple[NDArray, NDArray]:
        return a + self.c0, a + self.c1

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        return out_grad[0] + out_grad[1]


# ---- one tensor -----------------------------------------------------------------------------


class Negate(TensorOp):
    """-a."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return -a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return -out_grad


# ---- the functions --------------------------------------------------------------------------


def _two(
    tensor_op: type[TensorOp],
    scalar_op: type[_ScalarOp],
    a: Operand,
    b: Operand,
    what: str,
    reflected: type[_ScalarOp] | None = None,
) -> Tensor:
    """`tensor_op` on two tensors; with a number, `scalar_op` for `b` or `reflected` for `a`."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_op()(a, b)
        if is_scalar(b):
            return scalar_op(b)(a)
    elif reflected is not None and isinstance(b, Tensor) and is_scalar(a):
        return reflected(a)(b)
    return tensor_op()(*as_tensors(a, b, what))


def add(a: Operand, b: Operand) -> Tensor:
    """a + b with broadcasting; either may be a number."""
    if is_scalar(a):
        a, b = b, a
    return _two(EWiseAdd, AddScalar, a, b, "add")


def add_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """a + scalar."""
    return AddScalar(scalar)(a)


def subtract(a: Operand, b: Operand) -> Tensor:
    """a - b with broadcasting; either may be a number."""
    if is_scalar(a) and isinstance(b, Tensor):
        return RSubScalar(a)(b)
    if is_scalar(b) and isinstance(a, Tensor):
        number = b if type(b) is float else python_number(b)
        # A dtype of integers may not hold the negative number.
        negated = type(number) is float or (BACKEND == "np" and is_float(a.dtype))
        return AddScalar(-number)(a) if negated else SubScalar(number)(a)
    a, b = as_tensors(a, b, "subtract")
    if BACKEND == "np":  # the reference, whose graph is the one that the course draws
        return EWiseAdd()(a, Negate()(b))
    return EWiseSub()(a, b)


def multiply(a: Operand, b: Operand) -> Tensor:
    """a · b element by element with broadcasting; either may be a number."""
    if is_scalar(a):
        a, b = b, a
    return _two(EWiseMul, MulScalar, a, b, "multiply")


def mul_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """a · scalar."""
    return MulScalar(scalar)(a)


def divide(a: Operand, b: Operand) -> Tensor:
    """a / b with broadcasting; either may be a number. Integers divide to float32."""
    return _two(EWiseDiv, DivScalar, a, b, "divide", RDivScalar)


def divide_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """a / scalar."""
    return DivScalar(scalar)(a)


def floor_divide(a: Operand, b: Operand) -> Tensor:
    """a / b rounded down, in their dtype; either may be a number. No gradient flows."""
    a, b = as_tensors(a, b, "floor_divide")
    return Tensor.make_const(a.realize_cached_data() // b.realize_cached_data())


def remainder(a: Operand, b: Operand) -> Tensor:
    """What is left of a when divided by b and rounded down; either may be a number."""
    return Remainder()(*as_tensors(a, b, "remainder"))


def power(a: Operand, b: Operand) -> Tensor:
    """a ** b with broadcasting; either may be a number."""
    return _two(EWisePow, PowerScalar, a, b, "power", RPowScalar)


def power_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """a ** scalar."""
    return PowerScalar(scalar)(a)


def fused_add_scalars(x: Tensor, c0: float, c1: float) -> TensorTuple:
    """The TensorTuple (x + c0, x + c1)."""
    return FusedAddScalars(c0, c1)(x)


def negate(a: Tensor) -> Tensor:
    """-a."""
    return Negate()(a)
