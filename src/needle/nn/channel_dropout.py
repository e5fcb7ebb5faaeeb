"""Dropout of whole channels, and dropout for self-normalizing networks."""

from __future__ import annotations

from ..autograd import Tensor
from ..random import Generator
from . import functional
from .arguments import in_unit_interval
from .module import Module


class Dropout1d(Module):
    """Dropout of whole channels of sequences (N, C, L).

    Parameters
    ----------
    p : float, default 0.5
        The probability that a channel is dropped in training, in [0, 1].
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.
    generator : Generator, optional
        The source of the random numbers; without one they are drawn by `numpy.random.rand`.

    References
    ----------
    Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Dropout1d(0.2)(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("Dropout1d", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, or in evaluation mode `x` itself."""
        return functional.dropout1d(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Module):
    """Dropout of whole channels of images (N, C, H, W).

    Parameters
    ----------
    p : float, default 0.5
        The probability that a channel is dropped in training, in [0, 1].
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.
    generator : Generator, optional
        The source of the random numbers; without one they are drawn by `numpy.random.rand`.

    References
    ----------
    Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Dropout2d(0.2)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("Dropout2d", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, or in evaluation mode `x` itself."""
        return functional.dropout2d(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout3d(Module):
    """Dropout of whole channels of volumes (N, C, D, H, W).

    Parameters
    ----------
    p : float, default 0.5
        The probability that a channel is dropped in training, in [0, 1].
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.
    generator : Generator, optional
        The source of the random numbers; without one they are drawn by `numpy.random.rand`.

    References
    ----------
    Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Dropout3d(0.2)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("Dropout3d", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, or in evaluation mode `x` itself."""
        return functional.dropout3d(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class AlphaDropout(Module):
    """Dropout for `SELU`, which keeps mean 0 and variance 1.

    Parameters
    ----------
    p : float, default 0.5
        The probability that an element is dropped in training, in [0, 1].
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.
    generator : Generator, optional
        The source of the random numbers; without one they are drawn by `numpy.random.rand`.

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AlphaDropout(0.2)(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("AlphaDropout", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, or in evaluation mode `x` itself."""
        return functional.alpha_dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class FeatureAlphaDropout(Module):
    """`AlphaDropout` of whole channels (N, C, …).

    Parameters
    ----------
    p : float, default 0.5
        The probability that a channel is dropped in training, in [0, 1].
    inplace : bool, default False
        Accepted as in PyTorch; the result is a new Tensor all the same.
    generator : Generator, optional
        The source of the random numbers; without one they are drawn by `numpy.random.rand`.

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.FeatureAlphaDropout(0.2)(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.p = in_unit_interval("FeatureAlphaDropout", "p", p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked and scaled `x`, or in evaluation mode `x` itself."""
        return functional.feature_alpha_dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"
