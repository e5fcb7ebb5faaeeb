"""Reductions over any set of axes, and running sums."""

from __future__ import annotations

import math
from math import prod as product

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp, Value, is_grad_enabled, vjp
from ..backend_ndarray import NDArray, Shape, is_float
from ..backend_ndarray.dtypes import float_dtype, python_number
from ..backend_ndarray.layout import normalize_axes, reduced_shape
from ..typing import Axis, DTypeLike
from ._common import widens
from ._comparison import equal, logical_or, not_equal, where
from ._elementwise import abs, exp, sqrt
from ._joining import concatenate
from ._shape import broadcast_to, flip, permute, reshape


class _Reduction(TensorOp):
    """An op over `axes` (None, an int or a tuple; negative counts from the end)."""

    def __init__(self, axes: Axis = None, keepdims: bool = False) -> None:
        self.axes, self.keepdims = axes, keepdims

    def _expand(self, reduced: Tensor, x: Tensor) -> Tensor:
        """A reduced tensor with its axes back, broadcast to x's shape."""
        axes = normalize_axes(self.axes, x.ndim, type(self).__name__)
        return broadcast_to(reshape(reduced, reduced_shape(x.shape, axes, True)), x.shape)


class Summation(_Reduction):
    """The sum over axes."""

    saves_values = False

    def compute(self, a: NDArray) -> NDArray:
        return a.sum(self.axes, self.keepdims)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return self._expand(out_grad, node.inputs[0])


class Prod(_Reduction):
    """The product over axes.

    d/dx_i is the product of the others. The gradient of products of halves of products finds it
    without a division, so that zeros and infinities are right in derivatives of any order.
    """

    def compute(self, a: NDArray) -> NDArray:
        return a.prod(self.axes, self.keepdims)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        if not node.inputs[0].size:
            return (node.inputs[0].detach(),)  # as empty
        return vjp(self._by_halves, node.inputs, out_grad)

    def _by_halves(self, a: Tensor) -> Tensor:
        axes = normalize_axes(self.axes, a.ndim, "prod")
        kept = [i for i in range(a.ndim) if i not in axes]
        n = product(a.shape[i] for i in axes)
        x = reshape(permute(a, (*axes, *kept)), (n, *(a.shape[i] for i in kept)))
        while n > 1:
            half = n // 2
            x, last = x[:half] * x[half : 2 * half], x[2 * half :]
            x, n = concatenate([x, last], 0) if n % 2 else x, n - half
        return reshape(x, reduced_shape(a.shape, axes, self.keepdims))


class _Extreme(_Reduction):
    """max or min; equal extremes share the gradient evenly, and so do NaNs where there are any."""

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        hit = self._hits(x, self._expand(node.detach(), x)).astype(x.dtype)
        count = self._expand(summation(hit, self.axes, self.keepdims), x)
        return self._expand(out_grad, x) * (hit / count)

    def _hits(self, x: Tensor, extreme: Tensor) -> Tensor:
        """Whether the elements are the extreme; NaN beats everything else."""
        return logical_or(equal(x, extreme), not_equal(x, x))


class Max(_Extreme):
    """The largest element over axes."""

    def compute(self, a: NDArray) -> NDArray:
        return a.max(self.axes, self.keepdims)


class Min(_Extreme):
    """The smallest element over axes."""

    def compute(self, a: NDArray) -> NDArray:
        return a.min(self.axes, self.keepdims)


class LogSumExp(_Reduction):
    """ln Σ exp(a) over axes, shifted by the maximum so that nothing overflows; -inf over nothing.

    The gradient subtracts the maximum and the logarithm one after the other: in their sum a large
    maximum would swallow the logarithm.
    """

    top: NDArray  # the maximum, or 0 where that is not finite
    log_sum: NDArray  # ln Σ exp(a - top)

    def compute(self, a: NDArray) -> NDArray:
        axes = normalize_axes(self.axes, a.ndim, "logsumexp")
        shape = reduced_shape(a.shape, axes, self.keepdims)
        if any(a.shape[i] == 0 for i in axes):
            return a.device.full(shape, -math.inf, float_dtype(a.dtype))
        top = a.max(axes, keepdims=True)
        self.top = nd.where(top.isfinite(), top, 0.0)  # inf - inf would be NaN
        self.log_sum = (a - self.top).exp().sum(axes, keepdims=True).log()
        return (self.log_sum + self.top).reshape(shape)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        if not x.size:
            return x.detach()  # as empty
        shifted = x - Tensor.make_const(self.top)
        log_sum = Tensor.make_const(self.log_sum)
        if is_grad_enabled():
            log_sum = logsumexp(shifted, self.axes, keepdims=True)
        return self._expand(out_grad, x) * exp(shifted - log_sum)


class CumSum(TensorOp):
    """Running sums along an axis; the gradient runs from the other end."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, a: NDArray) -> NDArray:
        return a.cumsum(self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return flip(cumsum(flip(out_grad, self.axis), self.axis), self.axis)


def _in(a: Tensor, dtype: DTypeLike | None) -> Tensor:
    return a if dtype is None else a.astype(dtype)


def summation(
    a: Tensor, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike | None = None
) -> Tensor:
    """Sum the elements over axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The sums, in the dtype of `a`; int64 for integers and bools.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2], [3, 4]])
    >>> ndl.summation(x, axis=0)
    needle.Tensor([4. 6.])
    >>> x.sum()
    needle.Tensor(10.0)
    """
    return Summation(axis, keepdims)(a if dtype is None else _in(a, dtype))


def mean(
    a: Tensor, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike | None = None
) -> Tensor:
    """Arithmetic mean over axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The means, in the dtype of `a`; float32 for integers and bools. The mean of nothing is NaN.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2], [3, 4]])
    >>> ndl.mean(x, axis=1, keepdims=True).tolist()
    [[1.5], [3.5]]
    """
    a = _in(a, dtype)
    if not is_float(a.dtype):
        return Tensor.make_const(a.realize_cached_data().mean(axis, keepdims))
    return _mean(a, axis, keepdims)


@widens
def _mean(a: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    count = _count(a.shape, axis, "mean")
    return summation(a, axis, keepdims) * (1.0 / count if count else float("nan"))


@widens
def var(
    a: Tensor,
    axis: Axis = None,
    unbiased: bool = True,
    keepdims: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """Variance over axes: the sum of squared deviations, divided by n - 1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    unbiased : bool, default True
        True divides by n - 1, as PyTorch does; False by n, as NumPy does.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    correction : int, optional
        What is subtracted from n instead. `ddof` is another name.

    Returns
    -------
    Tensor
        The variances, in the dtype of `a`; float32 for integers and bools. They are NaN unless
        n > correction.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([1, 2, 3])
    >>> ndl.var(x).item(), ndl.var(x, correction=3).item()
    (1.0, nan)
    """
    axis, less = degrees_of_freedom(axis, unbiased, correction)
    deviation = a - _mean(a, axis, True)
    count = _count(a.shape, axis, "var") - less
    return summation(deviation * deviation, axis, keepdims) * (
        1.0 / count if count > 0 else float("nan")
    )


def degrees_of_freedom(
    axis: Axis, unbiased: bool, correction: int | None
) -> tuple[Axis, int | float]:
    """The axes, and what is subtracted from their number of elements.

    A bool in the place of the axes is `unbiased`: PyTorch has `x.var(False)`, too.
    """
    if isinstance(axis, bool):
        return degrees_of_freedom(None, axis, correction)
    return axis, int(bool(unbiased)) if correction is None else python_number(correction)


@widens
def std(
    a: Tensor,
    axis: Axis = None,
    unbiased: bool = True,
    keepdims: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """Standard deviation over axes, the square root of `var`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    unbiased : bool, default True
        True divides by n - 1, as PyTorch does; False by n, as NumPy does.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    correction : int, optional
        What is subtracted from n instead. `ddof` is another name.

    Returns
    -------
    Tensor
        In the dtype of `a`; float32 for integers and bools. The gradient at 0 is 0.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.std(ndl.Tensor([1, 3]), correction=0)
    needle.Tensor(1.0)
    """
    return _root(var(a, axis, unbiased, keepdims, correction=correction), 2)


def _root(a: Tensor, degree: float) -> Tensor:
    """a^(1/degree), whose derivative at 0, infinite, is taken as 0.

    What is 0 here is a sum of powers of zeros: their derivatives are 0, and inf · 0 would be NaN.
    """
    positive = a != 0
    base = where(positive, a, 1.0)
    return where(positive, sqrt(base) if degree == 2 else base ** (1.0 / degree), 0.0)


def _count(shape: Shape, axis: Axis, what: str) -> int:
    return product(shape[i] for i in normalize_axes(axis, len(shape), what))


def prod(
    a: Tensor, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike | None = None
) -> Tensor:
    """Product over axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        In the dtype of `a`; int64 for smaller integers and bools.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.prod(ndl.Tensor([[1, 2], [3, 4]]), axis=1)
    needle.Tensor([ 2. 12.])
    """
    return Prod(axis, keepdims)(_in(a, dtype))


def amax(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes.

    Equal largest elements share the gradient evenly. NaN exceeds every number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        The maxima, in the dtype of `a`. `max` with a `dim` gives indices, too.

    Raises
    ------
    ValueError
        If there are no elements along the axes, `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.amax(ndl.Tensor([[1, 2], [3, 4]]), axis=(0, 1)).item()
    4.0
    """
    return Max(axis, keepdims)(a)


def amin(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes.

    Equal smallest elements share the gradient evenly. NaN is below every number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        The minima, in the dtype of `a`. `min` with a `dim` gives indices, too.

    Raises
    ------
    ValueError
        If there are no elements along the axes, `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.amin(ndl.Tensor([[1, 2], [3, 4]]), axis=0)
    needle.Tensor([1. 2.])
    """
    return Min(axis, keepdims)(a)


def logsumexp(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials over axes, computed without overflow.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        In the dtype of `a`; float32 for integers and bools; -inf over no elements.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logsumexp(ndl.Tensor([1000, 0]))
    needle.Tensor(1000.0)
    """
    return LogSumExp(axis, keepdims)(a)


@widens
def norm(a: Tensor, ord: float | str = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Vector norm over axes, (Σ|a|^ord)^(1/ord).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    ord : float, default 2
        The order. With inf the norm is the largest absolute value, with -inf the smallest, with 0
        the number of elements that are not 0. "fro" is 2. `p` is another name. `linalg.norm` has
        the norms of matrices.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all of them. A negative axis counts from the end. `axes`,
        `dim` and `dims` are other names of this argument.
    keepdims : bool, default False
        Whether the reduced axes stay, with length 1. `keepdim` is another name.

    Returns
    -------
    Tensor
        In the dtype of `a`; float32 for integers and bools. The gradient at 0 is 0.

    Raises
    ------
    ValueError
        For another `ord`, or if `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.norm(ndl.Tensor([3, 4])), ndl.Tensor([[3, 4]]).norm(1, dim=1)
    (needle.Tensor(5.0), needle.Tensor([7.]))
    """
    order = 2 if ord in ("fro", None) else ord
    if isinstance(order, str) or not isinstance(order, (int, float, np.number)) or order != order:
        raise ValueError(
            f"[norm] ord must be a number or 'fro', got {ord!r}; linalg.norm has the norms of "
            "matrices"
        )
    if order == 2:
        return _root(summation(a * a, axis, keepdims), 2)
    size = abs(a)
    if order == 0:
        return summation(not_equal(size, 0).astype(a.dtype), axis, keepdims)
    if order == 1:
        return summation(size, axis, keepdims)
    if math.isinf(order):
        return (amax if order > 0 else amin)(size, axis, keepdims)
    if order > 2:
        return _root(summation(size**order, axis, keepdims), order)
    positive = size != 0
    # A derivative of the power is infinite at 0; see `_root`.
    powers = where(positive, where(positive, size, 1.0) ** order, 0.0 if order > 0 else math.inf)
    total = summation(powers, axis, keepdims)
    if order > 0:
        return _root(total, order)
    finite = total < math.inf  # a zero makes the sum infinite, and the norm 0
    return where(finite, where(finite, total, 1.0) ** (1.0 / order), 0.0)


def cumsum(a: Tensor, axis: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """Running sums along an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The shape of `a`.

    Raises
    ------
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.cumsum(ndl.Tensor([1, 2, 3]), 0)
    needle.Tensor([1. 3. 6.])
    """
    return CumSum(axis)(_in(a, dtype))


__all__ = [
    "CumSum", "LogSumExp", "Max", "Min", "Prod", "Summation",
    "amax", "amin", "cumsum", "logsumexp", "mean", "norm", "prod", "std", "summation", "var",
]  # fmt: skip
