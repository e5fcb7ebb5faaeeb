"""Activations made of pieces: rectified, limited and shrunken numbers."""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_selection import Device
from ..init import constant
from ..typing import DTypeLike
from . import functional
from .arguments import finite, non_negative, positive, positive_int
from .module import Module
from .parameter import Parameter


class ReLU6(Module):
    """Rectified linear unit with a ceiling: min(max(x, 0), 6).

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ReLU6()(ndl.Tensor([-1, 2, 9]))
    needle.Tensor([0. 2. 6.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.relu6(x)


class PReLU(Module):
    """ReLU with learned slopes for negative numbers: x where x > 0, otherwise weight·x.

    Parameters
    ----------
    num_parameters : int, default 1
        The number of slopes: 1, or one for each channel (axis 1).
    init : float, default 0.25
        The slopes at first.
    device : Device or str, optional
        The device of the parameter; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameter.

    Attributes
    ----------
    weight : Parameter, shape (num_parameters,)
        The slopes.

    References
    ----------
    He et al., "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.PReLU()(ndl.Tensor([-2.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.num_parameters = positive_int("PReLU", "num_parameters", num_parameters)
        self.weight = Parameter(
            constant(num_parameters, c=finite("PReLU", "init", init), device=device, dtype=dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """ReLU with a random slope for negative numbers in training, and the mean slope otherwise.

    Parameters
    ----------
    lower : float, default 1 / 8
        The smallest slope.
    upper : float, default 1 / 3
        The largest slope.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Raises
    ------
    ValueError
        If `lower` exceeds `upper`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.RReLU(0.25, 0.75).eval()(ndl.Tensor([-2, 2]))
    needle.Tensor([-1.  2.])
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = finite("RReLU", "lower", lower)
        self.upper = finite("RReLU", "upper", upper)
        if self.lower > self.upper:
            raise ValueError(f"[RReLU] lower must not exceed upper, got {lower} and {upper}")

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.rrelu(x, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}"


class SELU(Module):
    """Scaled exponential linear unit, whose constants keep mean 0 and variance 1.

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SELU()(ndl.Tensor([0.0])).tolist()
    [0.0]
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.selu(x)


class CELU(Module):
    """ELU with a slope of 1 at 0: x where x > 0, otherwise alpha·(exp(x / alpha) - 1).

    Parameters
    ----------
    alpha : float, default 1.0
        The limit for large negative numbers is -alpha; it must be positive.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    References
    ----------
    Barron, "Continuously Differentiable Exponential Linear Units", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.CELU(2.0)(ndl.Tensor([-1000, 3]))
    needle.Tensor([-2.  3.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = positive("CELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.celu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Hardtanh(Module):
    """Limit x to [min_val, max_val].

    Parameters
    ----------
    min_val : float, default -1.0
        The lower limit.
    max_val : float, default 1.0
        The upper limit.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Raises
    ------
    ValueError
        Unless `min_val` is below `max_val`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Hardtanh()(ndl.Tensor([-3.0, 0.5]))
    needle.Tensor([-1.   0.5])
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val = finite("Hardtanh", "min_val", min_val)
        self.max_val = finite("Hardtanh", "max_val", max_val)
        if not self.min_val < self.max_val:
            raise ValueError(f"[Hardtanh] needs min_val < max_val, got {min_val} and {max_val}")

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Threshold(Module):
    """Keep what exceeds a threshold: x where x > threshold, otherwise `value`.

    Parameters
    ----------
    threshold : float
        What x must exceed.
    value : float
        What replaces it otherwise.
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Threshold(1.0, 7.0)(ndl.Tensor([0, 2]))
    needle.Tensor([7. 2.])
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = finite("Threshold", "threshold", threshold)
        self.value = finite("Threshold", "value", value)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.threshold(x, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}"


class Hardshrink(Module):
    """Keep what is far from 0: x where |x| > lambd, otherwise 0.

    Parameters
    ----------
    lambd : float, default 0.5
        The distance from 0; it must not be negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Hardshrink()(ndl.Tensor([-2.0, 0.25]))
    needle.Tensor([-2.  0.])
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = non_negative("Hardshrink", "lambd", lambd)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Softshrink(Module):
    """Move x towards 0 by `lambd`, to 0 at most.

    Parameters
    ----------
    lambd : float, default 0.5
        The distance; it must not be negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softshrink()(ndl.Tensor([-2.0, 0.25]))
    needle.Tensor([-1.5  0. ])
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = non_negative("Softshrink", "lambd", lambd)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"
