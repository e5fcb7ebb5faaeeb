"""Activations and the softmax family."""

from __future__ import annotations

import math

from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray
from ..backend_ndarray.layout import normalize_axis
from ..typing import DTypeLike
from ._common import FusedOp, rounds_once, widens
from ._comparison import maximum, where
from ._elementwise import abs as abs_
from ._elementwise import erf, exp, expm1, log, log1p
from ._reduction import amax as largest
from ._reduction import summation
from ._shape import permute, reshape


class ReLU(TensorOp):
    """max(a, 0); the derivative at 0 is taken as 0."""

    def compute(self, a: NDArray) -> NDArray:
        return a.relu()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return ReLUGrad()(out_grad, node.detach())


class ReLUGrad(TensorOp):
    """`g` where y > 0, else 0; piecewise constant in y."""

    def compute(self, g: NDArray, y: NDArray) -> NDArray:
        return g._binary("relu_grad", y)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, None]:
        return ReLUGrad()(out_grad, node.inputs[1]), None


class Tanh(TensorOp):
    """Hyperbolic tangent. d/dx tanh x = 1 - tanh² x."""

    def compute(self, a: NDArray) -> NDArray:
        return a.tanh()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * (1.0 - node * node)


class Sigmoid(TensorOp):
    """σ(x) = 1 / (1 + exp(-x)). dσ/dx = σ·(1 - σ)."""

    def compute(self, a: NDArray) -> NDArray:
        return a.sigmoid()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return out_grad * (node * (1.0 - node))


class SiLU(TensorOp):
    """a·σ(a). d/da = σ·(1 + a·(1 - σ)).

    The product of the outer gradient and a large a would be infinite, and inf · 0 NaN: the
    derivative is computed first, here and in `GELU`.
    """

    def compute(self, a: NDArray) -> NDArray:
        return a * a.sigmoid()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        s = sigmoid(a)
        return out_grad * (s * (1.0 + a * (1.0 - s)))


class GELU(TensorOp):
    """a·Φ(a), Φ the standard normal distribution and φ its density. d/da = Φ(a) + a·φ(a)."""

    def compute(self, a: NDArray) -> NDArray:
        return 0.5 * a * (1.0 + (a * math.sqrt(0.5))._unary_float("erf"))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        a = node.inputs[0]
        below = 0.5 * (1.0 + erf(a * math.sqrt(0.5)))
        density = exp(a * a * -0.5) * (1 / math.sqrt(2 * math.pi))
        return out_grad * (below + a * density)


class Softmax(FusedOp):
    """exp(a) over its sum, along the last axis of a 2-d tensor. d = y·(g - Σ g·y)."""

    kernel = "softmax"

    def compute(self, a: NDArray) -> NDArray:
        kernel = self.fused(a)
        if kernel is None:
            return self.compute_by_parts(a)
        out = NDArray._empty(a._shape, a._device, a._dtype)
        kernel(a.compact(), out)
        return out

    def decompose(self, a: Tensor) -> Tensor:  # type: ignore[override]
        return exp(LogSoftmax().decompose(a))

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor]:
        return (node * (out_grad - summation(out_grad * node, 1, keepdims=True)),)


class LogSoftmax(FusedOp):
    """a - logsumexp(a) along axis 1 of a 2-d tensor. d = g - softmax(a)·Σ g.

    The terms of the logsumexp, the maximum and the logarithm of a sum, are subtracted one after the
    other: in their sum a large maximum would swallow the logarithm.
    """

    kernel = "log_softmax"

    def compute(self, a: NDArray) -> NDArray:
        kernel = self.fused(a)
        if kernel is None:
            return self.compute_by_parts(a)
        out = NDArray._empty(a._shape, a._device, a._dtype)
        kernel(a.compact(), out)
        return out

    def decompose(self, a: Tensor) -> Tensor:  # type: ignore[override]
        shifted = a - largest(a, 1, keepdims=True).detach() if a.shape[1] else a
        return shifted - log(summation(exp(shifted), 1, keepdims=True))

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor]:
        return (out_grad - exp(node) * summation(out_grad, 1, keepdims=True),)


def relu(a: Tensor) -> Tensor:
    """Rectified linear unit: max(a, 0) of each element.

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
    >>> ndl.relu(ndl.Tensor([-1, 0, 2]))
    needle.Tensor([0. 0. 2.])
    """
    return ReLU()(a)


def tanh(a: Tensor) -> Tensor:
    """Hyperbolic tangent of each element.

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
    >>> ndl.tanh(ndl.Tensor([0, 100]))
    needle.Tensor([0. 1.])
    """
    return Tanh()(a)


def sigmoid(a: Tensor) -> Tensor:
    """Logistic function of each element, 1 / (1 + exp(-a)), without overflow.

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
    >>> ndl.sigmoid(ndl.Tensor([-1000, 0, 1000]))
    needle.Tensor([0.  0.5 1. ])
    """
    return Sigmoid()(a)


def leaky_relu(a: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Rectified linear unit with a slope for negative elements.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    negative_slope : float, default 0.01
        The slope below 0.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.leaky_relu(ndl.Tensor([-1, 2]), 0.5)
    needle.Tensor([-0.5  2. ])
    """
    return where(a > 0, a, a * negative_slope)


@rounds_once
def elu(a: Tensor, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: a where positive, else alpha·(exp(a) - 1).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    alpha : float, default 1.0
        The negative of the limit for very negative elements.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential
    Linear Units", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.elu(ndl.Tensor([-1000, 2]))
    needle.Tensor([-1.  2.])
    """
    # exp of a large positive number would overflow and its gradient be inf · 0.
    return where(a > 0, a, expm1(where(a > 0, 0.0, a)) * alpha)


@widens
def softplus(a: Tensor) -> Tensor:
    """Smooth rectifier: ln(1 + exp(a)), without overflow.

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
    >>> ndl.softplus(ndl.Tensor([-1000, 1000]))
    needle.Tensor([   0. 1000.])
    """
    return maximum(a, 0.0) + log1p(exp(-abs_(a)))


@rounds_once
def silu(a: Tensor) -> Tensor:
    """Sigmoid linear unit: a·sigmoid(a).

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units", 2018.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.silu(ndl.Tensor([-1000, 0, 1000]))
    needle.Tensor([  -0.    0. 1000.])
    """
    return SiLU()(a)


@rounds_once
def gelu(a: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: a·Φ(a) for the standard normal distribution Φ.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    approximate : {"none", "tanh"}, default "none"
        "tanh" is ½·a·(1 + tanh(√(2/π)·(a + 0.044715·a³))), as GPT-2 has it.

    Returns
    -------
    Tensor
        The shape and dtype of `a`; float32 for integers and bools.

    Raises
    ------
    ValueError
        If `approximate` is neither.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.gelu(ndl.Tensor([-1000, 0, 1000]))
    needle.Tensor([  -0.    0. 1000.])
    """
    if approximate == "tanh":
        inner = (a + 0.044715 * (a * a * a)) * math.sqrt(2 / math.pi)
        return 0.5 * a * (1.0 + tanh(inner))
    if approximate != "none":
        raise ValueError(f"[gelu] approximate must be 'none' or 'tanh', got {approximate!r}")
    return GELU()(a)


def along_last_axis(op: FusedOp, a: Tensor, axis: int, what: str) -> Tensor:
    """A row-wise op applied along any axis."""
    along = normalize_axis(axis, a.ndim, what)
    if a.ndim == 2 and along == 1:
        return op(a)
    order = [i for i in range(a.ndim) if i != along] + [along]
    moved = a if along == a.ndim - 1 else permute(a, order)
    rows = op(reshape(moved, (-1, a.shape[along]) if a.size else (0, max(a.shape[along], 1))))
    out = reshape(rows, moved.shape)
    return out if moved is a else permute(out, [order.index(i) for i in range(a.ndim)])


def softmax(a: Tensor, axis: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
    """Softmax along an axis: exp(a) / sum(exp(a)), computed without overflow.

    Parameters
    ----------
    a : Tensor
        Of any shape that has the axis, and any dtype.
    axis : int, default -1
        The axis along which the result sums to 1. `dim` is another name of this argument.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The probabilities, in the shape and dtype of `a`; float32 for integers and bools.

    Raises
    ------
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.softmax(ndl.Tensor([[3, 3], [0, 1000]]), axis=1).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    a = a if dtype is None else a.astype(dtype)
    return along_last_axis(Softmax(), a, axis, "softmax")


def log_softmax(a: Tensor, axis: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
    """Logarithm of the softmax along an axis, computed without overflow.

    `logsoftmax` is the course's name for a 2-d tensor and its axis 1.

    Parameters
    ----------
    a : Tensor
        Of any shape that has the axis, and any dtype.
    axis : int, default -1
        The axis along which the exponentials of the result sum to 1. `dim` is another name of this
        argument.
    dtype : dtype, optional
        What `a` is converted to first.

    Returns
    -------
    Tensor
        The log-probabilities, in the shape and dtype of `a`; float32 for integers and bools.

    Raises
    ------
    ValueError
        If `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.log_softmax(ndl.Tensor([1000, 0]))
    needle.Tensor([    0. -1000.])
    """
    a = a if dtype is None else a.astype(dtype)
    return along_last_axis(LogSoftmax(), a, axis, "log_softmax")


def logsoftmax(a: Tensor) -> Tensor:
    """Logarithm of the softmax of a matrix along axis 1; the course's name for `log_softmax`.

    Parameters
    ----------
    a : Tensor, shape (n, c)
        The logits.

    Returns
    -------
    Tensor, shape (n, c)

    Raises
    ------
    ValueError
        If `a` is not 2-d.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logsoftmax(ndl.Tensor([[1000, 0]])).tolist()
    [[0.0, -1000.0]]
    """
    if a.ndim != 2:
        raise ValueError(f"[logsoftmax] needs a 2-d tensor, got shape {a.shape}")
    return LogSoftmax()(a)


__all__ = [
    "GELU", "LogSoftmax", "ReLU", "ReLUGrad", "SiLU", "Sigmoid", "Softmax", "Tanh", "elu", "gelu",
    "leaky_relu", "log_softmax", "logsoftmax", "relu", "sigmoid", "silu", "softmax", "softplus",
    "tanh",
]  # fmt: skip
