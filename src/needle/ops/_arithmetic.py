"""Arithmetic of tensors and numbers. Two operands broadcast as in NumPy."""

from __future__ import annotations

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray, is_float, promote
from ..backend_ndarray.dtypes import python_number
from ..backend_selection import BACKEND
from ..operands import Operand
from ..typing import Scalar
from ._common import as_tensors, is_scalar, unbroadcast
from ._comparison import logical_and, where
from ._elementwise import abs, ceil, floor, log
from ._scalar_arithmetic import (
    AddScalar,
    DivScalar,
    MulScalar,
    PowerScalar,
    RDivScalar,
    RPowScalar,
    RSubScalar,
    SubScalar,
    _ScalarOp,
)

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


def add(a: Operand, b: Operand, *, alpha: Scalar = 1) -> Tensor:
    """Sum of two operands, a + alpha · b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.
    alpha : number, default 1
        A factor of `b`.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.add(ndl.Tensor([1, 2]), 3)
    needle.Tensor([4. 5.])
    """
    if alpha != 1:
        a, b = as_tensors(a, b, "add")
        b = MulScalar(alpha)(b)
    if not isinstance(a, Tensor) and is_scalar(a):
        a, b = b, a
    return _two(EWiseAdd, AddScalar, a, b, "add")


def subtract(a: Operand, b: Operand, *, alpha: Scalar = 1) -> Tensor:
    """Difference of two operands, a - alpha · b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.
    alpha : number, default 1
        A factor of `b`.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.subtract(5, ndl.Tensor([1, 2]))
    needle.Tensor([4. 3.])
    """
    if alpha != 1:
        a, b = as_tensors(a, b, "subtract")
        b = MulScalar(alpha)(b)
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
    """Product of two operands, element by element.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.multiply(ndl.Tensor([1, 2]), ndl.Tensor([[10], [20]])).tolist()
    [[10.0, 20.0], [20.0, 40.0]]
    """
    if not isinstance(a, Tensor) and is_scalar(a):
        a, b = b, a
    return _two(EWiseMul, MulScalar, a, b, "multiply")


def divide(a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """Quotient of two operands, a / b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.
    rounding_mode : {"floor", "trunc"}, optional
        Round down, as `floor_divide` does, or towards 0.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype; float32 for integers and bools.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast, or for another `rounding_mode`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.divide(1, ndl.Tensor([2, 4]))
    needle.Tensor([0.5  0.25])
    """
    if rounding_mode is not None:
        return _rounded_quotient(a, b, rounding_mode)
    return _two(EWiseDiv, DivScalar, a, b, "divide", RDivScalar)


def _rounded_quotient(a: Operand, b: Operand, rounding_mode: str) -> Tensor:
    if rounding_mode not in ("floor", "trunc"):
        raise ValueError(
            f"[divide] rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}"
        )
    if rounding_mode == "floor":
        return floor_divide(a, b)
    a, b = as_tensors(a, b, "divide")
    if is_float(promote(a.dtype, b.dtype)):
        quotient = a / b
        return where(quotient < 0, ceil(quotient), floor(quotient))
    magnitude = floor_divide(abs(a), abs(b))
    return where((a < 0) != (b < 0), -magnitude, magnitude)


def floor_divide(a: Operand, b: Operand) -> Tensor:
    """Quotient rounded down, a // b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.floor_divide(ndl.Tensor([7, -7]), 2)
    needle.Tensor([ 3. -4.])
    """
    a, b = as_tensors(a, b, "floor_divide")
    return Tensor.make_const(a.realize_cached_data() // b.realize_cached_data())


def rsub(a: Operand, b: Operand, *, alpha: Scalar = 1) -> Tensor:
    """b - alpha · a: `subtract` with its operands exchanged.

    Parameters
    ----------
    a : Tensor or number
        They broadcast; at least one is a Tensor.
    b : Tensor or number
        The other operand.
    alpha : number, default 1
        A factor of `a`.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.rsub(ndl.Tensor([1, 2]), 10)
    needle.Tensor([9. 8.])
    """
    return subtract(b, a, alpha=alpha)


def remainder(a: Operand, b: Operand) -> Tensor:
    """Remainder of a floor division, with the sign of b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.remainder(ndl.Tensor([7, -7]), 3)
    needle.Tensor([1. 2.])
    """
    return Remainder()(*as_tensors(a, b, "remainder"))


def power(a: Operand, b: Operand) -> Tensor:
    """Power of two operands, a ** b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.power(ndl.Tensor([2, 3]), 2)
    needle.Tensor([4. 9.])
    """
    return _two(EWisePow, PowerScalar, a, b, "power", RPowScalar)


def negate(a: Tensor) -> Tensor:
    """Negative of each element.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.negate(ndl.Tensor([1, -2]))
    needle.Tensor([-1.  2.])
    """
    return Negate()(a)
