"""Independent: the last batch axes of a distribution as axes of one draw."""

from __future__ import annotations

from ..autograd import Tensor
from ..typing import Shape
from .distribution import Distribution


class Independent(Distribution):
    """A distribution whose last batch axes belong to one draw, so that log_prob sums over them.

    Parameters
    ----------
    base_distribution : Distribution
        The distribution.
    reinterpreted_batch_ndims : int
        The number of batch axes.

    Examples
    --------
    >>> import needle as ndl
    >>> normal = ndl.distributions.Normal(ndl.zeros(2, 3), 1.0)
    >>> ndl.distributions.Independent(normal, 1).log_prob(ndl.zeros(2, 3)).shape
    (2,)
    """

    def __init__(self, base_distribution: Distribution, reinterpreted_batch_ndims: int) -> None:
        batch = base_distribution.batch_shape
        if not 0 <= reinterpreted_batch_ndims <= len(batch):
            raise ValueError(
                f"[Independent] {reinterpreted_batch_ndims} axes of a batch of shape {batch}"
            )
        self.base_dist, self.number = base_distribution, reinterpreted_batch_ndims
        self.has_rsample = base_distribution.has_rsample
        cut = len(batch) - reinterpreted_batch_ndims
        super().__init__(batch[:cut], batch[cut:] + base_distribution.event_shape)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the axes of a draw."""
        return values.sum(tuple(range(-self.number, 0))) if self.number else values

    def _draw(self, sample_shape: Shape) -> Tensor:
        return self.base_dist._draw(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        return self.summed(self.base_dist.entropy())

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance
