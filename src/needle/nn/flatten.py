"""Flatten: all axes but the first joined into one."""

from __future__ import annotations

from math import prod

from ..autograd import Tensor
from ..ops import reshape
from .module import Module


class Flatten(Module):
    """(B, d1, d2, …) → (B, d1·d2·…)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keeps axis 0. Raises ValueError for a 0-d tensor."""
        shape = x.shape
        if not shape:
            raise ValueError("[Flatten] needs a tensor of at least 1 axis, got shape ()")
        return reshape(x, (shape[0], prod(shape[1:])))
