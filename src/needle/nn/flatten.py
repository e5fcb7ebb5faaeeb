"""Flatten: all axes but the first joined into one."""

from __future__ import annotations

from math import prod

from ..autograd import Tensor
from ..ops import reshape
from .module import Module


class Flatten(Module):
    """Join all axes but the first: (B, d1, d2, …) becomes (B, d1·d2·…).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Flatten()(ndl.ones(2, 3, 4)).shape
    (2, 12)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` as a matrix with the first axis of `x` as its rows.

        Raises
        ------
        ValueError
            If `x` has no axes.
        """
        shape = x.shape
        if not shape:
            raise ValueError("[Flatten] needs a tensor of at least 1 axis, got shape ()")
        return reshape(x, (shape[0], prod(shape[1:])))
