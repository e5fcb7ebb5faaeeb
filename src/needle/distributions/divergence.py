"""Kullback-Leibler divergences of pairs of distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import ops
from ..autograd import Tensor
from .continuous import Exponential, Laplace, Uniform
from .discrete import Bernoulli, Categorical, OneHotCategorical, Poisson
from .distribution import Distribution
from .gamma import Beta, Dirichlet, Gamma
from .independent import Independent
from .normal import LogNormal, MultivariateNormal, Normal, whitened

Divergence = Callable[[Any, Any], Tensor]
_TABLE: dict[tuple[type, type], Divergence] = {}


def register_kl(p: type, q: type) -> Callable[[Divergence], Divergence]:
    """Register the decorated function as the divergence of two classes of distributions."""

    def register(function: Divergence) -> Divergence:
        _TABLE[p, q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Compute the Kullback-Leibler divergence, the mean of log p(x) - log q(x) for x of p.

    Raises NotImplementedError for a pair of classes without a closed form here.
    """
    for kind in type(p).__mro__:
        for other in type(q).__mro__:
            if (kind, other) in _TABLE:
                return _TABLE[kind, other](p, q)
    raise NotImplementedError(
        f"[kl_divergence] no closed form of {type(p).__name__} and {type(q).__name__}; "
        "average p.log_prob(x) - q.log_prob(x) over samples of p"
    )


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = p.scale / q.scale
    distance = (p.loc - q.loc) / q.scale
    return 0.5 * (ratio * ratio + distance * distance - 1.0) - ops.log(ratio)


@register_kl(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Tensor:
    return _normal(p.base, q.base)


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    distance = whitened(q.scale_tril, q.loc - p.loc)
    columns = ops.transpose(p.scale_tril)  # each row is a column of L
    spread = whitened(ops.unsqueeze(q.scale_tril, -3), columns)
    total = (spread * spread).sum((-1, -2)) + (distance * distance).sum(-1)
    return q.half_log_det() - p.half_log_det() + 0.5 * (total - float(p.event_shape[0]))


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    cross = p.probs * ops.softplus(-q.logits)
    cross = ops.where(p.probs == 0, 0.0, cross)
    rest = (1.0 - p.probs) * ops.softplus(q.logits)
    return cross + ops.where(p.probs == 1, 0.0, rest) - p.entropy()


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    return ops.where(p.probs == 0, 0.0, terms).sum(-1)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    outside = (q.low > p.low) | (q.high < p.high)
    return ops.where(outside, math.inf, ops.log((q.high - q.low) / (p.high - p.low)))


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - ops.log(ratio) - 1.0


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    ratio, distance = p.scale / q.scale, ops.abs(p.loc - q.loc)
    return ratio * ops.exp(-distance / p.scale) + distance / q.scale - ops.log(ratio) - 1.0


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (ops.log(p.rate) - ops.log(q.rate)) - (p.rate - q.rate)


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    shape = ops.lgamma(b) - ops.lgamma(a) + (a - b) * ops.digamma(a)
    return b * ops.log(p.rate / q.rate) + shape + a * (q.rate / p.rate - 1.0)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    normal = ops.lgamma(total) - ops.lgamma(b.sum(-1)) + (ops.lgamma(b) - ops.lgamma(a)).sum(-1)
    return normal + ((a - b) * (ops.digamma(a) - ops.digamma(total).unsqueeze(-1))).sum(-1)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    return _dirichlet(p.dirichlet, q.dirichlet)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.number != q.number:
        raise NotImplementedError("[kl_divergence] Independent of different numbers of axes")
    return p.summed(kl_divergence(p.base_dist, q.base_dist))
