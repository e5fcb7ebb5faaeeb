"""Element-wise arithmetic, functions and comparisons. Two operands broadcast as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray, as_device_or_dtype, is_float
from ..backend_ndarray.device import BackendDevice
from ..backend_ndarray.dtypes import python_number
from ..backend_selection import BACKEND
from ._common import as_tensor, as_tensors, is_scalar, unbroadcast

# ---- arithmetic of two tensors --------------------------------------------------------------


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


class Maximum(TensorOp):
    """max(a, b), NaN where either is.

    Equal elements share the gradient in halves; where either is NaN, both get all of it.
    """

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a.maximum(b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        return _choice_gradient(out_grad, node, less, greater)


class Minimum(TensorOp):
    """min(a, b), NaN where either is; the gradient is shared as that of `Maximum`."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a.minimum(b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        return _choice_gradient(out_grad, node, greater, less)


def _choice_gradient(
    out_grad: Tensor, node: Tensor, a_loses: Any, b_loses: Any
) -> tuple[Tensor, Tensor]:
    a, b = node.inputs
    share = where(equal(a, b), out_grad * 0.5, out_grad)
    return (
        unbroadcast(where(a_loses(a, b), 0.0, share), a),
        unbroadcast(where(b_loses(a, b), 0.0, share), b),
    )


class Where(TensorOp):
    """`a` where cond is nonzero, else `b`."""

    saves_values = False

    def __init__(self, cond: NDArray) -> None:
        self.cond = cond

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return nd.where(self.cond, a, b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        cond = Tensor.make_const(self.cond)
        return (
            unbroadcast(where(cond, out_grad, 0.0), a),
            unbroadcast(where(cond, 0.0, out_grad), b),
        )


# ---- arithmetic with a number ---------------------------------------------------------------


class _ScalarOp(TensorOp):
    """An op with one tensor and one number."""

    def __init__(self, scalar: Any) -> None:
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

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad[0] + out_grad[1]


# ---- functions of one tensor ----------------------------------------------------------------


class Negate(TensorOp):
    """-a."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return -a

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return -out_grad


class _Elementwise(TensorOp):
    """A function that a device primitive of the same name computes."""

    primitive: str

    def compute(self, a: NDArray) -> NDArray:
        return a._unary_float(self.primitive)


class Exp(_Elementwise):
    """e^a, its own derivative."""

    primitive = "exp"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * node


class Log(_Elementwise):
    """ln a."""

    primitive = "log"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad / node.inputs[0]


class Log1p(_Elementwise):
    """ln(1 + a), exact near 0."""

    primitive = "log1p"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad / (node.inputs[0] + 1.0)


class Expm1(_Elementwise):
    """e^a - 1, exact near 0. The derivative is e^a, of which node + 1 loses digits below 0."""

    primitive = "expm1"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * exp(node.inputs[0])


class Sqrt(_Elementwise):
    """√a."""

    primitive = "sqrt"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * 0.5 / node


class Rsqrt(_Elementwise):
    """1/√a. The derivative is -½·a^(-3/2) = -½·node³."""

    primitive = "rsqrt"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * (-0.5 * node * node * node)


class Sin(_Elementwise):
    """sin a, in radians."""

    primitive = "sin"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * cos(node.inputs[0])


class Cos(_Elementwise):
    """cos a, in radians."""

    primitive = "cos"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return -out_grad * sin(node.inputs[0])


class Erf(_Elementwise):
    """The error function. d/da erf a = 2/√π · exp(-a²)."""

    primitive = "erf"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * (exp(-(a * a)) * (2 / math.sqrt(math.pi)))


class Abs(TensorOp):
    """|a|; the derivative at 0 is taken as 0."""

    def compute(self, a: NDArray) -> NDArray:
        return a._unary("abs")

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * sign(node.inputs[0])


class Clip(TensorOp):
    """a moved into [low, high]; the gradient passes where a was inside, bounds included."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def compute(self, a: NDArray) -> NDArray:
        return a.clip(self.low, self.high)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        inside = equal(a, node)
        return where(inside, out_grad, 0.0)


class To(TensorOp):
    """The tensor on another device or in another dtype; its gradient goes back the same way."""

    saves_values = False

    def __init__(
        self, device: BackendDevice | None, dtype: Any, non_blocking: bool = False
    ) -> None:
        self.device, self.dtype, self.non_blocking = device, dtype, non_blocking

    def compute(self, a: NDArray) -> NDArray:
        moved = a if self.device is None else a.to(self.device, self.non_blocking)
        return moved if self.dtype is None else moved.astype(self.dtype)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        return To(x.device, x.dtype)(out_grad)


# ---- the functions --------------------------------------------------------------------------


def _two(
    tensor_op: type[TensorOp], scalar_op: Any, a: Any, b: Any, what: str, reflected: Any = None
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


def add(a: Any, b: Any) -> Tensor:
    """a + b with broadcasting; either may be a number."""
    if is_scalar(a):
        a, b = b, a
    return _two(EWiseAdd, AddScalar, a, b, "add")


def add_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a + scalar."""
    return AddScalar(scalar)(a)


def subtract(a: Any, b: Any) -> Tensor:
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


def multiply(a: Any, b: Any) -> Tensor:
    """a · b element by element with broadcasting; either may be a number."""
    if is_scalar(a):
        a, b = b, a
    return _two(EWiseMul, MulScalar, a, b, "multiply")


def mul_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a · scalar."""
    return MulScalar(scalar)(a)


def divide(a: Any, b: Any) -> Tensor:
    """a / b with broadcasting; either may be a number. Integers divide to float32."""
    return _two(EWiseDiv, DivScalar, a, b, "divide", RDivScalar)


def divide_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a / scalar."""
    return DivScalar(scalar)(a)


def floor_divide(a: Any, b: Any) -> Tensor:
    """a / b rounded down, in their dtype; either may be a number. No gradient flows."""
    a, b = as_tensors(a, b, "floor_divide")
    return Tensor.make_const(a.realize_cached_data() // b.realize_cached_data())


def remainder(a: Any, b: Any) -> Tensor:
    """What is left of a when divided by b and rounded down; either may be a number."""
    return Remainder()(*as_tensors(a, b, "remainder"))


def power(a: Any, b: Any) -> Tensor:
    """a ** b with broadcasting; either may be a number."""
    return _two(EWisePow, PowerScalar, a, b, "power", RPowScalar)


def power_scalar(a: Tensor, scalar: Any) -> Tensor:
    """a ** scalar."""
    return PowerScalar(scalar)(a)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of each pair; NaN where either is NaN."""
    return Maximum()(*as_tensors(a, b, "maximum"))


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of each pair; NaN where either is NaN."""
    return Minimum()(*as_tensors(a, b, "minimum"))


def where(cond: Any, a: Any, b: Any) -> Tensor:
    """Choose between two values by a condition, element by element.

    The three arguments broadcast; at least one is a Tensor. No gradient flows to the condition.

    Parameters
    ----------
    cond : Tensor, array or number
        Nonzero or True where `a` is chosen.
    a : Tensor, array or number
        The values where the condition holds.
    b : Tensor, array or number
        The values elsewhere.

    Returns
    -------
    Tensor
        The broadcast shape.

    Raises
    ------
    TypeError
        If none of the arguments is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([-1, 2])
    >>> ndl.where(x > 0, x, 10)
    needle.Tensor([10.  2.])
    """
    like = next((x for x in (a, b, cond) if isinstance(x, Tensor)), None)
    if like is None:
        raise TypeError("[where] needs a Tensor among cond, a and b")
    cond = as_tensor(cond, like)
    if is_scalar(a) and is_scalar(b):
        like = Tensor.make_const(cond.device.zeros(()))
    elif not isinstance(a, Tensor) or is_scalar(b):
        like = b if isinstance(b, Tensor) else as_tensor(a, cond)
    return Where(cond.realize_cached_data())(as_tensor(a, like), as_tensor(b, like))


def fused_add_scalars(x: Tensor, c0: float, c1: float) -> TensorTuple:
    """The TensorTuple (x + c0, x + c1)."""
    return FusedAddScalars(c0, c1)(x)


def negate(a: Tensor) -> Tensor:
    """-a."""
    return Negate()(a)


def exp(a: Tensor) -> Tensor:
    """Exponential function of each element.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.exp(ndl.Tensor([0, -1000]))
    needle.Tensor([1. 0.])
    """
    return Exp()(a)


def log(a: Tensor) -> Tensor:
    """Natural logarithm of each element: -inf at 0, NaN below.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.log(ndl.Tensor([1, 0]))
    needle.Tensor([  0. -inf])
    """
    return Log()(a)


def log1p(a: Tensor) -> Tensor:
    """ln(1 + a), exact near 0."""
    return Log1p()(a)


def expm1(a: Tensor) -> Tensor:
    """e^a - 1, exact near 0."""
    return Expm1()(a)


def sqrt(a: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return Sqrt()(a)


def rsqrt(a: Tensor) -> Tensor:
    """1 / √a."""
    return Rsqrt()(a)


def sin(a: Tensor) -> Tensor:
    """Sine of radians."""
    return Sin()(a)


def cos(a: Tensor) -> Tensor:
    """Cosine of radians."""
    return Cos()(a)


def erf(a: Tensor) -> Tensor:
    """The error function."""
    return Erf()(a)


def abs(a: Tensor) -> Tensor:
    """|a|."""
    return Abs()(a)


def sign(a: Tensor) -> Tensor:
    """-1, 0 or 1. Piecewise constant: no gradient flows."""
    return Tensor.make_const(a.realize_cached_data()._unary("sign"))


def floor(a: Tensor) -> Tensor:
    """The largest integer not above each element. No gradient flows."""
    return _rounded(a, "floor")


def ceil(a: Tensor) -> Tensor:
    """The smallest integer not below each element. No gradient flows."""
    return _rounded(a, "ceil")


def round(a: Tensor) -> Tensor:
    """The nearest integer, ties to even. No gradient flows."""
    return _rounded(a, "round")


def _rounded(a: Tensor, primitive: str) -> Tensor:
    return Tensor.make_const(a.realize_cached_data()._rounded(primitive))


def clip(a: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Limit each element to the interval [low, high].

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    low, high : float, optional
        The bounds; None leaves that side open.

    Returns
    -------
    Tensor
        The shape of `a`.

    Raises
    ------
    ValueError
        If `low` exceeds `high`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.clip(ndl.Tensor([-2, 0.5, 3]), -1, 1)
    needle.Tensor([-1.   0.5  1. ])
    """
    if low is not None and high is not None and low > high:
        raise ValueError(f"[clip] low must not exceed high, got low={low} and high={high}")
    return Clip(low, high)(a)


def to(a: Tensor, target: Any, non_blocking: bool = False) -> Tensor:
    """`a` on a device, or converted to a dtype; `target` is either or its name.

    With `non_blocking` a GPU copies from pinned memory itself (`DataLoader(pin_memory=True)`), that
    may not be changed before the copy is done.
    """
    target = as_device_or_dtype(target)
    if isinstance(target, BackendDevice):
        here = target == a.realize_cached_data().device
        return a if here else To(target, None, non_blocking)(a)
    return a if target is a.realize_cached_data().dtype else To(None, target)(a)


def _comparison(op: str, a: Any, b: Any, what: str) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(a.realize_cached_data().compare(op, b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(a.realize_cached_data().compare(op, b.realize_cached_data()))


def _on_bits(method: Callable[[NDArray, Any], NDArray], a: Any, b: Any, what: str) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(method(a.realize_cached_data(), b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(method(a.realize_cached_data(), b.realize_cached_data()))


def bitwise_and(a: Any, b: Any) -> Tensor:
    """a & b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(NDArray.__and__, a, b, "bitwise_and")


def bitwise_or(a: Any, b: Any) -> Tensor:
    """a | b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(NDArray.__or__, a, b, "bitwise_or")


def bitwise_xor(a: Any, b: Any) -> Tensor:
    """a ^ b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(NDArray.__xor__, a, b, "bitwise_xor")


def left_shift(a: Any, b: Any) -> Tensor:
    """a << b of integers, 0 where b is negative or all bits are gone; either may be a number."""
    return _on_bits(NDArray.__lshift__, a, b, "left_shift")


def right_shift(a: Any, b: Any) -> Tensor:
    """a >> b of integers, rounded down, 0 or -1 where b is negative or all bits are gone.

    Either may be a number.
    """
    return _on_bits(NDArray.__rshift__, a, b, "right_shift")


def bitwise_not(a: Tensor) -> Tensor:
    """~a of integers or bools: every bit is the other."""
    return Tensor.make_const(~a.realize_cached_data())


def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether both bool tensors are true, with broadcasting."""
    return Tensor.make_const(
        a.realize_cached_data()._binary("logical_and", b.realize_cached_data())
    )


def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether either bool tensor is true, with broadcasting."""
    return Tensor.make_const(a.realize_cached_data()._binary("logical_or", b.realize_cached_data()))


def equal(a: Any, b: Any) -> Tensor:
    """A bool tensor: a == b element by element."""
    return _comparison("eq", a, b, "equal")


def not_equal(a: Any, b: Any) -> Tensor:
    """A bool tensor: a != b element by element."""
    return _comparison("ne", a, b, "not_equal")


def less(a: Any, b: Any) -> Tensor:
    """A bool tensor: a < b element by element."""
    return _comparison("lt", a, b, "less")


def less_equal(a: Any, b: Any) -> Tensor:
    """A bool tensor: a <= b element by element."""
    return _comparison("le", a, b, "less_equal")


def greater(a: Any, b: Any) -> Tensor:
    """A bool tensor: a > b element by element."""
    return _comparison("gt", a, b, "greater")


def greater_equal(a: Any, b: Any) -> Tensor:
    """A bool tensor: a >= b element by element."""
    return _comparison("ge", a, b, "greater_equal")
