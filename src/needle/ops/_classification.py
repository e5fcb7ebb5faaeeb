"""Kinds of numbers, closeness, and whether all or any elements are nonzero."""

from __future__ import annotations

import math

from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.dtypes import below
from ..operands import Operand
from ..typing import Axis
from ._common import as_tensors
from ._comparison import equal, greater, less, less_equal, logical_and, logical_or, not_equal, where
from ._elementwise import abs, sign
from ._reduction import summation


def isnan(a: Tensor) -> Tensor:
    """Whether each element is NaN.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isnan(ndl.Tensor([1.0, float("nan")]))
    needle.Tensor([False  True])
    """
    return not_equal(a, a)


def isinf(a: Tensor) -> Tensor:
    """Whether each element is inf or -inf.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isinf(ndl.Tensor([1.0, float("-inf")]))
    needle.Tensor([False  True])
    """
    if not is_float(a.dtype):
        return not_equal(a, a)
    return equal(abs(a), math.inf)


def isposinf(a: Tensor) -> Tensor:
    """Whether each element is inf.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isposinf(ndl.Tensor([float("inf"), float("-inf")]))
    needle.Tensor([ True False])
    """
    return equal(a, math.inf) if is_float(a.dtype) else not_equal(a, a)


def isneginf(a: Tensor) -> Tensor:
    """Whether each element is -inf.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isneginf(ndl.Tensor([float("inf"), float("-inf")]))
    needle.Tensor([False  True])
    """
    return equal(a, -math.inf) if is_float(a.dtype) else not_equal(a, a)


def isfinite(a: Tensor) -> Tensor:
    """Whether each element is a finite number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isfinite(ndl.Tensor([1.0, float("nan")]))
    needle.Tensor([ True False])
    """
    return less(abs(a), math.inf) if is_float(a.dtype) else equal(a, a)


def signbit(a: Tensor) -> Tensor:
    """Whether each element is negative; -0.0 is.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.signbit(ndl.Tensor([1.0, -0.0]))
    needle.Tensor([False  True])
    """
    if not is_float(a.dtype):
        return less(a, 0)
    negative_zero = logical_and(equal(a, 0), less(1.0 / a, 0))
    return logical_or(less(a, 0), negative_zero)


def isclose(
    a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |a - b| ≤ atol + rtol · |b|; infinities are close to themselves alone.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    rtol : float, default 1e-5
        The tolerance relative to `b`.
    atol : float, default 1e-8
        The absolute tolerance.
    equal_nan : bool, default False
        Whether NaN is close to NaN.

    Returns
    -------
    Tensor
        The broadcast shape; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.isclose(ndl.Tensor([1.0, 2.0]), ndl.Tensor([1.0, 2.1]))
    needle.Tensor([ True False])
    """
    a, b = as_tensors(a, b, "isclose")
    if a.dtype == b.dtype == "bool":
        return equal(a, b)
    near = less_equal(abs(a - b), abs(b) * rtol + atol)
    close = logical_or(equal(a, b), logical_and(near, isfinite(b)))
    return logical_or(close, logical_and(isnan(a), isnan(b))) if equal_nan else close


def allclose(
    a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close as by `isclose`; reads the result.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.
    rtol : float, default 1e-5
        The tolerance relative to `b`.
    atol : float, default 1e-8
        The absolute tolerance.
    equal_nan : bool, default False
        Whether NaN is close to NaN.

    Returns
    -------
    bool
        True if all elements are close.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.allclose(ndl.ones(2), ndl.ones(2) + 1e-7)
    True
    """
    return bool(all(isclose(a, b, rtol, atol, equal_nan)).item())


def nan_to_num(
    a: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN, inf and -inf replaced by numbers; by default 0 and the ends of the dtype's range.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    nan : float, default 0
        What replaces NaN.
    posinf : float, optional
        What replaces inf; the largest number of the dtype by default.
    neginf : float, optional
        What replaces -inf; the smallest number of the dtype by default.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nan_to_num(ndl.Tensor([float("nan"), 1.0]))
    needle.Tensor([0. 1.])
    """
    if not is_float(a.dtype):
        return a
    largest = below(math.inf, a.dtype)
    a = where(isnan(a), nan, a)
    a = where(isposinf(a), largest if posinf is None else posinf, a)
    return where(isneginf(a), -largest if neginf is None else neginf, a)


def heaviside(a: Tensor, values: Operand) -> Tensor:
    """0 where a is negative, 1 where it is positive, and `values` where it is 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    values : Tensor or number
        The result where `a` is 0.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.heaviside(ndl.Tensor([-1, 0, 2]), 0.5)
    needle.Tensor([0.  0.5 1. ])
    """
    step = where(greater(a, 0), 1.0, 0.0)
    return where(isnan(a), a, where(equal(a, 0), values, step)).astype(a.dtype)


def positive(a: Tensor) -> Tensor:
    """a itself.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        `a` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.positive(ndl.Tensor([1, -2, 3]))
    needle.Tensor([ 1. -2.  3.])
    """
    return a


def sgn(a: Tensor) -> Tensor:
    """The sign: -1, 0 or 1.

    `sign` under the name that PyTorch has for complex numbers, too.

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
    >>> ndl.sgn(ndl.Tensor([1, -2, 3]))
    needle.Tensor([ 1. -1.  1.])
    """
    return sign(a)


def logical_not(a: Tensor) -> Tensor:
    """Whether each element is 0.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape of `a`; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logical_not(ndl.Tensor([0, 2]))
    needle.Tensor([ True False])
    """
    return equal(a, 0)


def logical_xor(a: Tensor, b: Tensor) -> Tensor:
    """Whether exactly one of two elements is nonzero.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        The broadcast shape; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logical_xor(ndl.Tensor([0, 2]), ndl.Tensor([1, 1]))
    needle.Tensor([ True False])
    """
    return not_equal(not_equal(a, 0), not_equal(b, 0))


def all(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are nonzero: bool.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.all(ndl.Tensor([[1, 2], [3, 4]]) > 1, axis=1)
    needle.Tensor([False  True])
    """
    return Tensor.make_const(a.realize_cached_data().all(axis, keepdims))


def any(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over `axis` is nonzero: bool.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.any(ndl.Tensor([[1, 2], [3, 4]]) > 3, axis=1)
    needle.Tensor([False  True])
    """
    return Tensor.make_const(a.realize_cached_data().any(axis, keepdims))


def count_nonzero(a: Tensor, axis: Axis = None) -> Tensor:
    """The number of nonzero elements over `axis`, int64.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None takes all of them. `dim` is another name.

    Returns
    -------
    Tensor
        int64.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.count_nonzero(ndl.Tensor([0, 2, 3])).item()
    2
    """
    return summation(not_equal(a, 0), axis)


__all__ = [
    "all",
    "allclose",
    "any",
    "count_nonzero",
    "heaviside",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "logical_not",
    "logical_xor",
    "nan_to_num",
    "positive",
    "sgn",
    "signbit",
]
