"""Distributions of classes and counts."""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import broadcast_shapes
from ..typing import Shape
from .distribution import Distribution, Parameter, require, tensors, uniform


def _one_of(owner: str, probs: Parameter | None, logits: Parameter | None) -> Tensor:
    if (probs is None) == (logits is None):
        raise ValueError(f"[{owner}] give probs or logits")
    (given,) = tensors(probs if logits is None else logits)  # type: ignore[arg-type]
    return given


class Bernoulli(Distribution):
    """Distribution of 1 with the probability `probs`, 0 otherwise.

    Parameters
    ----------
    probs : Tensor or float, optional
        The probability of 1. Give it or `logits`.
    logits : Tensor or float, optional
        log(probs / (1 - probs)).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Bernoulli(0.25).variance.item()
    0.1875
    """

    def __init__(self, probs: Parameter | None = None, logits: Parameter | None = None) -> None:
        given = _one_of("Bernoulli", probs, logits)
        if logits is None:
            require("Bernoulli", "probs", (given >= 0) * (given <= 1), "in [0, 1]")
            self.probs, self.logits = given, ops.log(given) - ops.log1p(-given)
        else:
            self.probs, self.logits = ops.sigmoid(given), given
        super().__init__(given.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        u = 1.0 - uniform(self._shape(sample_shape), self.probs)
        return (u < self.probs).astype(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        one = ops.where(value == 0, 0.0, -value * ops.softplus(-self.logits))
        return one + ops.where(value == 1, 0.0, -(1.0 - value) * ops.softplus(self.logits))

    def entropy(self) -> Tensor:
        p = self.probs
        one = ops.where(p == 0, 0.0, p * ops.softplus(-self.logits))
        return one + ops.where(p == 1, 0.0, (1.0 - p) * ops.softplus(self.logits))

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)


class Categorical(Distribution):
    """Distribution of one of the classes 0 … k - 1.

    Parameters
    ----------
    probs : Tensor, shape (…, k), optional
        The probabilities, which need not sum to 1. Give them or `logits`.
    logits : Tensor, shape (…, k), optional
        The unnormalized log-probabilities.

    Examples
    --------
    >>> import needle as ndl
    >>> classes = ndl.distributions.Categorical(ndl.Tensor([0.0, 1.0]))
    >>> classes.sample((3,)).tolist()
    [1, 1, 1]
    """

    def __init__(self, probs: Parameter | None = None, logits: Parameter | None = None) -> None:
        name = type(self).__name__
        given = _one_of(name, probs, logits)
        if not given.ndim:
            raise ValueError(f"[{name}] the probabilities need at least one axis")
        if logits is None:
            require(name, "probs", given >= 0, "at least 0")
            self.probs = given / given.sum(-1, keepdims=True)
            self.logits = ops.log(self.probs)
        else:
            self.logits = ops.log_softmax(given, -1)
            self.probs = ops.exp(self.logits)
        self.classes = given.shape[-1]
        super().__init__(given.shape[:-1])

    def _draw(self, sample_shape: Shape) -> Tensor:
        # The largest of log-probabilities plus Gumbel noise has the right distribution.
        shape = (*sample_shape, *self.batch_shape, self.classes)
        noise = -ops.log(-ops.log(uniform(shape, self.logits)))
        return ops.argmax(self.logits + noise, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.detach().astype("int64")
        shape = broadcast_shapes(value.shape, self.batch_shape, "Categorical")
        logits = self.logits.broadcast_to((*shape, self.classes))
        index = value.broadcast_to(shape).unsqueeze(-1)
        return ops.gather(logits, -1, index).squeeze(-1)

    def entropy(self) -> Tensor:
        return -ops.where(self.probs == 0, 0.0, self.probs * self.logits).sum(-1)

    @property
    def mean(self) -> Tensor:
        """NaN: classes have no mean."""
        return self.probs.sum(-1) * math.nan

    @property
    def variance(self) -> Tensor:
        """NaN: classes have no variance."""
        return self.probs.sum(-1) * math.nan


class OneHotCategorical(Distribution):
    """Distribution of a class as a vector with one 1.

    Parameters
    ----------
    probs : Tensor, shape (…, k), optional
        The probabilities, which need not sum to 1. Give them or `logits`.
    logits : Tensor, shape (…, k), optional
        The unnormalized log-probabilities.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.OneHotCategorical(ndl.Tensor([0.0, 1.0])).sample().tolist()
    [0.0, 1.0]
    """

    def __init__(self, probs: Parameter | None = None, logits: Parameter | None = None) -> None:
        self.categorical = Categorical(probs, logits)
        self.probs, self.logits = self.categorical.probs, self.categorical.logits
        super().__init__(self.categorical.batch_shape, self.probs.shape[-1:])

    def _draw(self, sample_shape: Shape) -> Tensor:
        index = self.categorical._draw(sample_shape)
        return ops.one_hot(index, self.event_shape[0], self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return ops.where(value == 0, 0.0, value * self.logits).sum(-1)

    def entropy(self) -> Tensor:
        return self.categorical.entropy()

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)


class Poisson(Distribution):
    """Distribution of counts with the probability rate^k·exp(-rate) / k!.

    Parameters
    ----------
    rate : Tensor or float
        The mean, not negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Poisson(0.0).sample((2,)).tolist()
    [0.0, 0.0]
    """

    def __init__(self, rate: Parameter) -> None:
        (self.rate,) = tensors(rate)
        require("Poisson", "rate", self.rate >= 0, "at least 0")
        super().__init__(self.rate.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        shape = self._shape(sample_shape)
        rate = self.rate.detach().astype("float64").broadcast_to(shape)
        large = rate >= 10.0
        found = ops.where(large, _by_rejection(ops.maximum(rate, 10.0)), _by_inversion(rate))
        return found.astype(self.rate.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        power = ops.where(value == 0, 0.0, value * ops.log(self.rate))
        return power - self.rate - ops.lgamma(value + 1.0)

    def entropy(self) -> Tensor:
        raise NotImplementedError("[Poisson] the entropy has no closed form")

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate


def _by_inversion(rate: Tensor) -> Tensor:
    """Counts of rates below 10: how many values of the distribution function a number exceeds."""
    u, count = 1.0 - uniform(rate.shape, rate), rate * 0.0
    probability = ops.exp(-rate)
    total = probability
    for k in range(1, 46):  # at rate 10 more have a probability of 1e-15
        count = count + (u >= total).astype(rate.dtype)
        probability = probability * rate / float(k)
        total = total + probability
    return count


def _by_rejection(rate: Tensor) -> Tensor:
    """Counts of rates from 10 on: the first accepted one of 12 candidates (Hörmann, "The
    Transformed Rejection Method for Generating Poisson Random Variables", 1993)."""
    b = 0.931 + 2.53 * ops.sqrt(rate)
    a = -0.059 + 0.02483 * b
    scale = ops.log(1.1239 + 1.1328 / (b - 3.4))
    quick = 0.9277 - 3.6224 / (b - 2.0)
    chosen = ops.floor(rate)
    log_rate = ops.log(rate)
    for _ in range(12):
        u, v = uniform(rate.shape, rate) - 0.5, uniform(rate.shape, rate)
        side = ops.maximum(0.5 - ops.abs(u), 1e-12)
        k = ops.floor((2.0 * a / side + b) * u + rate + 0.43)
        count = ops.maximum(k, 0.0)
        height = ops.log(v) + scale - ops.log(a / (side * side) + b)
        fits = height <= count * log_rate - rate - ops.lgamma(count + 1.0)
        narrow = (side < 0.013) & (v > side)
        in_box = (side >= 0.07) & (v <= quick)
        good = in_box | ((k >= 0) & fits & ~narrow)
        chosen = ops.where(good, count, chosen)
    return chosen
