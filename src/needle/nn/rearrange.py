"""Layers that rearrange or resize images: shuffles, windows, axes, interpolation."""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis, whole, wholes
from ..ops._convolution import as_pair
from ..synonyms import accepts_synonyms
from ..typing import Extent
from . import functional
from .arguments import one_of, positive_int
from .functional import _resize as resize
from .module import Module

MODES = tuple(resize.MODES)


class PixelShuffle(Module):
    """Turn channels into pixels: (N, C·r², H, W) → (N, C, H·r, W·r).

    Parameters
    ----------
    upscale_factor : int
        The factor r; r² must divide the channels.

    References
    ----------
    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.PixelShuffle(2)(ndl.ones(1, 8, 3, 3)).shape
    (1, 2, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = positive_int("PixelShuffle", "upscale_factor", upscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger images."""
        return functional.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Turn pixels into channels: (N, C, H·r, W·r) → (N, C·r², H, W).

    Parameters
    ----------
    downscale_factor : int
        The factor r, which must divide height and width.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.PixelUnshuffle(2)(ndl.ones(1, 2, 6, 6)).shape
    (1, 8, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = positive_int("PixelUnshuffle", "downscale_factor", downscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller images."""
        return functional.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Interleave the channels of groups.

    Parameters
    ----------
    groups : int
        The number of groups, which must divide the channels.

    References
    ----------
    Zhang et al., "ShuffleNet", 2018.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([0, 1, 2, 3]).reshape(1, 4, 1)
    >>> ndl.nn.ChannelShuffle(2)(x).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = positive_int("ChannelShuffle", "groups", groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its channels in another order."""
        return functional.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Unfold(Module):
    """Take the windows below a kernel as columns: (N, C, H, W) → (N, C·KH·KW, windows).

    Parameters
    ----------
    kernel_size : int or tuple of int
        The height and width of the kernel.
    dilation : int or tuple of int, default 1
        The distance between pixels of a window.
    padding : int or tuple of int, default 0
        The zeros on each side.
    stride : int or tuple of int, default 1
        The step between windows.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Unfold(2)(ndl.ones(1, 3, 4, 4)).shape
    (1, 12, 9)
    """

    def __init__(
        self, kernel_size: Extent, dilation: Extent = 1, padding: Extent = 0, stride: Extent = 1
    ) -> None:
        super().__init__()
        self.kernel_size = as_pair("Unfold", "kernel_size", kernel_size)
        self.dilation = as_pair("Unfold", "dilation", dilation)
        self.padding = as_pair("Unfold", "padding", padding, least=0)
        self.stride = as_pair("Unfold", "stride", stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the columns."""
        return functional.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Fold(Module):
    """Add columns onto the places that `Unfold` takes them from; images (N, C, H, W) result.

    Parameters
    ----------
    output_size : int or tuple of int
        The height and width of the images.
    kernel_size : int or tuple of int
        The height and width of the kernel.
    dilation : int or tuple of int, default 1
        The distance between pixels of a window.
    padding : int or tuple of int, default 0
        The pixels that are cut off on each side.
    stride : int or tuple of int, default 1
        The step between windows.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Fold(4, 2)(ndl.ones(1, 12, 9)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self,
        output_size: Extent,
        kernel_size: Extent,
        dilation: Extent = 1,
        padding: Extent = 0,
        stride: Extent = 1,
    ) -> None:
        super().__init__()
        self.output_size = as_pair("Fold", "output_size", output_size)
        self.kernel_size = as_pair("Fold", "kernel_size", kernel_size)
        self.dilation = as_pair("Fold", "dilation", dilation)
        self.padding = as_pair("Fold", "padding", padding, least=0)
        self.stride = as_pair("Fold", "stride", stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images."""
        return functional.fold(
            x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return f"{self.output_size}, kernel_size={self.kernel_size}, stride={self.stride}"


class Unflatten(Module):
    """Split an axis into several.

    Parameters
    ----------
    axis : int
        The axis. `dim` is another name of this argument.
    unflattened_size : Sequence[int]
        The lengths of the new axes; one may be -1.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Unflatten(1, (2, 3))(ndl.ones(4, 6)).shape
    (4, 2, 3)
    """

    @accepts_synonyms
    def __init__(self, axis: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.axis = whole(axis, "Unflatten", "axis")
        self.unflattened_size = wholes(unflattened_size, "Unflatten", "unflattened_size")

    def forward(self, x: Tensor) -> Tensor:
        """Return a view of `x` with more axes."""
        return unflattened(x, self.axis, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"axis={self.axis}, unflattened_size={self.unflattened_size}"


class Upsample(Module):
    """Bring images (N, C, …) to another size; see `needle.nn.functional.interpolate`.

    Parameters
    ----------
    size : int | Sequence[int], optional
        The new lengths; either these or `scale_factor`.
    scale_factor : float | Sequence[float], optional
        The new lengths as multiples of the old.
    mode : str, default "nearest"
        "nearest", "nearest-exact", "area", "linear", "bilinear", "bicubic" or "trilinear".
    align_corners : bool, optional
        Whether the centres of the corner pixels stay in place.
    recompute_scale_factor : bool, optional
        Whether the scale follows from the rounded size.

    Raises
    ------
    ValueError
        Unless exactly one of `size` and `scale_factor` is given, or for an unknown mode.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Upsample(scale_factor=2)(ndl.ones(1, 3, 4, 4)).shape
    (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = one_of("Upsample", "mode", mode, MODES)
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        if (size is None) == (scale_factor is None):
            raise ValueError("[Upsample] needs either size or scale_factor")

    def forward(self, x: Tensor) -> Tensor:
        """Return the resized images."""
        return functional.interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, scale_factor={self.scale_factor}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Bring images (N, C, H, W) to another size by their nearest pixels.

    Parameters
    ----------
    size : int or (int, int), optional
        The new height and width; either these or `scale_factor`.
    scale_factor : float or (float, float), optional
        The new lengths as multiples of the old.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.UpsamplingNearest2d(scale_factor=2)(ndl.ones(1, 3, 4, 4)).shape
    (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Bring images (N, C, H, W) to another size bilinearly, with the corners' centres in place.

    Parameters
    ----------
    size : int or (int, int), optional
        The new height and width; either these or `scale_factor`.
    scale_factor : float or (float, float), optional
        The new lengths as multiples of the old.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.UpsamplingBilinear2d(size=6)(ndl.ones(1, 3, 4, 4)).shape
    (1, 3, 6, 6)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


def unflattened(x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """`x` with the axis split into axes of these lengths. Raises ValueError if they do not fit."""
    axis = normalize_axis(axis, x.ndim, "Unflatten")
    return x.reshape((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))
