"""Reductions over any set of axes, sorting, and running sums."""

from __future__ import annotations

from math import prod as product
from typing import Any

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray, Shape
from ..backend_ndarray.layout import normalize_axes, normalize_axis, reduced_shape, whole
from .common import widens
from .elementwise import equal, exp, sqrt, where
from .shape import broadcast_to, flip, gather, reshape


class _Reduction(TensorOp):
    """An op over `axes` (None, an int or a tuple; negative counts from the end)."""

    def __init__(self, axes: Any = None, keepdims: bool = False) -> None:
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

    d/dx_i is the product of the others: node / x_i where nothing is 0, the product of the nonzero
    elements at the place of a single 0, and 0 elsewhere.
    """

    def compute(self, a: NDArray) -> NDArray:
        return a.prod(self.axes, self.keepdims)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        is_zero = equal(x, 0)
        filled = where(is_zero, 1.0, x)
        nonzero_product = self._expand(prod(filled, self.axes, self.keepdims), x)
        zeros = self._expand(summation(is_zero.astype(x.dtype), self.axes, self.keepdims), x)
        others = where(is_zero, equal(zeros, 1), equal(zeros, 0)).astype(x.dtype)
        return self._expand(out_grad, x) * nonzero_product / filled * others


class _Extreme(_Reduction):
    """max or min; equal extremes share the gradient evenly."""

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        hit = equal(x, self._expand(node.detach(), x)).astype(x.dtype)
        count = self._expand(summation(hit, self.axes, self.keepdims), x)
        return self._expand(out_grad, x) * (hit / count)


class Max(_Extreme):
    """The largest element over axes."""

    def compute(self, a: NDArray) -> NDArray:
        return a.max(self.axes, self.keepdims)


class Min(_Extreme):
    """The smallest element over axes."""

    def compute(self, a: NDArray) -> NDArray:
        return a.min(self.axes, self.keepdims)


class LogSumExp(_Reduction):
    """ln Σ exp(a) over axes, shifted by the maximum so that nothing overflows."""

    def compute(self, a: NDArray) -> NDArray:
        top = a.max(self.axes, keepdims=True)
        top = nd.where(top.isfinite(), top, 0.0)  # inf - inf would be NaN
        total = (a - top).exp().sum(self.axes, keepdims=True).log() + top
        axes = normalize_axes(self.axes, a.ndim, "logsumexp")
        return total.reshape(reduced_shape(a.shape, axes, self.keepdims))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x = node.inputs[0]
        return self._expand(out_grad, x) * exp(x - self._expand(node, x))


class CumSum(TensorOp):
    """Running sums along an axis; the gradient runs from the other end."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, a: NDArray) -> NDArray:
        return a.cumsum(self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return flip(cumsum(flip(out_grad, self.axis), self.axis), self.axis)


def summation(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over `axes`, which are dropped unless `keepdims`."""
    return Summation(axes, keepdims)(a)


@widens
def mean(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over `axes`."""
    count = _count(a.shape, axes, "mean")
    return summation(a, axes, keepdims) * (1.0 / count if count else float("nan"))


@widens
def var(a: Tensor, axes: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The variance over `axes`: squared deviations summed and divided by n - correction."""
    deviation = a - mean(a, axes, keepdims=True)
    count = _count(a.shape, axes, "var") - correction
    return summation(deviation * deviation, axes, keepdims) * (
        1.0 / count if count > 0 else float("nan")
    )


@widens
def std(a: Tensor, axes: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The standard deviation over `axes`, the square root of `var`."""
    return sqrt(var(a, axes, keepdims, correction))


def _count(shape: Shape, axes: Any, what: str) -> int:
    return product(shape[i] for i in normalize_axes(axes, len(shape), what))


def prod(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """The product over `axes`."""
    return Prod(axes, keepdims)(a)


def max(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axes`; equal ones share the gradient."""
    return Max(axes, keepdims)(a)


def min(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axes`; equal ones share the gradient."""
    return Min(axes, keepdims)(a)


def logsumexp(a: Tensor, axes: Any = None, keepdims: bool = False) -> Tensor:
    """ln Σ exp(a) over `axes`, safe for large elements."""
    return LogSumExp(axes, keepdims)(a)


@widens
def norm(a: Tensor, axes: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The vector norm (Σ|a|^ord)^(1/ord) over `axes`."""
    if ord == 2:
        return sqrt(summation(a * a, axes, keepdims))
    size = where(a < 0, -a, a)
    if ord == 1:
        return summation(size, axes, keepdims)
    if ord == float("inf"):
        return max(size, axes, keepdims)
    if ord <= 0:
        raise ValueError(f"[norm] ord must be positive, got {ord}")
    return summation(size**ord, axes, keepdims) ** (1.0 / ord)


def argmax(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the first largest element along `axis` (flattened for None)."""
    return Tensor.make_const(a.realize_cached_data().argmax(axis, keepdims))


def argmin(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the first smallest element along `axis` (flattened for None)."""
    return Tensor.make_const(a.realize_cached_data().argmin(axis, keepdims))


def cumsum(a: Tensor, axis: int) -> Tensor:
    """Running sums along `axis`."""
    return CumSum(axis)(a)


def argsort(a: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The int64 order that sorts along `axis`; stable, NaNs last."""
    return Tensor.make_const(a.realize_cached_data().argsort(axis, descending))


def sort(a: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(values, indices) sorted along `axis`; gradients flow to the values' sources."""
    order = argsort(a, axis, descending)
    return gather(a, axis, order), order


def topk(a: Tensor, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """(values, indices) of the k largest (or smallest) elements along `axis`, best first.

    Raises ValueError unless 0 ≤ k ≤ the axis' length.
    """
    along, k = normalize_axis(axis, a.ndim, "topk"), whole(k, "topk", "k")
    if not 0 <= k <= a.shape[along]:
        raise ValueError(f"[topk] k must be in 0 … {a.shape[along]} for axis {axis}, got {k}")
    order = argsort(a, along, descending=largest)
    order = order[(slice(None),) * along + (slice(0, k),)]
    return gather(a, along, order), order


__all__ = [
    "CumSum", "LogSumExp", "Max", "Min", "Prod", "Summation", "argmax", "argmin", "argsort",
    "cumsum", "logsumexp", "max", "mean", "min", "norm", "prod", "sort", "std", "summation",
    "topk", "var",
]  # fmt: skip
