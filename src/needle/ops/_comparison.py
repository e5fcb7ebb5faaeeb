"""Comparisons, logic, operations on bits, and choices between two values.

Two operands broadcast as in NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray
from ..operands import Operand
from ..typing import Scalar
from ._common import as_tensor, as_tensors, is_scalar, unbroadcast

_Comparison = Callable[[Tensor, Tensor], Tensor]


def _comparison(op: str, a: Operand, b: object, what: str) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(a.realize_cached_data().compare(op, b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(a.realize_cached_data().compare(op, b.realize_cached_data()))


def equal(a: Operand, b: object) -> Tensor:
    """A bool tensor: a == b element by element."""
    return _comparison("eq", a, b, "equal")


def not_equal(a: Operand, b: object) -> Tensor:
    """A bool tensor: a != b element by element."""
    return _comparison("ne", a, b, "not_equal")


def less(a: Operand, b: Operand) -> Tensor:
    """A bool tensor: a < b element by element."""
    return _comparison("lt", a, b, "less")


def less_equal(a: Operand, b: Operand) -> Tensor:
    """A bool tensor: a <= b element by element."""
    return _comparison("le", a, b, "less_equal")


def greater(a: Operand, b: Operand) -> Tensor:
    """A bool tensor: a > b element by element."""
    return _comparison("gt", a, b, "greater")


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """A bool tensor: a >= b element by element."""
    return _comparison("ge", a, b, "greater_equal")


def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether both bool tensors are true, with broadcasting."""
    return Tensor.make_const(
        a.realize_cached_data()._binary("logical_and", b.realize_cached_data())
    )


def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether either bool tensor is true, with broadcasting."""
    return Tensor.make_const(a.realize_cached_data()._binary("logical_or", b.realize_cached_data()))


def _on_bits(
    operation: Callable[[NDArray, NDArray | Scalar], NDArray], a: Operand, b: Operand, what: str
) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(operation(a.realize_cached_data(), b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(operation(a.realize_cached_data(), b.realize_cached_data()))


def bitwise_and(a: Operand, b: Operand) -> Tensor:
    """a & b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(operator.and_, a, b, "bitwise_and")


def bitwise_or(a: Operand, b: Operand) -> Tensor:
    """a | b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(operator.or_, a, b, "bitwise_or")


def bitwise_xor(a: Operand, b: Operand) -> Tensor:
    """a ^ b of integers or bools, with broadcasting; either may be a number."""
    return _on_bits(operator.xor, a, b, "bitwise_xor")


def bitwise_not(a: Tensor) -> Tensor:
    """~a of integers or bools: every bit is the other."""
    return Tensor.make_const(~a.realize_cached_data())


def left_shift(a: Operand, b: Operand) -> Tensor:
    """a << b of integers, 0 where b is negative or all bits are gone; either may be a number."""
    return _on_bits(operator.lshift, a, b, "left_shift")


def right_shift(a: Operand, b: Operand) -> Tensor:
    """a >> b of integers, rounded down, 0 or -1 where b is negative or all bits are gone.

    Either may be a number.
    """
    return _on_bits(operator.rshift, a, b, "right_shift")


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


def where(cond: Operand, a: Operand, b: Operand) -> Tensor:
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
    out_grad: Tensor, node: Tensor, a_loses: _Comparison, b_loses: _Comparison
) -> tuple[Tensor, Tensor]:
    a, b = node.inputs
    share = where(equal(a, b), out_grad * 0.5, out_grad)
    return (
        unbroadcast(where(a_loses(a, b), 0.0, share), a),
        unbroadcast(where(b_loses(a, b), 0.0, share), b),
    )


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of each pair; NaN where either is NaN."""
    return Maximum()(*as_tensors(a, b, "maximum"))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of each pair; NaN where either is NaN."""
    return Minimum()(*as_tensors(a, b, "minimum"))
