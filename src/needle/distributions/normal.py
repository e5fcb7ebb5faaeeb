"""Normal distributions: of numbers, of their logarithms, of vectors."""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import broadcast_shapes
from ..linalg import cholesky, solve_triangular
from ..typing import Shape
from .distribution import Distribution, Parameter, require, standard_normal, tensors


class Normal(Distribution):
    """Normal distribution N(loc, scale²).

    Parameters
    ----------
    loc : Tensor or float
        The mean.
    scale : Tensor or float
        The standard deviation.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.distributions.Normal(0.0, 1.0).log_prob(ndl.Tensor(0.0)).item(), 4)
    -0.9189
    """

    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter) -> None:
        self.loc, self.scale = tensors(loc, scale)
        require(type(self).__name__, "scale", self.scale > 0, "positive")
        super().__init__(self.loc.shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        return self.loc + self.scale * standard_normal(self._shape(sample_shape), self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return -0.5 * z * z - ops.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        return ops.log(self.scale) + (0.5 + 0.5 * math.log(2 * math.pi))

    def cdf(self, value: Tensor) -> Tensor:
        """Compute the probability of a draw of at most `value`."""
        return 0.5 * ops.erfc((self.loc - value) / (self.scale * math.sqrt(2)))

    def icdf(self, probability: Tensor) -> Tensor:
        """Compute the number that a draw is at most with a probability."""
        return self.loc + self.scale * (math.sqrt(2) * ops.erfinv(2.0 * probability - 1.0))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale * self.scale


class LogNormal(Distribution):
    """Distribution of exp(x) for x of N(loc, scale²).

    Parameters
    ----------
    loc : Tensor or float
        The mean of the logarithm.
    scale : Tensor or float
        The standard deviation of the logarithm.

    Examples
    --------
    >>> import needle as ndl
    >>> round(ndl.distributions.LogNormal(0.0, 1.0).mean.item(), 4)
    1.6487
    """

    has_rsample = True

    def __init__(self, loc: Parameter, scale: Parameter) -> None:
        self.base = Normal(loc, scale)
        self.loc, self.scale = self.base.loc, self.base.scale
        super().__init__(self.base.batch_shape)

    def _draw(self, sample_shape: Shape) -> Tensor:
        return ops.exp(self.base._draw(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        logarithm = ops.log(value)
        return self.base.log_prob(logarithm) - logarithm

    def entropy(self) -> Tensor:
        return self.base.entropy() + self.loc

    @property
    def mean(self) -> Tensor:
        return ops.exp(self.loc + 0.5 * self.base.variance)

    @property
    def variance(self) -> Tensor:
        square = self.base.variance
        return ops.expm1(square) * ops.exp(2.0 * self.loc + square)


class MultivariateNormal(Distribution):
    """Normal distribution of vectors, N(loc, L·Lᵀ).

    Parameters
    ----------
    loc : Tensor, shape (…, d)
        The mean.
    covariance_matrix : Tensor, shape (…, d, d), optional
        The covariance. Give it or `scale_tril`.
    scale_tril : Tensor, shape (…, d, d), optional
        L, lower triangular with a positive diagonal.

    Examples
    --------
    >>> import needle as ndl
    >>> eye = ndl.Tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> normal = ndl.distributions.MultivariateNormal(ndl.zeros(2), eye)
    >>> round(normal.entropy().item(), 4)
    2.8379
    """

    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
    ) -> None:
        if (covariance_matrix is None) == (scale_tril is None):
            raise ValueError("[MultivariateNormal] give covariance_matrix or scale_tril")
        if covariance_matrix is not None:
            scale_tril = cholesky(covariance_matrix)
        assert scale_tril is not None
        d = loc.shape[-1] if loc.ndim else 0
        if scale_tril.shape[-2:] != (d, d):
            raise ValueError(
                f"[MultivariateNormal] a mean of shape {loc.shape} has no covariance of shape "
                f"{scale_tril.shape}"
            )
        batch = broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2], "MultivariateNormal")
        self.loc = loc.broadcast_to((*batch, d))
        self.scale_tril = scale_tril.broadcast_to((*batch, d, d))
        super().__init__(batch, (d,))

    def _draw(self, sample_shape: Shape) -> Tensor:
        z = standard_normal(self._shape(sample_shape), self.loc)
        return self.loc + (self.scale_tril @ z.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        difference = value - self.loc
        z = whitened(self.scale_tril, difference)
        constant = 0.5 * self.event_shape[0] * math.log(2 * math.pi)
        return -0.5 * (z * z).sum(-1) - self.half_log_det() - constant

    def half_log_det(self) -> Tensor:
        """log det L, half of that of the covariance."""
        return ops.log(diagonal(self.scale_tril)).sum(-1)

    def entropy(self) -> Tensor:
        return self.half_log_det() + 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi))

    @property
    def covariance_matrix(self) -> Tensor:
        """L·Lᵀ."""
        return self.scale_tril @ ops.transpose(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril * self.scale_tril).sum(-1)


def diagonal(matrix: Tensor) -> Tensor:
    """The diagonals of square matrices."""
    d = matrix.shape[-1]
    index = [i * (d + 1) for i in range(d)]
    return ops.take(matrix.reshape((*matrix.shape[:-2], d * d)), index, -1)


def whitened(scale_tril: Tensor, x: Tensor) -> Tensor:
    """L⁻¹·x for vectors along the last axis."""
    shape = (*x.shape[:-1], *scale_tril.shape[-2:])
    scale = scale_tril.broadcast_to(shape)
    return solve_triangular(scale, x.unsqueeze(-1), upper=False).squeeze(-1)
