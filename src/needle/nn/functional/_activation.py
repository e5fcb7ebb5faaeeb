"""Activations that act on each element, and those that act along an axis."""

from __future__ import annotations

import math

from ... import init, ops
from ...autograd import Tensor
from ...ops._common import rounds_once
from ...random import Generator
from ...typing import DTypeLike
from ..arguments import finite, non_negative, one_of, positive

# The constants with which activations keep mean 0 and variance 1 (Klambauer et al., 2017).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). With `inplace` the result is a new Tensor all the same."""
    return ops.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, otherwise negative_slope·x."""
    return ops.leaky_relu(input, negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, otherwise weight·x, with one weight or one for each channel (axis 1).

    Raises ValueError if the number of weights is neither 1 nor the number of channels.
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.size not in (1, channels):
        raise ValueError(
            f"[prelu] needs 1 or {channels} weights for input of shape {input.shape}, got "
            f"{weight.size}"
        )
    if weight.size > 1:
        weight = weight.reshape((channels, *[1] * (input.ndim - 2)))
    elif not input.ndim:
        weight = weight.reshape(())
    return ops.where(input > 0, input, weight * input)


def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """x where x > 0, otherwise slope·x: a random slope in training, the mean slope otherwise.

    The slopes are drawn by `numpy.random.rand`. Raises ValueError if `lower` exceeds `upper`.
    """
    if lower > upper:
        raise ValueError(f"[rrelu] lower must not exceed upper, got {lower} and {upper}")
    if not training:
        return ops.leaky_relu(input, (lower + upper) / 2)
    slope = init.rand(*input.shape, low=lower, high=upper, device=input.device, dtype=input.dtype)
    return ops.where(input > 0, input, slope * input)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, otherwise alpha·(exp(x) - 1)."""
    return ops.elu(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale·elu(x, alpha) with the constants that keep mean 0 and variance 1."""
    return SELU_SCALE * ops.elu(input, SELU_ALPHA)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, otherwise alpha·(exp(x / alpha) - 1)."""
    if alpha == 0:
        raise ValueError("[celu] alpha must not be 0")
    return _celu(input, finite("celu", "alpha", alpha))


@rounds_once
def _celu(x: Tensor, alpha: float) -> Tensor:
    return ops.where(x > 0, x, alpha * ops.expm1(ops.minimum(x, 0.0) / alpha))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x); with `approximate="tanh"` the formula of Hendrycks and Gimpel (2016) with tanh."""
    if one_of("gelu", "approximate", approximate, ("none", "tanh")) == "none":
        return ops.gelu(input)
    return _gelu_tanh(input)


@rounds_once
def _gelu_tanh(x: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + ops.tanh(inner))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·sigmoid(x)."""
    return ops.silu(input)


@rounds_once
def _mish(x: Tensor) -> Tensor:
    return x * ops.tanh(ops.softplus(x))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x)) (Misra, 2019)."""
    return _mish(input)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x, limited to [min_val, max_val]. Raises ValueError unless min_val <= max_val."""
    if not min_val <= max_val:
        raise ValueError(f"[hardtanh] needs min_val <= max_val, got {min_val} and {max_val}")
    return ops.clip(input, min_val, max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6: sigmoid from straight lines."""
    return _hardsigmoid(input)


@rounds_once
def _hardsigmoid(x: Tensor) -> Tensor:
    return ops.clip(x + 3.0, 0.0, 6.0) / 6.0


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·hardsigmoid(x) (Howard et al., 2019)."""
    return _hardswish(input)


@rounds_once
def _hardswish(x: Tensor) -> Tensor:
    return x * _hardsigmoid(x)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, otherwise 0."""
    return ops.where(ops.abs(input) > lambd, input, 0.0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, and 0 where that is too far."""
    lambd = non_negative("softshrink", "lambd", lambd)
    return ops.where(ops.abs(input) > lambd, input - lambd * ops.sign(input), 0.0)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _tanhshrink(input)


@rounds_once
def _tanhshrink(x: Tensor) -> Tensor:
    return x - ops.tanh(x)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, otherwise `value`."""
    return ops.where(input > threshold, input, value)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _softsign(input)


@rounds_once
def _softsign(x: Tensor) -> Tensor:
    return x / (1.0 + ops.abs(x))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta·x)) / beta, computed without overflow.

    Where beta·x exceeds `threshold`, it is x itself. At 20 and above the two differ by less than
    rounding, and the formula is used everywhere.
    """
    beta = positive("softplus", "beta", beta)
    smooth = ops.softplus(input) if beta == 1 else ops.softplus(input * beta) / beta
    return smooth if threshold >= 20 else ops.where(input * beta > threshold, input, smooth)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), computed without overflow."""
    return -ops.softplus(-input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a·sigmoid(b), where a and b are the halves of x along `dim`.

    Raises ValueError if the length along `dim` is odd.
    """
    if input.shape[dim] % 2:
        raise ValueError(f"[glu] axis {dim} of shape {input.shape} must have an even length")
    a, b = ops.chunk(input, 2, dim)
    return a * ops.sigmoid(b)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return ops.tanh(input)


# ---- along an axis --------------------------------------------------------------------------


def softmax(input: Tensor, dim: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, of the input converted to `dtype`."""
    return ops.softmax(input, dim, dtype=dtype)


def log_softmax(input: Tensor, dim: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
    """The logarithm of `softmax`."""
    return ops.log_softmax(input, dim, dtype=dtype)


def softmin(input: Tensor, dim: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
    """The softmax of -x."""
    return ops.softmax(-input, dim, dtype=dtype)


def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    dim: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """A random sample of a categorical distribution that has a gradient (Jang et al., 2017).

    With `hard` the result is one-hot and its gradient that of the soft sample.
    """
    tau = positive("gumbel_softmax", "tau", tau)
    uniform = init.rand(
        *logits.shape, low=1e-20, device=logits.device, dtype=logits.dtype, generator=generator
    )
    gumbel = -ops.log(-ops.log(uniform))
    soft = ops.softmax((logits + gumbel) / tau, dim)
    if not hard:
        return soft
    one_hot = ops.one_hot(ops.argmax(soft.detach(), dim), soft.shape[dim], soft.dtype)
    last = dim % soft.ndim
    order = [*range(last), soft.ndim - 1, *range(last, soft.ndim - 1)]
    return ops.permute(one_hot, order) - soft.detach() + soft
