"""Functions of the C library: inverse trigonometric and hyperbolic ones, logarithms, erfc.

Their primitives are listed in csrc/common/library.h.
"""

from __future__ import annotations

import math

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray
from ..operands import Operand
from ._common import as_tensors, unbroadcast
from ._elementwise import _Elementwise, exp, rsqrt


class Tan(_Elementwise):
    """tan a, in radians. d/da = 1 + tan² a."""

    primitive = "tan"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * (node * node + 1.0)


class Asin(_Elementwise):
    """The angle within [-π/2, π/2] whose sine is a. d/da = 1/√(1 - a²)."""

    primitive = "asin"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * rsqrt(1.0 - a * a)


class Acos(_Elementwise):
    """The angle within [0, π] whose cosine is a. d/da = -1/√(1 - a²)."""

    primitive = "acos"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return -out_grad * rsqrt(1.0 - a * a)


class Atan(_Elementwise):
    """The angle within [-π/2, π/2] whose tangent is a. d/da = 1/(1 + a²)."""

    primitive = "atan"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad / (a * a + 1.0)


class Sinh(_Elementwise):
    """Hyperbolic sine, its derivative the hyperbolic cosine."""

    primitive = "sinh"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * cosh(a)


class Cosh(_Elementwise):
    """Hyperbolic cosine, its derivative the hyperbolic sine."""

    primitive = "cosh"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * sinh(a)


class Asinh(_Elementwise):
    """The inverse of sinh. d/da = 1/√(a² + 1)."""

    primitive = "asinh"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * rsqrt(a * a + 1.0)


class Acosh(_Elementwise):
    """The inverse of cosh. d/da = 1/√(a² - 1)."""

    primitive = "acosh"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * rsqrt(a * a - 1.0)


class Atanh(_Elementwise):
    """The inverse of tanh. d/da = 1/(1 - a²)."""

    primitive = "atanh"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad / (1.0 - a * a)


class Erfc(_Elementwise):
    """1 - erf a, which keeps its digits where a is large. d/da = -2/√π · exp(-a²)."""

    primitive = "erfc"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad * (exp(-(a * a)) * (-2 / math.sqrt(math.pi)))


class Exp2(_Elementwise):
    """2^a. d/da = ln 2 · 2^a."""

    primitive = "exp2"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * node * math.log(2)


class Log2(_Elementwise):
    """The logarithm to base 2; of powers of 2 it is exact. d/da = 1/(a·ln 2)."""

    primitive = "log2"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad / (a * math.log(2))


class Log10(_Elementwise):
    """The logarithm to base 10. d/da = 1/(a·ln 10)."""

    primitive = "log10"

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        return out_grad / (a * math.log(10))


class Atan2(TensorOp):
    """The angle of the point (x, y). d/dy = x/(x² + y²), d/dx = -y/(x² + y²)."""

    def compute(self, y: NDArray, x: NDArray) -> NDArray:
        """The angle of (|x|, |y|) is that of a slope of at most 1; the signs say where it lies."""
        high, wide = y._unary("abs"), x._unary("abs")
        is_steep, is_diagonal = high > wide, high == wide
        slope = nd.where(is_steep, wide, high) / nd.where(is_steep, high, wide)
        slope = nd.where(is_diagonal, (high != 0).astype(slope.dtype), slope)  # 0/0 and inf/inf
        angle = slope._unary_float("atan")
        angle = nd.where(is_steep, math.pi / 2 - angle, angle)
        angle = nd.where(_is_negative(x), math.pi - angle, angle)
        return nd.where(_is_negative(y), -angle, angle)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        y, x = node.inputs
        scaled = out_grad / (x * x + y * y)
        return unbroadcast(scaled * x, y), unbroadcast(-(scaled * y), x)


def _is_negative(x: NDArray) -> NDArray:
    """Whether the sign is minus, which 1/x shows of a zero."""
    return nd.where(x == 0, 1 / x, x) < 0


def tan(a: Tensor) -> Tensor:
    """Tangent of radians.

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
    >>> ndl.tan(ndl.Tensor([0, 1]))
    needle.Tensor([0.        1.5574077])
    """
    return Tan()(a)


def asin(a: Tensor) -> Tensor:
    """Angle within [-π/2, π/2] whose sine is each element; NaN outside of [-1, 1].

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
    >>> ndl.asin(ndl.Tensor([0, 1]))
    needle.Tensor([0.        1.5707964])
    """
    return Asin()(a)


def acos(a: Tensor) -> Tensor:
    """Angle within [0, π] whose cosine is each element; NaN outside of [-1, 1].

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
    >>> ndl.acos(ndl.Tensor([1, -1]))
    needle.Tensor([0.        3.1415927])
    """
    return Acos()(a)


def atan(a: Tensor) -> Tensor:
    """Angle within [-π/2, π/2] whose tangent is each element.

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
    >>> ndl.atan(ndl.Tensor([0, float("inf")]))
    needle.Tensor([0.        1.5707964])
    """
    return Atan()(a)


def sinh(a: Tensor) -> Tensor:
    """Hyperbolic sine of each element.

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
    >>> ndl.sinh(ndl.Tensor([0, 1]))
    needle.Tensor([0.        1.1752012])
    """
    return Sinh()(a)


def cosh(a: Tensor) -> Tensor:
    """Hyperbolic cosine of each element.

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
    >>> ndl.cosh(ndl.Tensor([0]))
    needle.Tensor([1.])
    """
    return Cosh()(a)


def asinh(a: Tensor) -> Tensor:
    """Inverse hyperbolic sine of each element.

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
    >>> ndl.asinh(ndl.Tensor([0, 1]))
    needle.Tensor([0.        0.8813736])
    """
    return Asinh()(a)


def acosh(a: Tensor) -> Tensor:
    """Inverse hyperbolic cosine of each element; NaN below 1.

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
    >>> ndl.acosh(ndl.Tensor([1, 2]))
    needle.Tensor([0.       1.316958])
    """
    return Acosh()(a)


def atanh(a: Tensor) -> Tensor:
    """Inverse hyperbolic tangent of each element; NaN outside of [-1, 1].

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
    >>> ndl.atanh(ndl.Tensor([0, 1]))
    needle.Tensor([ 0. inf])
    """
    return Atanh()(a)


def erfc(a: Tensor) -> Tensor:
    """Complementary error function, 1 - erf(a), also where that is tiny.

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
    >>> ndl.erfc(ndl.Tensor([0]))
    needle.Tensor([1.])
    """
    return Erfc()(a)


def exp2(a: Tensor) -> Tensor:
    """2 to the power of each element.

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
    >>> ndl.exp2(ndl.Tensor([3, -1]))
    needle.Tensor([8.  0.5])
    """
    return Exp2()(a)


def log2(a: Tensor) -> Tensor:
    """Logarithm to base 2 of each element: -inf at 0, NaN below.

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
    >>> ndl.log2(ndl.Tensor([8, 0.5]))
    needle.Tensor([ 3. -1.])
    """
    return Log2()(a)


def log10(a: Tensor) -> Tensor:
    """Logarithm to base 10 of each element: -inf at 0, NaN below.

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
    >>> ndl.log10(ndl.Tensor([100, 1]))
    needle.Tensor([2. 0.])
    """
    return Log10()(a)


def atan2(y: Operand, x: Operand) -> Tensor:
    """Angle of the point (x, y) in radians, within [-π, π].

    Parameters
    ----------
    y, x : Tensor, array or number
        At least one of them a Tensor; they broadcast.

    Returns
    -------
    Tensor
        The broadcast shape; float32 for integers and bools.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.atan2(ndl.Tensor([1, 0]), ndl.Tensor([1, -1]))
    needle.Tensor([0.7853982 3.1415927])
    """
    first, second = as_tensors(y, x, "atan2")
    return Atan2()(first, second)


# NumPy's names.
