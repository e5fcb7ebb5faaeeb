"""Arithmetic of a tensor and a number."""

from __future__ import annotations

import math

from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray
from ..backend_ndarray.dtypes import python_number
from ..typing import Scalar
from ._comparison import where


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


def add_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """Sum of a tensor and a number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    scalar : number
        The second operand.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.add_scalar(ndl.Tensor([1, 2]), 3)
    needle.Tensor([4. 5.])
    """
    return AddScalar(scalar)(a)


def mul_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """Product of a tensor and a number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    scalar : number
        The second operand.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.mul_scalar(ndl.Tensor([1, 2]), 3)
    needle.Tensor([3. 6.])
    """
    return MulScalar(scalar)(a)


def divide_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """Quotient of a tensor and a number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    scalar : number
        The second operand.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.divide_scalar(ndl.Tensor([1, 2]), 4)
    needle.Tensor([0.25 0.5 ])
    """
    return DivScalar(scalar)(a)


def power_scalar(a: Tensor, scalar: Scalar) -> Tensor:
    """Power of a tensor with a number as its exponent.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    scalar : number
        The second operand.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.power_scalar(ndl.Tensor([1, 2]), 2)
    needle.Tensor([1. 4.])
    """
    return PowerScalar(scalar)(a)


def fused_add_scalars(x: Tensor, c0: float, c1: float) -> TensorTuple:
    """Two sums of one tensor: the TensorTuple (x + c0, x + c1).

    Parameters
    ----------
    x : Tensor
        Of any shape and dtype.
    c0, c1 : number
        The numbers.

    Returns
    -------
    TensorTuple
        Two tensors of the shape of `x`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fused_add_scalars(ndl.Tensor([1, 2]), 1, 10)[1]
    needle.Tensor([11. 12.])
    """
    return FusedAddScalars(c0, c1)(x)
