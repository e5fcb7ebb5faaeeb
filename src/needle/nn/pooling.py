"""Pooling of (N, C, …) tensors below a kernel that moves over one to three axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..autograd import Tensor
from ..typing import Extent
from . import functional
from .arguments import positive_int
from .functional._pooling import each
from .module import Module


class _Pool(Module):
    """The geometry of a kernel that moves over `axes` axes."""

    axes: ClassVar[int]

    def _set(self, kernel_size: Extent, stride: Extent | None, padding: Extent = 0) -> None:
        name = type(self).__name__
        each(name, "kernel_size", kernel_size, self.axes)
        each(name, "stride", kernel_size if stride is None else stride, self.axes)
        each(name, "padding", padding, self.axes, least=0)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    """The maximum below a kernel."""

    pool: Callable[..., Tensor | tuple[Tensor, Tensor]]

    def __init__(
        self,
        kernel_size: Extent,
        stride: Extent | None = None,
        padding: Extent = 0,
        dilation: Extent = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._set(kernel_size, stride, padding)
        each(type(self).__name__, "dilation", dilation, self.axes)
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the maxima, or with `return_indices` (maxima, indices into the flat images)."""
        return type(self).pool(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class _AvgPool(_Pool):
    """The mean below a kernel."""

    pool: Callable[..., Tensor]

    def __init__(
        self,
        kernel_size: Extent,
        stride: Extent | None = None,
        padding: Extent = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._set(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override
        if divisor_override is not None:
            positive_int(type(self).__name__, "divisor_override", divisor_override)

    def forward(self, x: Tensor) -> Tensor:
        """Return the means; an image that is smaller than the kernel is a ValueError."""
        return type(self).pool(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class MaxPool1d(_MaxPool):
    """Maximum below a kernel at each of its positions on sequences (N, C, L).

    Parameters
    ----------
    kernel_size : int
        The lengths of the kernel.
    stride : int, optional
        The step between positions; `kernel_size` if it is None.
    padding : int, default 0
        Padding on each side, up to half of the kernel; it never is the maximum.
    dilation : int, default 1
        The distance between neighbouring places below the kernel.
    return_indices : bool, default False
        Whether the result is (maxima, their indices into the flat images).
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.MaxPool1d(2)(ndl.ones(2, 3, 8)).shape
    (2, 3, 4)
    """

    axes, pool = 1, staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """Maximum below a kernel at each of its positions on images (N, C, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The lengths of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Padding on each side, up to half of the kernel; it never is the maximum.
    dilation : int or (int, int), default 1
        The distance between neighbouring places below the kernel.
    return_indices : bool, default False
        Whether the result is (maxima, their indices into the flat images).
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.MaxPool2d(2)(ndl.ones(2, 3, 8, 8)).shape
    (2, 3, 4, 4)
    """

    axes, pool = 2, staticmethod(functional.max_pool2d)


class MaxPool3d(_MaxPool):
    """Maximum below a kernel at each of its positions on volumes (N, C, D, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        The lengths of the kernel.
    stride : int or (int, int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int, int), default 0
        Padding on each side, up to half of the kernel; it never is the maximum.
    dilation : int or (int, int, int), default 1
        The distance between neighbouring places below the kernel.
    return_indices : bool, default False
        Must be False: indices are implemented for one and two axes.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.MaxPool3d(2)(ndl.ones(2, 3, 8, 8, 8)).shape
    (2, 3, 4, 4, 4)
    """

    axes, pool = 3, staticmethod(functional.max_pool3d)


class AvgPool1d(_AvgPool):
    """Mean below a kernel at each of its positions on sequences (N, C, L).

    Parameters
    ----------
    kernel_size : int
        The lengths of the kernel.
    stride : int, optional
        The step between positions; `kernel_size` if it is None.
    padding : int, default 0
        Padding on each side, up to half of the kernel; see `count_include_pad`.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.
    count_include_pad : bool, default True
        Whether padding counts as zeros, or not at all.
    divisor_override : int, optional
        What the sums are divided by, instead of the number of places below the kernel.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AvgPool1d(2)(ndl.ones(2, 3, 8)).shape
    (2, 3, 4)
    """

    axes, pool = 1, staticmethod(functional.avg_pool1d)


class AvgPool2d(_AvgPool):
    """Mean below a kernel at each of its positions on images (N, C, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The lengths of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Padding on each side, up to half of the kernel; see `count_include_pad`.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.
    count_include_pad : bool, default True
        Whether padding counts as zeros, or not at all.
    divisor_override : int, optional
        What the sums are divided by, instead of the number of places below the kernel.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AvgPool2d(2)(ndl.ones(2, 3, 8, 8)).shape
    (2, 3, 4, 4)
    """

    axes, pool = 2, staticmethod(functional.avg_pool2d)


class AvgPool3d(_AvgPool):
    """Mean below a kernel at each of its positions on volumes (N, C, D, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        The lengths of the kernel.
    stride : int or (int, int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int, int), default 0
        Padding on each side, up to half of the kernel; see `count_include_pad`.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.
    count_include_pad : bool, default True
        Whether padding counts as zeros, or not at all.
    divisor_override : int, optional
        What the sums are divided by, instead of the number of places below the kernel.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AvgPool3d(2)(ndl.ones(2, 3, 8, 8, 8)).shape
    (2, 3, 4, 4, 4)
    """

    axes, pool = 3, staticmethod(functional.avg_pool3d)
