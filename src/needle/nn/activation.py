"""Activation functions as modules; each is the function of the same name in `needle.ops`."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..synonyms import accepts_synonyms
from .arguments import finite, positive
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.relu(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.sigmoid(x)


class GELU(Module):
    """x·Φ(x) with the normal distribution's Φ (Hendrycks and Gimpel, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.gelu(x)


class SiLU(Module):
    """x·sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.silu(x)


class Softplus(Module):
    """log(1 + exp(x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.softplus(x)


class LeakyReLU(Module):
    """x where it is positive, else negative_slope·x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = finite("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where it is positive, else alpha·(exp(x) - 1) (Clevert et al., 2015)."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = positive("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `axis`."""

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, type(self).__name__, "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return ops.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Module):
    """The logarithm of the softmax along `axis`, computed without overflow."""

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, type(self).__name__, "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return ops.log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
