"""Functions of each element of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray, as_device_or_dtype, is_stored
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


class Step(_Elementwise):
    """A piecewise constant function, whose gradient is 0 as in PyTorch."""

    saves_values = False

    def __init__(self, function: Callable[[NDArray], NDArray]) -> None:
        self.function = function

    def compute(self, a: NDArray) -> NDArray:
        return self.function(a)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Tensor.make_const(node.device.zeros(node.shape, node.dtype))


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
    """Natural logarithm of 1 + a, exact near 0.

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
    >>> ndl.log1p(ndl.Tensor([0, 1e-8])).tolist()[1] > 0
    True
    """
    return Log1p()(a)


def expm1(a: Tensor) -> Tensor:
    """Exponential function minus 1, exact near 0.

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
    >>> ndl.expm1(ndl.Tensor([0, -1000]))
    needle.Tensor([ 0. -1.])
    """
    return Expm1()(a)


def sqrt(a: Tensor) -> Tensor:
    """Square root of each element; NaN below 0.

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
    >>> ndl.sqrt(ndl.Tensor([4, 9]))
    needle.Tensor([2. 3.])
    """
    return Sqrt()(a)


def rsqrt(a: Tensor) -> Tensor:
    """Reciprocal square root of each element, 1 / √a.

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
    >>> ndl.rsqrt(ndl.Tensor([4, 0.25]))
    needle.Tensor([0.5 2. ])
    """
    return Rsqrt()(a)


def sin(a: Tensor) -> Tensor:
    """Sine of each element, in radians.

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
    >>> ndl.sin(ndl.Tensor([0, 3.14159265 / 2]))
    needle.Tensor([0. 1.])
    """
    return Sin()(a)


def cos(a: Tensor) -> Tensor:
    """Cosine of each element, in radians.

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
    >>> ndl.cos(ndl.Tensor([0]))
    needle.Tensor([1.])
    """
    return Cos()(a)


def erf(a: Tensor) -> Tensor:
    """Error function of each element: 2/√π times the integral of exp(-t²) from 0 to a.

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
    >>> ndl.erf(ndl.Tensor([0, 100]))
    needle.Tensor([0. 1.])
    """
    return Erf()(a)


def abs(a: Tensor) -> Tensor:
    """Absolute value of each element.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`. The derivative at 0 is 0.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.abs(ndl.Tensor([-2, 3]))
    needle.Tensor([2. 3.])
    """
    return Abs()(a)


def sign(a: Tensor) -> Tensor:
    """Sign of each element: -1, 0 or 1.

    The function is piecewise constant: its gradient is 0.

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
    >>> ndl.sign(ndl.Tensor([-3, 0, 2]))
    needle.Tensor([-1.  0.  1.])
    """
    return Step(lambda x: x._unary("sign"))(a)


def floor(a: Tensor) -> Tensor:
    """Largest integer that does not exceed each element.

    The function is piecewise constant: its gradient is 0.

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
    >>> ndl.floor(ndl.Tensor([1.7, -1.2]))
    needle.Tensor([ 1. -2.])
    """
    return _rounded(a, "floor")


def ceil(a: Tensor) -> Tensor:
    """Smallest integer that is not below each element.

    The function is piecewise constant: its gradient is 0.

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
    >>> ndl.ceil(ndl.Tensor([1.2, -1.7]))
    needle.Tensor([ 2. -1.])
    """
    return _rounded(a, "ceil")


def round(a: Tensor, decimals: int = 0) -> Tensor:
    """Nearest integer of each element, or number of so many decimals; halves go to the even one.

    The function is piecewise constant: its gradient is 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    decimals : int, default 0
        How many decimals are kept; negative to round to tens, hundreds, …

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.round(ndl.Tensor([0.5, 1.5, -1.2]))
    needle.Tensor([ 0.  2. -1.])
    """
    if decimals == 0:
        return _rounded(a, "round")
    if is_stored(a.dtype):  # 16 bits may not hold the scaled numbers
        return round(a.astype("float32"), decimals).astype(a.dtype)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    if decimals > 0:
        return _rounded(a * scale, "round") / scale
    return _rounded(a / scale, "round") * scale


def _rounded(a: Tensor, primitive: str) -> Tensor:
    return Step(lambda x: x._rounded(primitive))(a)


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
    """The tensor on another device, or in another dtype.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    target : Device, dtype or str
        A device, a dtype, or the name of either.
    non_blocking : bool, default False
        Whether a GPU copies from pinned memory while the host goes on. The memory must not be
        changed before the copy is done; see `DataLoader(pin_memory=True)`.

    Returns
    -------
    Tensor
        `a` itself where nothing changes. Gradients flow back to its device and dtype.

    Raises
    ------
    ValueError
        If the name is neither of a device nor of a dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.to(ndl.Tensor([1.5]), "int64").tolist()
    [1]
    """
    target = as_device_or_dtype(target)
    if isinstance(target, BackendDevice):
        here = target == a.realize_cached_data().device
        return a if here else To(target, None, non_blocking)(a)
    return a if target is a.realize_cached_data().dtype else To(None, target)(a)
