"""Activation functions as modules; each is the function of the same name in `needle.ops`."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..synonyms import accepts_synonyms
from . import functional
from .arguments import finite, one_of, positive
from .module import Module


class ReLU(Module):
    """Rectified linear unit: max(x, 0).

    The derivative at 0 is 0.

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReLU()(ndl.Tensor([-1, 0, 2]))
    needle.Tensor([0. 0. 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.relu(x)


class Tanh(Module):
    """Hyperbolic tangent.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Tanh()(ndl.Tensor([0, 100]))
    needle.Tensor([0. 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.tanh(x)


class Sigmoid(Module):
    """Logistic function: 1 / (1 + exp(-x)), computed without overflow.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Sigmoid()(ndl.Tensor([-1000, 0, 1000]))
    needle.Tensor([0.  0.5 1. ])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.sigmoid(x)


class GELU(Module):
    """Gaussian error linear unit: x·Φ(x), where Φ is the standard normal distribution function.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        Whether Φ is approximated with tanh.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.GELU()(ndl.Tensor([-100, 0, 100]))
    needle.Tensor([ -0.   0. 100.])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = one_of("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.gelu(x, self.approximate)


class SiLU(Module):
    """Sigmoid linear unit, also called swish: x·sigmoid(x).

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SiLU()(ndl.Tensor([0, 100]))
    needle.Tensor([  0. 100.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.silu(x)


class Softplus(Module):
    """Smooth version of ReLU: log(1 + exp(beta·x)) / beta, computed without overflow.

    Parameters
    ----------
    beta : float, default 1.0
        The sharpness; it must be positive.
    threshold : float, default 20.0
        Where beta·x exceeds it, the result is x itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softplus()(ndl.Tensor([-1000, 1000]))
    needle.Tensor([   0. 1000.])
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = positive("Softplus", "beta", beta)
        self.threshold = finite("Softplus", "threshold", threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.softplus(x, self.beta, self.threshold)


class LeakyReLU(Module):
    """ReLU with a slope for negative numbers: x where x > 0, otherwise negative_slope·x.

    Parameters
    ----------
    negative_slope : float, default 0.01
        The slope for negative numbers; it must be finite.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LeakyReLU(0.5)(ndl.Tensor([-2, 2]))
    needle.Tensor([-1.  2.])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = finite("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """Exponential linear unit: x where x > 0, otherwise alpha·(exp(x) - 1).

    Parameters
    ----------
    alpha : float, default 1.0
        The limit for large negative numbers is -alpha; it must be positive.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential
    Linear Units (ELUs)", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ELU(alpha=2.0)(ndl.Tensor([-1000, 3]))
    needle.Tensor([-2.  3.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = positive("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Softmax(Module):
    """Softmax along an axis: exp(x) / sum(exp(x)), computed without overflow.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the result sums to 1. `dim` is another name of this argument.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softmax(axis=1)(ndl.Tensor([[3, 3], [0, 1000]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, type(self).__name__, "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities, a Tensor of the shape of `x`.

        Raises
        ------
        ValueError
            If `x` does not have the axis.
        """
        return ops.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Module):
    """Logarithm of the softmax along an axis, computed without overflow.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the exponentials of the result sum to 1. `dim` is another name of this
        argument.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LogSoftmax(axis=1)(ndl.Tensor([[1000, 0]])).tolist()
    [[0.0, -1000.0]]
    """

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, type(self).__name__, "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-probabilities, a Tensor of the shape of `x`.

        Raises
        ------
        ValueError
            If `x` does not have the axis.
        """
        return ops.log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
