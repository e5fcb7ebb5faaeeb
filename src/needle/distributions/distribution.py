"""Distribution: what all distributions share, and how their parameters are made Tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ..autograd import Tensor, no_grad
from ..backend_ndarray import is_float, is_traced
from ..backend_ndarray.layout import broadcast_shapes
from ..init import rand, randn
from ..ops import sqrt
from ..typing import HostArray, Shape

Parameter: TypeAlias = Tensor | HostArray | Sequence[float] | float


class Distribution:
    """Base class of distributions.

    A sample has the shape (*sample_shape, *batch_shape, *event_shape): `batch_shape` is that of
    independent distributions with parameters of their own, `event_shape` that of one draw.

    Parameters
    ----------
    batch_shape : tuple of int
        The shape of the parameters.
    event_shape : tuple of int
        The shape of one draw.
    """

    has_rsample = False

    def __init__(self, batch_shape: Shape, event_shape: Shape = ()) -> None:
        self.batch_shape, self.event_shape = batch_shape, event_shape

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw numbers without a gradient."""
        with no_grad():
            return self._draw(tuple(sample_shape)).detach()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw numbers that have a gradient with respect to the parameters.

        Raises NotImplementedError where the distribution has no such draws.
        """
        if not self.has_rsample:
            raise NotImplementedError(
                f"[{type(self).__name__}] draws have no gradient: use sample and log_prob"
            )
        return self._draw(tuple(sample_shape))

    def _draw(self, sample_shape: Shape) -> Tensor:
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the logarithm of the density or probability of `value`."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """Compute the entropy in nats."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """The mean."""
        raise NotImplementedError

    @property
    def variance(self) -> Tensor:
        """The variance."""
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        """The standard deviation."""
        return sqrt(self.variance)

    def _shape(self, sample_shape: Shape) -> Shape:
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={self.batch_shape}, event={self.event_shape})"


def tensors(*values: Parameter) -> list[Tensor]:
    """The parameters as Tensors of floats with a common shape, on the first Tensor's device."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    found = []
    for value in values:
        if not isinstance(value, Tensor):
            device = None if like is None else like.device
            dtype = "float32" if like is None or not is_float(like.dtype) else like.dtype
            value = Tensor(value, device=device, dtype=dtype, requires_grad=False)
        found.append(value if is_float(value.dtype) else value.astype("float32"))
    shape: Shape = ()
    for value in found:
        shape = broadcast_shapes(shape, value.shape, "distribution")
    return [value if value.shape == shape else value.broadcast_to(shape) for value in found]


def require(owner: str, name: str, holds: Tensor, what: str) -> None:
    """Raises ValueError unless a condition holds everywhere. A compiled function cannot look."""
    data = holds.realize_cached_data()
    if not is_traced(data) and not bool(np.asarray(data).all()):
        raise ValueError(f"[{owner}] {name} must be {what}")


def uniform(shape: Shape, like: Tensor) -> Tensor:
    """Numbers in (0, 1], whose logarithm is finite."""
    return 1.0 - rand(*shape, device=like.device, dtype=like.dtype)


def standard_normal(shape: Shape, like: Tensor) -> Tensor:
    return randn(*shape, device=like.device, dtype=like.dtype)
