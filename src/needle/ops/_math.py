"""Functions of numbers that are compositions of others, element by element.

Two operands broadcast, and either may be a number, as in NumPy. A gradient at a jump is 0, as in
PyTorch.
"""

from __future__ import annotations

import math

from ..autograd import Tensor
from ..backend_ndarray import promote
from ..backend_ndarray.dtypes import float_dtype
from ..operands import Operand
from ..typing import Scalar
from ._arithmetic import power, remainder
from ._classification import isinf, signbit
from ._common import as_tensors
from ._comparison import greater, less, logical_or, maximum, minimum, where
from ._elementwise import abs, ceil, clip, floor, sqrt

# ---- powers and quotients -----------------------------------------------------------------------


def square(a: Tensor) -> Tensor:
    """a · a.

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
    >>> ndl.square(ndl.Tensor([1, -2, 3]))
    needle.Tensor([1. 4. 9.])
    """
    return a * a


def reciprocal(a: Tensor) -> Tensor:
    """1 / a; integers give float32.

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
    >>> ndl.reciprocal(ndl.Tensor([2, 4]))
    needle.Tensor([0.5  0.25])
    """
    return 1.0 / a


def float_power(a: Operand, b: Operand) -> Tensor:
    """a ** b in float64.

    Parameters
    ----------
    a : Tensor or number
        They broadcast; at least one is a Tensor.
    b : Tensor or number
        The other operand.

    Returns
    -------
    Tensor
        The broadcast shape; float64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.float_power(ndl.Tensor([2]), 3).dtype
    dtype('float64')
    """
    a, b = as_tensors(a, b, "float_power")
    return power(a.astype("float64"), b.astype("float64"))


def trunc(a: Tensor) -> Tensor:
    """a rounded towards 0.

    No gradient flows.

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
    >>> ndl.trunc(ndl.Tensor([1.7, -1.7]))
    needle.Tensor([ 1. -1.])
    """
    return where(a < 0, ceil(a), floor(a))


def frac(a: Tensor) -> Tensor:
    """a - trunc(a), with the sign of a.

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
    >>> ndl.frac(ndl.Tensor([1.5, -1.5]))
    needle.Tensor([ 0.5 -0.5])
    """
    return a - trunc(a)


def fmod(a: Operand, b: Operand) -> Tensor:
    """What is left of a when divided by b and rounded towards 0: it has the sign of a.

    `remainder` rounds down, and its result has the sign of b.

    Parameters
    ----------
    a : Tensor or number
        They broadcast; at least one is a Tensor.
    b : Tensor or number
        The other operand.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fmod(ndl.Tensor([7, -7]), 3)
    needle.Tensor([ 1. -1.])
    """
    a, b = as_tensors(a, b, "fmod")
    b = abs(b)
    if a.dtype == "bool":
        return remainder(a, b)
    return where(a < 0, -remainder(-a, b), remainder(a, b))  # not |a|: its slope at 0 is 0


def lerp(a: Tensor, b: Tensor, weight: Tensor | Scalar) -> Tensor:
    """a + weight · (b - a): a for weight 0, b for weight 1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    weight : number or Tensor
        Where between the two.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.lerp(ndl.zeros(2), ndl.ones(2), 0.25)
    needle.Tensor([0.25 0.25])
    """
    step = b - a
    # From the nearer end, so that both ends are met exactly.
    if not isinstance(weight, Tensor):
        number = float(weight)
        return a + step * number if number < 0.5 else b - step * (1 - number)
    return where(weight < 0.5, a + step * weight, b - step * (1.0 - weight))


def addcmul(a: Tensor, b: Tensor, c: Tensor, value: float = 1.0) -> Tensor:
    """a + value · b · c.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    c : Tensor
        Broadcasts with `a`.
    value : float, default 1
        A factor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addcmul(ndl.ones(2), ndl.ones(2), ndl.ones(2), 3.0)
    needle.Tensor([4. 4.])
    """
    return a + b * c * value if value != 1 else a + b * c


def addcdiv(a: Tensor, b: Tensor, c: Tensor, value: float = 1.0) -> Tensor:
    """a + value · b / c.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    c : Tensor
        Broadcasts with `a`.
    value : float, default 1
        A factor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.addcdiv(ndl.zeros(2), ndl.ones(2), ndl.Tensor([2, 4]))
    needle.Tensor([0.5  0.25])
    """
    return a + b / c * value if value != 1 else a + b / c


def hypot(a: Operand, b: Operand) -> Tensor:
    """√(a² + b²), without overflow where the result is finite.

    Parameters
    ----------
    a : Tensor or number
        They broadcast; at least one is a Tensor.
    b : Tensor or number
        The other operand.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.hypot(ndl.Tensor([3]), 4)
    needle.Tensor([5.])
    """
    a, b = as_tensors(a, b, "hypot")
    a, b = abs(a), abs(b)
    larger, smaller = maximum(a, b), minimum(a, b)
    unit = where(larger == 0, 1.0, larger)
    ratio = smaller / unit
    length = larger * sqrt(1.0 + ratio * ratio)
    return where(logical_or(isinf(a), isinf(b)), math.inf, length)


def copysign(a: Operand, b: Operand) -> Tensor:
    """|a| with the sign of b; the sign of -0.0 counts.

    Parameters
    ----------
    a : Tensor or number
        They broadcast; at least one is a Tensor.
    b : Tensor or number
        The other operand.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype; float32 for integers and bools.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.copysign(ndl.Tensor([1, 2]), -1)
    needle.Tensor([-1. -2.])
    """
    a, b = as_tensors(a, b, "copysign")
    size = abs(a.astype(float_dtype(promote(a.dtype, b.dtype))))
    return where(signbit(b), -size, size)


# ---- bounds -------------------------------------------------------------------------------------


def clamp(a: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Move every element into [min, max]; a bound may be None, a number, or a Tensor.

    Where `min` is above `max` the result is `max`. The gradient passes where an element was inside,
    bounds included.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    min, max : number or Tensor, optional
        The bounds; Tensors broadcast.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there is no bound.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.clamp(ndl.Tensor([-2, 0.5, 3]), min=0, max=1)
    needle.Tensor([0.  0.5 1. ])
    """
    if min is None and max is None:
        raise ValueError("[clamp] needs min, max or both")
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        return clip(a, min, max)  # type: ignore[arg-type]
    if min is not None:
        a = where(less(a, min), min, a)
    return a if max is None else where(greater(a, max), max, a)


def clamp_min(a: Tensor, min: Operand) -> Tensor:
    """Every element moved up to at least `min`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    min : number or Tensor
        The bound.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.clamp_min(ndl.Tensor([1, -2, 3]), 0)
    needle.Tensor([1. 0. 3.])
    """
    return clamp(a, min=min)


def clamp_max(a: Tensor, max: Operand) -> Tensor:
    """Every element moved down to at most `max`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    max : number or Tensor
        The bound.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.clamp_max(ndl.Tensor([1, -2, 3]), 0)
    needle.Tensor([ 0. -2.  0.])
    """
    return clamp(a, max=max)


__all__ = [
    "addcdiv",
    "addcmul",
    "clamp",
    "clamp_max",
    "clamp_min",
    "copysign",
    "float_power",
    "fmod",
    "frac",
    "hypot",
    "lerp",
    "reciprocal",
    "square",
    "trunc",
]
