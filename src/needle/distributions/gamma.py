"""Gamma, beta and Dirichlet distributions, whose draws have exact gradients."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..autograd import Tensor, TensorOp, no_grad
from ..backend_ndarray import NDArray
from ..typing import Shape
from .distribution import Distribution, Parameter, require, standard_normal, tensors, uniform


class _Drawn(TensorOp):
    """A draw x of the gamma distribution of shape alpha, as a function of alpha.

    Its derivative is implicit: the draw keeps its quantile, so that dx/dalpha =
    -(dF(x; alpha)/dalpha) / p(x) (Figurnov, Mohamed and Mnih, 2018).
    """

    def __init__(self, x: NDArray) -> None:
        self.x = x

    def compute(self, alpha: NDArray) -> NDArray:
        return self.x

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        alpha = node.inputs[0]
        wide = alpha.astype("float64")
        slope = _implicit(wide, Tensor.make_const(self.x.astype("float64")))
        return out_grad * slope.astype(alpha.dtype)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_LEAST = 40.0  # exp(-40) is below the rounding error of float64 beside 1


def _implicit(alpha: Tensor, x: Tensor) -> Tensor:
    """dx/dalpha by quadrature.

    With t = x·exp(∓v) the integral of p(t)·(log t - ψ(alpha)) over the tail beyond x becomes one
    over v from 0 on, whose integrand falls like exp(-φ(v)) with a convex φ.
    """
    below = x < alpha
    sign = ops.where(below, -1.0, 1.0)
    end = ops.where(
        below,
        (_LEAST + x) / alpha,
        ops.minimum(ops.sqrt(2 * _LEAST / x), ops.log1p(2 * _LEAST / x) + 1.0),
    )
    for _ in range(8):  # Newton's steps to φ(end) = 40, from above
        power = ops.exp(sign * end)
        end = end - (_exponent(alpha, x, end, sign) - _LEAST) / (sign * (x * power - alpha))
    total = x * 0.0
    offset = ops.log(x) - ops.digamma(alpha)
    for node, weight in zip((_NODES + 1) / 2, _WEIGHTS / 2, strict=True):
        v = end * float(node)
        decay = ops.exp(-_exponent(alpha, x, v, sign))
        total = total + float(weight) * decay * (offset + sign * v)
    return sign * x * end * total


def _exponent(alpha: Tensor, x: Tensor, v: Tensor, sign: Tensor) -> Tensor:
    """φ(v) = alpha·v - x·(1 - exp(-v)) below alpha, x·(exp(v) - 1) - alpha·v above."""
    return x * ops.expm1(sign * v) - sign * alpha * v


def standard_gamma(alpha: Tensor, shape: Shape) -> Tensor:
    """Draws of the gamma distribution of rate 1 (Marsaglia and Tsang, 2000).

    A candidate is accepted with a probability above 0.95; the first accepted one of eight is taken,
    so that a compiled function needs no loop.
    """
    with no_grad():
        wide = alpha.detach().astype("float64").broadcast_to(shape)
        small = wide < 1.0
        d = ops.where(small, wide + 1.0, wide) - 1 / 3
        c = 1.0 / (3.0 * ops.sqrt(d))
        chosen = wide * 0.0 + 1.0
        for _ in range(8):
            z = standard_normal(shape, wide)
            v = (1.0 + c * z) ** 3
            positive = ops.where(v > 0, v, 1.0)
            limit = 0.5 * z * z + d - d * positive + d * ops.log(positive)
            accepted = (v > 0).astype("float64") * (ops.log(uniform(shape, wide)) < limit).astype(
                "float64"
            )
            chosen = ops.where(accepted > 0, positive, chosen)
        boost = uniform(shape, wide) ** (1.0 / wide)
        x = d * chosen * ops.where(small, boost, 1.0)
        least = float(np.finfo(alpha.dtype).tiny)
        data = ops.maximum(x, least).astype(alpha.dtype).realize_cached_data()
    return _Drawn(data)(alpha.broadcast_to(shape))


class Gamma(Distribution):
    """Gamma distribution with the density rate^a·x^(a - 1)·exp(-rate·x) / Γ(a).

    Parameters
    ----------
    concentration : Tensor or float
        The shape a, positive.
    rate : Tensor or float
        The inverse scale, positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Gamma(3.0, 2.0).mean.item()
    1.5
    """

    has_rsample = True

    def __init__(self, concentration: Parameter, rate: Parameter) -> None:
        self.concentration, self.rate = tensors(concentration, rate)
        require("Gamma", "concentration", self.concentration > 0, "positive")
        require("Gamma", "rate", self.rate > 0, "positive")
        super().__init__(self.rate.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        return standard_gamma(self.concentration, self._shape(sample_shape)) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        power = a * ops.log(self.rate) + (a - 1.0) * ops.log(value)
        return power - self.rate * value - ops.lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - ops.log(self.rate) + ops.lgamma(a) + (1.0 - a) * ops.digamma(a)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / (self.rate * self.rate)


class Dirichlet(Distribution):
    """Dirichlet distribution of probabilities that sum to 1 along the last axis.

    Parameters
    ----------
    concentration : Tensor, shape (…, k)
        The concentrations, positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Dirichlet([1.0, 3.0]).mean.tolist()
    [0.25, 0.75]
    """

    has_rsample = True

    def __init__(self, concentration: Parameter) -> None:
        (self.concentration,) = tensors(concentration)
        if not self.concentration.ndim:
            raise ValueError("[Dirichlet] concentration must have at least one axis")
        require("Dirichlet", "concentration", self.concentration > 0, "positive")
        super().__init__(self.concentration.shape[:-1], self.concentration.shape[-1:])

    def _draw(self, sample_shape: Shape) -> Tensor:
        x = standard_gamma(self.concentration, self._shape(sample_shape))
        return x / x.sum(-1, keepdims=True)

    def log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        normal = ops.lgamma(a.sum(-1)) - ops.lgamma(a).sum(-1)
        return ((a - 1.0) * ops.log(value)).sum(-1) + normal

    def entropy(self) -> Tensor:
        a, k = self.concentration, self.event_shape[0]
        total = a.sum(-1)
        normal = ops.lgamma(a).sum(-1) - ops.lgamma(total)
        spread = (total - float(k)) * ops.digamma(total)
        return normal + spread - ((a - 1.0) * ops.digamma(a)).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdims=True)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdims=True)
        mean = self.concentration / total
        return mean * (1.0 - mean) / (total + 1.0)


class Beta(Distribution):
    """Beta distribution with the density x^(a - 1)·(1 - x)^(b - 1) / B(a, b).

    Parameters
    ----------
    concentration1 : Tensor or float
        a, positive.
    concentration0 : Tensor or float
        b, positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Beta(1.0, 3.0).mean.item()
    0.25
    """

    has_rsample = True

    def __init__(self, concentration1: Parameter, concentration0: Parameter) -> None:
        self.concentration1, self.concentration0 = tensors(concentration1, concentration0)
        pair = ops.stack([self.concentration1, self.concentration0], -1)
        self.dirichlet = Dirichlet(pair)
        super().__init__(self.concentration1.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        return self.dirichlet._draw(sample_shape)[..., 0]

    def log_prob(self, value: Tensor) -> Tensor:
        return self.dirichlet.log_prob(ops.stack([value, 1.0 - value], -1))

    def entropy(self) -> Tensor:
        return self.dirichlet.entropy()

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total * total * (total + 1.0))
