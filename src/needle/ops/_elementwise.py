"""Functions of each element of one tensor."""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray, as_device_or_dtype
from ..backend_ndarray.device import BackendDevice
from ..backend_selection import Device
from ..typing import DTypeLike
from ._comparison import equal, where


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
        self, device: BackendDevice | None, dtype: np.dtype | None, non_blocking: bool = False
    ) -> None:
        self.device, self.dtype, self.non_blocking = device, dtype, non_blocking

    def compute(self, a: NDArray) -> NDArray:
        moved = a if self.device is None else a.to(self.device, self.non_blocking)
        return moved if self.dtype is None else moved.astype(self.dtype)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        return To(x.device, x.dtype)(out_grad)


def exp(a: Tensor) -> Tensor:
    """Exponential function of each element.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

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
        Of any shape and dtype.

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
        Of any shape and dtype.
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


def to(a: Tensor, target: Device | DTypeLike, non_blocking: bool = False) -> Tensor:
    """`a` on a device, or converted to a dtype; `target` is either or its name.

    With `non_blocking` a GPU copies from pinned memory itself (`DataLoader(pin_memory=True)`), that
    may not be changed before the copy is done.
    """
    target = as_device_or_dtype(target)
    if isinstance(target, BackendDevice):
        here = target == a.realize_cached_data().device
        return a if here else To(target, None, non_blocking)(a)
    return a if target is a.realize_cached_data().dtype else To(None, target)(a)
