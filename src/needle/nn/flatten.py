"""Flatten: neighbouring axes joined into one."""

from __future__ import annotations

from math import prod

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis, whole
from ..ops import reshape
from .module import Module


class Flatten(Module):
    """Join neighbouring axes, by default all but the first: (B, d1, d2, …) → (B, d1·d2·…).

    Parameters
    ----------
    start_dim : int, default 1
        The first axis to join.
    end_dim : int, default -1
        The last axis to join.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Flatten()(ndl.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = whole(start_dim, "Flatten", "start_dim")
        self.end_dim = whole(end_dim, "Flatten", "end_dim")

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with fewer axes.

        Raises
        ------
        ValueError
            If `x` does not have the axes.
        """
        shape = x.shape
        if not shape:
            raise ValueError("[Flatten] needs a tensor of at least 1 axis, got shape ()")
        if (self.start_dim, self.end_dim) == (1, -1):  # a vector becomes a column
            return reshape(x, (shape[0], prod(shape[1:])))
        first = normalize_axis(self.start_dim, len(shape), "Flatten")
        last = normalize_axis(self.end_dim, len(shape), "Flatten")
        if first > last:
            raise ValueError(f"[Flatten] start_dim {first} comes after end_dim {last}")
        return reshape(x, (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))
