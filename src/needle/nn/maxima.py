"""Layers for maxima over bins and over random windows, and back from the maxima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from ..autograd import Tensor
from ..typing import Extent
from . import functional
from .functional._maxima import Pooled, fractional_sizes
from .functional._pooling import each
from .module import Module


class _MaxUnpool(Module):
    """Puts maxima back."""

    axes: ClassVar[int]
    unpool: Callable[..., Tensor]

    def __init__(
        self, kernel_size: Extent, stride: Extent | None = None, padding: Extent = 0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = each(name, "kernel_size", kernel_size, self.axes)
        self.stride = self.kernel_size
        if stride is not None:
            self.stride = each(name, "stride", stride, self.axes)
        self.padding = each(name, "padding", padding, self.axes, least=0)

    def forward(
        self, x: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        """Put the maxima back.

        Parameters
        ----------
        x : Tensor, shape (N, C, …)
            The maxima.
        indices : Tensor, the shape of `x`
            Their indices into the flat images.
        output_size : sequence of int, optional
            The size of the images, or their whole shape; the smallest that fits if None.

        Returns
        -------
        Tensor, shape (N, C, …)
        """
        return type(self).unpool(
            x, indices, self.kernel_size, self.stride, self.padding, output_size
        )

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Put maxima back where `MaxPool1d(return_indices=True)` took them from, between zeros.

    Parameters
    ----------
    kernel_size : int
        The length of the kernel.
    stride : int, optional
        The step between positions; `kernel_size` if it is None.
    padding : int, default 0
        The padding of the pooling.

    Examples
    --------
    >>> import needle as ndl
    >>> y, indices = ndl.nn.MaxPool1d(2, return_indices=True)(ndl.ones(1, 1, 4))
    >>> ndl.nn.MaxUnpool1d(2)(y, indices).shape
    (1, 1, 4)
    """

    axes, unpool = 1, staticmethod(functional.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Put maxima back where `MaxPool2d(return_indices=True)` took them from, between zeros.

    Parameters
    ----------
    kernel_size : int or (int, int)
        The height and width of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        The padding of the pooling.

    Examples
    --------
    >>> import needle as ndl
    >>> y, indices = ndl.nn.MaxPool2d(2, return_indices=True)(ndl.ones(1, 1, 4, 4))
    >>> ndl.nn.MaxUnpool2d(2)(y, indices).shape
    (1, 1, 4, 4)
    """

    axes, unpool = 2, staticmethod(functional.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Put maxima back where `MaxPool3d(return_indices=True)` took them from, between zeros.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        The depth, height and width of the kernel.
    stride : int or (int, int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int, int), default 0
        The padding of the pooling.

    Examples
    --------
    >>> import needle as ndl
    >>> y, indices = ndl.nn.MaxPool3d(2, return_indices=True)(ndl.ones(1, 1, 4, 4, 4))
    >>> ndl.nn.MaxUnpool3d(2)(y, indices).shape
    (1, 1, 4, 4, 4)
    """

    axes, unpool = 3, staticmethod(functional.max_unpool3d)


class _FractionalMaxPool(Module):
    """The maximum over windows at random places."""

    axes: ClassVar[int]
    pool: Callable[..., Pooled]
    _random_samples: Tensor | None

    def __init__(
        self,
        kernel_size: Extent,
        output_size: Extent | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = each(name, "kernel_size", kernel_size, self.axes)
        fractional_sizes(name, (2,) * self.axes, output_size, output_ratio)
        self.output_size, self.output_ratio = output_size, output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples, persistent=False)

    def forward(self, x: Tensor) -> Pooled:
        """Return the maxima, or with `return_indices` (maxima, indices into the flat images).

        Raises ValueError where the windows do not fit into the images.
        """
        return type(self).pool(
            x, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            self._random_samples,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.kernel_size}, output_size={self.output_size}, output_ratio={self.output_ratio}"
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum over windows at random places of images (N, C, H, W), whose number is given.

    Parameters
    ----------
    kernel_size : int or (int, int)
        The height and width of the windows.
    output_size : int or (int, int), optional
        The number of windows along each axis.
    output_ratio : float or pair of float, optional
        The same as a part of the image's size, between 0 and 1.
    return_indices : bool, default False
        Whether the indices of the maxima are returned, too.
    _random_samples : Tensor, shape (N, C, 2), optional
        The random numbers in [0, 1) from which the places follow; new ones at each call if None.

    Raises
    ------
    ValueError
        Unless one of `output_size` and `output_ratio` is given.

    References
    ----------
    Graham, "Fractional Max-Pooling", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.FractionalMaxPool2d(2, output_ratio=0.7)(ndl.ones(1, 3, 10, 10)).shape
    (1, 3, 7, 7)
    """

    axes, pool = 2, staticmethod(functional.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maximum over windows at random places of volumes (N, C, D, H, W), whose number is given.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        The depth, height and width of the windows.
    output_size : int or (int, int, int), optional
        The number of windows along each axis.
    output_ratio : float or three floats, optional
        The same as a part of the volume's size, between 0 and 1.
    return_indices : bool, default False
        Whether the indices of the maxima are returned, too.
    _random_samples : Tensor, shape (N, C, 3), optional
        The random numbers in [0, 1) from which the places follow; new ones at each call if None.

    Raises
    ------
    ValueError
        Unless one of `output_size` and `output_ratio` is given.

    References
    ----------
    Graham, "Fractional Max-Pooling", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.FractionalMaxPool3d(2, output_size=3)(ndl.ones(1, 2, 6, 6, 6)).shape
    (1, 2, 3, 3, 3)
    """

    axes, pool = 3, staticmethod(functional.fractional_max_pool3d)
