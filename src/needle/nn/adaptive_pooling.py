"""Pooling over a given number of bins, and by a power mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..autograd import Tensor
from ..typing import Extent
from . import functional
from .arguments import positive, positive_int
from .functional._pooling import OutputSize, each
from .module import Module


class _AdaptivePool(Module):
    """Pooling over bins: bin i of m along n places covers ⌊i·n/m⌋ … ⌈(i + 1)·n/m⌉ - 1."""

    axes: ClassVar[int]
    pool: Callable[..., Any]

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        name = type(self).__name__
        given = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
        if len(given) not in (1, self.axes):
            raise ValueError(
                f"[{name}] output_size must be an int or {self.axes} ints, got {output_size!r}"
            )
        for size in given:
            if size is not None:
                positive_int(name, "output_size", size)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Return the bins' values; input without places to pool is a ValueError."""
        means: Tensor = type(self).pool(x, self.output_size)
        return means

    def extra_repr(self) -> str:
        return f"{self.output_size}"


class _AdaptiveMaxPool(_AdaptivePool):
    """The maximum over bins."""

    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the maxima, or with `return_indices` (maxima, indices into the flat images)."""
        found: Tensor | tuple[Tensor, Tensor]
        found = type(self).pool(x, self.output_size, self.return_indices)
        return found


class AdaptiveAvgPool1d(_AdaptivePool):
    """Mean over bins of sequences (N, C, L), with the number of bins given.

    Parameters
    ----------
    output_size : int
        The numbers of bins; None keeps the length of an axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveAvgPool1d(2)(ndl.ones(2, 3, 7)).shape
    (2, 3, 2)
    """

    axes, pool = 1, staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean over bins of images (N, C, H, W), with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int)
        The numbers of bins; None keeps the length of an axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveAvgPool2d(2)(ndl.ones(2, 3, 7, 7)).shape
    (2, 3, 2, 2)
    """

    axes, pool = 2, staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptivePool):
    """Mean over bins of volumes (N, C, D, H, W), with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int, int)
        The numbers of bins; None keeps the length of an axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveAvgPool3d(2)(ndl.ones(2, 3, 7, 7, 7)).shape
    (2, 3, 2, 2, 2)
    """

    axes, pool = 3, staticmethod(functional.adaptive_avg_pool3d)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum over bins of sequences (N, C, L), with the number of bins given.

    Parameters
    ----------
    output_size : int
        The numbers of bins; None keeps the length of an axis.
    return_indices : bool, default False
        Whether the indices of the maxima into the flat images are returned, too.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveMaxPool1d(2)(ndl.ones(2, 3, 7)).shape
    (2, 3, 2)
    """

    axes, pool = 1, staticmethod(functional.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum over bins of images (N, C, H, W), with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int)
        The numbers of bins; None keeps the length of an axis.
    return_indices : bool, default False
        Whether the indices of the maxima into the flat images are returned, too.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveMaxPool2d(2)(ndl.ones(2, 3, 7, 7)).shape
    (2, 3, 2, 2)
    """

    axes, pool = 2, staticmethod(functional.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum over bins of volumes (N, C, D, H, W), with the number of bins given.

    Parameters
    ----------
    output_size : int or (int, int, int)
        The numbers of bins; None keeps the length of an axis.
    return_indices : bool, default False
        Whether the indices of the maxima into the flat images are returned, too.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.AdaptiveMaxPool3d(2)(ndl.ones(2, 3, 7, 7, 7)).shape
    (2, 3, 2, 2, 2)
    """

    axes, pool = 3, staticmethod(functional.adaptive_max_pool3d)


class _LPPool(Module):
    """(Σ xᵖ)^(1/p) below a kernel."""

    axes: ClassVar[int]
    pool: Callable[..., Tensor]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Extent,
        stride: Extent | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.norm_type = positive(name, "norm_type", norm_type)
        self.kernel_size = each(name, "kernel_size", kernel_size, self.axes)
        self.stride = self.kernel_size
        if stride is not None:
            self.stride = each(name, "stride", stride, self.axes)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """Return the power means; an image that is smaller than the kernel is a ValueError."""
        return type(self).pool(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"{self.norm_type}, {self.kernel_size}, stride={self.stride}"


class LPPool1d(_LPPool):
    """(Σ xᵖ)^(1/p) below a kernel at each of its positions on sequences (N, C, L).

    Parameters
    ----------
    norm_type : float
        The power p; it must be positive.
    kernel_size : int
        The lengths of the kernel.
    stride : int, optional
        The step between positions; `kernel_size` if it is None.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LPPool1d(2, 4)(ndl.ones(2, 3, 8)).shape
    (2, 3, 2)
    """

    axes, pool = 1, staticmethod(functional.lp_pool1d)


class LPPool2d(_LPPool):
    """(Σ xᵖ)^(1/p) below a kernel at each of its positions on images (N, C, H, W).

    Parameters
    ----------
    norm_type : float
        The power p; it must be positive.
    kernel_size : int or (int, int)
        The lengths of the kernel.
    stride : int or (int, int), optional
        The step between positions; `kernel_size` if it is None.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LPPool2d(2, 4)(ndl.ones(2, 3, 8, 8)).shape
    (2, 3, 2, 2)
    """

    axes, pool = 2, staticmethod(functional.lp_pool2d)


class LPPool3d(_LPPool):
    """(Σ xᵖ)^(1/p) below a kernel at each of its positions on volumes (N, C, D, H, W).

    Parameters
    ----------
    norm_type : float
        The power p; it must be positive.
    kernel_size : int or (int, int, int)
        The lengths of the kernel.
    stride : int or (int, int, int), optional
        The step between positions; `kernel_size` if it is None.
    ceil_mode : bool, default False
        Whether the last position of the kernel may reach beyond the image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LPPool3d(2, 4)(ndl.ones(2, 3, 8, 8, 8)).shape
    (2, 3, 2, 2, 2)
    """

    axes, pool = 3, staticmethod(functional.lp_pool3d)
