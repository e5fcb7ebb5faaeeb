"""Smooth activations, gates and the softmin."""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..synonyms import accepts_synonyms
from . import functional
from .module import Module


class Hardsigmoid(Module):
    """Sigmoid from straight lines: min(max(x + 3, 0), 6) / 6.

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Hardsigmoid()(ndl.Tensor([-4, 0, 4])).tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.hardsigmoid(x)


class Hardswish(Module):
    """Swish from straight lines: x·min(max(x + 3, 0), 6) / 6.

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Hardswish()(ndl.Tensor([0, 4])).tolist()
    [0.0, 4.0]
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.hardswish(x)


class Mish(Module):
    """Self-gated unit: x·tanh(softplus(x)).

    Parameters
    ----------
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.

    References
    ----------
    Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Mish()(ndl.Tensor([0, 100]))
    needle.Tensor([  0. 100.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.mish(x)


class GLU(Module):
    """Gated linear unit: a·sigmoid(b), where a and b are the halves of x along an axis.

    Parameters
    ----------
    axis : int, default -1
        The axis, of an even length. `dim` is another name of this argument.

    References
    ----------
    Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.GLU()(ndl.ones(3, 8)).shape
    (3, 4)
    """

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, "GLU", "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated half of `x`."""
        return functional.glu(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSigmoid(Module):
    """Logarithm of the logistic function, computed without overflow.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LogSigmoid()(ndl.Tensor([-1000, 1000])).tolist()
    [-1000.0, -0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.logsigmoid(x)


class Softsign(Module):
    """x / (1 + |x|).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softsign()(ndl.Tensor([-1, 3])).tolist()
    [-0.5, 0.75]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.softsign(x)


class Tanhshrink(Module):
    """x - tanh(x).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Tanhshrink()(ndl.Tensor([0, 101])).tolist()
    [0.0, 100.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element; the result has the shape of `x`."""
        return functional.tanhshrink(x)


class Softmin(Module):
    """Softmax of -x along an axis.

    Parameters
    ----------
    axis : int, default -1
        The axis along which the result sums to 1. `dim` is another name of this argument.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softmin(axis=1)(ndl.Tensor([[3, 3], [0, 1000]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """

    @accepts_synonyms
    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = whole(axis, "Softmin", "axis")

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities, a Tensor of the shape of `x`."""
        return functional.softmin(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class Softmax2d(Module):
    """Softmax over the channels of images (N, C, H, W).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Softmax2d()(ndl.ones(1, 2, 1, 1)).tolist()
    [[[[0.5]], [[0.5]]]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities, a Tensor of the shape of `x`."""
        return functional.softmax(x, -3)
