"""Logarithms, exponentials and angles that are compositions of others."""

from __future__ import annotations

import math

from ..autograd import Tensor
from ..backend_ndarray import promote
from ..backend_ndarray.dtypes import float_dtype
from ..operands import Operand
from ._classification import isinf
from ._common import as_tensors, rounds_once
from ._comparison import equal, greater_equal, less_equal, logical_and, logical_or, where
from ._elementwise import clip, exp, log, log1p, sin


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """ln(e^a + e^b), safe for large operands.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logaddexp(ndl.Tensor([1000]), ndl.Tensor([-1000]))
    needle.Tensor([1000.])
    """
    # Not maximum and minimum: with half of the gradient each at a = b, they have no second one.
    ordered = greater_equal(a, b)
    larger, smaller = where(ordered, a, b), where(ordered, b, a)
    gap = where(logical_and(equal(a, b), isinf(a)), 0.0, smaller - larger)  # inf - inf is NaN
    return larger + log1p(exp(gap))


@rounds_once
def logit(a: Tensor, eps: float | None = None) -> Tensor:
    """ln(a / (1 - a)), the inverse of `sigmoid`; `eps` moves a into [eps, 1 - eps] first.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    eps : float, optional
        Moves the elements into [eps, 1 - eps] first.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logit(ndl.Tensor([0.5]))
    needle.Tensor([0.])
    """
    if eps is not None:
        a = clip(a, eps, 1 - eps)
    return log(a) - log1p(-a)


def xlogy(a: Operand, b: Operand) -> Tensor:
    """a · ln b, and 0 where a is 0, whatever b.

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
    >>> ndl.xlogy(ndl.Tensor([0, 2]), ndl.Tensor([0, 1]))
    needle.Tensor([0. 0.])
    """
    a, b = as_tensors(a, b, "xlogy")
    b = b.astype(float_dtype(promote(a.dtype, b.dtype)))
    # Elsewhere 0 · ln b is 0 by itself, and its slope is ln b.
    is_zero = logical_and(equal(a, 0), logical_or(less_equal(b, 0), isinf(b)))
    return where(is_zero, 0.0, a * log(where(is_zero, 1.0, b)))


def deg2rad(a: Tensor) -> Tensor:
    """Degrees as radians.

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
    >>> ndl.deg2rad(ndl.Tensor([0, 180]))
    needle.Tensor([0.        3.1415927])
    """
    return a * (math.pi / 180)


def rad2deg(a: Tensor) -> Tensor:
    """Radians as degrees.

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
    >>> ndl.rad2deg(ndl.Tensor([0]))
    needle.Tensor([0.])
    """
    return a * (180 / math.pi)


@rounds_once
def sinc(a: Tensor) -> Tensor:
    """sin(πa) / (πa), and 1 at 0.

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
    >>> ndl.sinc(ndl.Tensor([0]))
    needle.Tensor([1.])
    """
    angle = where(equal(a, 0), 1.0, a) * math.pi
    return where(equal(a, 0), 1.0, sin(angle) / angle)


__all__ = [
    "deg2rad",
    "logaddexp",
    "logit",
    "rad2deg",
    "sinc",
    "xlogy",
]
