"""Uniform, exponential and Laplace distributions."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..typing import Shape
from .distribution import Distribution, Parameter, require, tensors, uniform


class Uniform(Distribution):
    """Uniform distribution on [low, high).

    Parameters
    ----------
    low : Tensor or float
        The lower end.
    high : Tensor or float
        The upper end, above `low`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Uniform(1.0, 3.0).mean.item()
    2.0
    """

    has_rsample = True

    def __init__(self, low: Parameter, high: Parameter) -> None:
        self.low, self.high = tensors(low, high)
        require("Uniform", "high", self.high > self.low, "above low")
        super().__init__(self.low.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        u = 1.0 - uniform(self._shape(sample_shape), self.low)
        return self.low + (self.high - self.low) * u

    def log_prob(self, value: Tensor) -> Tensor:
        inside = ((value >= self.low) * (value < self.high)).astype(self.low.dtype)
        return ops.log(inside) - ops.log(self.high - self.low)

    def entropy(self) -> Tensor:
        return ops.log(self.high - self.low)

    @property
    def mean(self) -> Tensor:
        return 0.5 * (self.low + self.high)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12


class Exponential(Distribution):
    """Exponential distribution with the density rate·exp(-rate·x).

    Parameters
    ----------
    rate : Tensor or float
        The rate, positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Exponential(0.5).mean.item()
    2.0
    """

    has_rsample = True

    def __init__(self, rate: Parameter) -> None:
        (self.rate,) = tensors(rate)
        require("Exponential", "rate", self.rate > 0, "positive")
        super().__init__(self.rate.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        return -ops.log(uniform(self._shape(sample_shape), self.rate)) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return ops.log(self.rate) - self.rate * value

    def entropy(self) -> Tensor:
        return 1.0 - ops.log(self.rate)

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.rate

    @property
    def variance(self) -> Tensor:
        return 1.0 / (self.rate * self.rate)


class Laplace(Distribution):
    """Laplace distribution with the density exp(-|x - loc| / scale) / (2·scale).

    Parameters
    ----------
    loc : Tensor or float
        The mean.
    scale : Tensor or float
        The mean distance from it, positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.distributions.Laplace(0.0, 2.0).variance.item()
    8.0
    """

    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter) -> None:
        self.loc, self.scale = tensors(loc, scale)
        require("Laplace", "scale", self.scale > 0, "positive")
        super().__init__(self.loc.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        u = 2.0 * uniform(self._shape(sample_shape), self.loc) - 1.0  # in (-1, 1]
        distance = -ops.log(uniform(u.shape, u))
        return self.loc + self.scale * ops.where(u > 0, distance, -distance)

    def log_prob(self, value: Tensor) -> Tensor:
        return -ops.abs(value - self.loc) / self.scale - ops.log(2.0 * self.scale)

    def entropy(self) -> Tensor:
        return 1.0 + ops.log(2.0 * self.scale)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return 2.0 * self.scale * self.scale
