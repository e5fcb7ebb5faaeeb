"""Dropout: random zeros in training (Srivastava et al., 2014)."""

from __future__ import annotations

from .. import init
from ..autograd import Tensor
from ..random import Generator
from .arguments import in_unit_interval
from .module import Module


class Dropout(Module):
    """In training each element is 0 with probability `p` and else divided by 1 - p.

    Draws `numpy.random.rand(*x.shape)` at each call in training, or from `generator`, which must be
    on x's device; evaluation is the identity.
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        self.p = in_unit_interval("Dropout", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        if not self.training:
            return x
        if self.p == 0:  # draws all the same: what is drawn later does not depend on p
            init.rand(*x.shape, device=x.device, generator=self.generator)
            return x
        keep = 1 - self.p
        mask = init.randb(
            *x.shape, p=keep, device=x.device, dtype=x.dtype, generator=self.generator
        )
        scale = 1 / keep if keep else 0.0  # p = 1 drops everything: 0 and not 0/0
        return x * Tensor.make_const(mask.realize_cached_data() * scale)

    def extra_repr(self) -> str:
        return f"p={self.p}"
