"""Pooling of N×C×H×W images."""

from __future__ import annotations

from collections.abc import Callable

from .. import ops
from ..autograd import Tensor
from ..ops._convolution import as_pair
from ..typing import Extent
from .module import Module


class _Pool2d(Module):
    """Pooling below a kernel that moves over images (N, C, H, W)."""

    pool: Callable[..., Tensor]

    def __init__(
        self, kernel_size: Extent, stride: Extent | None = None, padding: Extent = 0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        as_pair(name, "kernel_size", kernel_size)
        as_pair(name, "stride", kernel_size if stride is None else stride)
        as_pair(name, "padding", padding, least=0)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Pool the images.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            The images.

        Returns
        -------
        Tensor, shape (N, C, H', W')
            H' = ⌊(H + 2·padding - kernel_size) / stride⌋ + 1, and W' likewise.

        Raises
        ------
        ValueError
            If `x` does not have four axes, the padded image is smaller than the kernel, or the
            padding exceeds half of the kernel.
        """
        _check_ndim(self, x)
        pool = type(self).pool
        pixels = ops.channels_last(x)
        return ops.channels_first(pool(pixels, self.kernel_size, self.stride, self.padding))

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """Maximum below a kernel at each of its positions on an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
        The height and width of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Padding on each side; it never is the maximum.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2, 3, 4], [5, 6, 7, 8]]).reshape(1, 1, 2, 4)
    >>> ndl.nn.MaxPool2d(2)(x).tolist()
    [[[[6.0, 8.0]]]]
    """

    pool = staticmethod(ops.max_pool2d)


class AvgPool2d(_Pool2d):
    """Mean below a kernel at each of its positions on an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
        The height and width of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Padding on each side, which counts as zeros in the mean.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([[1, 2, 3, 4], [5, 6, 7, 8]]).reshape(1, 1, 2, 4)
    >>> ndl.nn.AvgPool2d(2)(x).tolist()
    [[[[3.5, 5.5]]]]
    """

    pool = staticmethod(ops.avg_pool2d)


class _AdaptivePool2d(Module):
    """Pooling of images (N, C, H, W) over bins, as many as the result has pixels."""

    reduce: Callable[..., Tensor]
    pool: Callable[..., Tensor]

    def __init__(self, output_size: Extent) -> None:
        super().__init__()
        self.output_size = as_pair(type(self).__name__, "output_size", output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Pool the images.

        Bin i of h along an axis of length H covers the pixels ⌊i·H/h⌋ … ⌈(i + 1)·H/h⌉ - 1.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            The images.

        Returns
        -------
        Tensor, shape (N, C, *output_size)

        Raises
        ------
        ValueError
            If `x` does not have four axes or has no pixels.
        """
        _check_ndim(self, x)
        reduce, pool = type(self).reduce, type(self).pool
        size = x.shape[2:]
        if self.output_size == (1, 1):
            return reduce(x, (2, 3), keepdims=True)
        if all(n % m == 0 for n, m in zip(size, self.output_size, strict=True)):
            kernel = tuple(n // m for n, m in zip(size, self.output_size, strict=True))
            return ops.channels_first(pool(ops.channels_last(x), kernel))
        rows, columns = (_bins(n, m) for n, m in zip(size, self.output_size, strict=True))
        cells = [[reduce(x[:, :, i, j], (2, 3)) for j in columns] for i in rows]
        return ops.stack([ops.stack(row, 2) for row in cells], 2)

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Mean over bins of an image, with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int)
        The height and width of the result.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveAvgPool2d((1, 2))(ndl.ones(2, 3, 7, 5)).shape
    (2, 3, 1, 2)
    """

    reduce, pool = staticmethod(ops.mean), staticmethod(ops.avg_pool2d)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """Maximum over bins of an image, with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int)
        The height and width of the result.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveMaxPool2d((1, 2))(ndl.ones(2, 3, 7, 5)).shape
    (2, 3, 1, 2)
    """

    reduce, pool = staticmethod(ops.max), staticmethod(ops.max_pool2d)


def _bins(n: int, parts: int) -> list[slice]:
    return [slice(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]


def _check_ndim(layer: Module, x: Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(
            f"[{type(layer).__name__}] needs input (N, C, H, W) with pixels, got shape {x.shape}"
        )
