"""Dropout: random zeros in training (Srivastava et al., 2014)."""

from __future__ import annotations

from .. import init
from ..autograd import Tensor
from ..random import Generator
from .arguments import in_unit_interval
from .module import Module


class Dropout(Module):
    """Dropout: zero random elements in training and scale the others by 1 / (1 - p).

    In evaluation mode the layer is the identity.

    Parameters
    ----------
    p : float, default 0.5
        The probability that an element becomes 0.
    generator : Generator, optional
        The source of the random numbers, on the device of the input. Without one, every call in
        training mode draws `numpy.random.rand(*x.shape)`.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Raises
    ------
    TypeError
        If `p` is not a number.
    ValueError
        If `p` is outside [0, 1].

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> dropout = ndl.nn.Dropout(0.5)
    >>> set(dropout(ndl.ones(1000)).tolist()) == {0.0, 2.0}
    True
    >>> dropout.eval()(ndl.ones(2))
    needle.Tensor([1. 1.])
    """

    def __init__(
        self, p: float = 0.5, generator: Generator | None = None, inplace: bool = False
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("Dropout", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, of the same shape, or in evaluation mode `x` itself."""
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
