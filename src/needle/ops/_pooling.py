"""Sliding windows over images, and the largest pixel or the mean below each of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod
from operator import add
from typing import NamedTuple

import numpy as np

from ..autograd import Tensor, TensorOp, Value, is_grad_enabled
from ..backend_ndarray import NDArray, Shape, is_float, widened
from ..backend_ndarray.layout import normalize_axis
from ..typing import Extent
from ._common import FusedOp
from ._comparison import equal, logical_and, logical_or, not_equal
from ._convolution import Pair, as_pair, channels_first, channels_last
from ._reduction import Max, mean
from ._shape import broadcast_to, pad, reshape

Place = tuple[slice, slice, slice]
FEW = 16  # pixels below a kernel: up to so many, a slice of the images for each is faster


class Window(NamedTuple):
    """How a kernel moves over an image: (height, width) pairs."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Pair  # before and after

    def padded(self, size: Shape) -> Pair:
        """An image's height and width with the padding."""
        return size[0] + 2 * self.padding[0], size[1] + 2 * self.padding[1]

    def out_size(self, size: Shape) -> Pair:
        """The number of positions along the height and the width of an image."""
        height, width = (
            (n - spread * (k - 1) - 1) // step + 1
            for n, k, step, spread in zip(
                self.padded(size), self.kernel, self.stride, self.dilation, strict=True
            )
        )
        return height, width


class Windows(TensorOp):
    """The windows below a kernel as a view: (…, H, W, …) → (…, OH, OW, …, KH, KW)."""

    saves_values = False

    def __init__(self, axes: Pair, window: Window) -> None:
        self.axes, self.window = axes, window

    def compute(self, x: NDArray) -> NDArray:
        kernel, stride, dilation, _ = self.window
        shape, strides = list(x.shape), list(x.strides)
        for i, axis in enumerate(self.axes):
            reach = dilation[i] * (kernel[i] - 1)
            shape[axis] = (x.shape[axis] - reach - 1) // stride[i] + 1
            strides[axis] *= stride[i]
        inner = (x.strides[axis] * dilation[i] for i, axis in enumerate(self.axes))
        return x.as_strided((*shape, *kernel), (*strides, *inner))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Fold(self, node.inputs[0].shape)(out_grad)


class Fold(TensorOp):
    """Windows added onto the places they were taken from: the transpose of `Windows`."""

    saves_values = False

    def __init__(self, windows: Windows, shape: Shape) -> None:
        self.windows, self.shape = windows, shape

    def compute(self, g: NDArray) -> NDArray:
        axes, (kernel, stride, dilation, _) = self.windows.axes, self.windows.window
        out = g.device.zeros(self.shape, g.dtype)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                index = [slice(None)] * len(self.shape)
                for k, offset in enumerate((i, j)):
                    start, n = offset * dilation[k], g.shape[axes[k]]
                    index[axes[k]] = slice(start, start + stride[k] * (n - 1) + 1, stride[k])
                out[tuple(index)] = out[tuple(index)] + g[..., i, j]
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return self.windows(out_grad)


def windows(
    x: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    axes: Pair = (1, 2),
    fill: float = 0.0,
) -> Tensor:
    """Sliding windows over images as two new last axes.

    Parameters
    ----------
    x : Tensor
        The images; of any number of axes.
    kernel_size : int or (int, int)
        The height and width of the window.
    stride : int or (int, int), optional
        The distance between two windows; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Rows and columns around the image, up to half of the window.
    dilation : int or (int, int), default 1
        The distance between two pixels of a window.
    axes : (int, int), default (1, 2)
        The axes of the height and the width.
    fill : float, default 0.0
        The value of the padding.

    Returns
    -------
    Tensor, shape (..., OH, ..., OW, ..., KH, KW)

    Raises
    ------
    ValueError
        If the window exceeds the padded image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.windows(ndl.ones(1, 4, 4, 3), 2).shape
    (1, 2, 2, 3, 2, 2)
    """
    axes = normalize_axis(axes[0], x.ndim, "windows"), normalize_axis(axes[1], x.ndim, "windows")
    size = x.shape[axes[0]], x.shape[axes[1]]
    return _below(x, _window(size, kernel_size, stride, padding, dilation), axes, fill)


def _window(
    size: Pair, kernel_size: Extent, stride: Extent | None, padding: Extent, dilation: Extent
) -> Window:
    """The checked geometry on an image of that height and width."""
    kernel = as_pair("pooling", "kernel_size", kernel_size)
    window = Window(
        kernel,
        kernel if stride is None else as_pair("pooling", "stride", stride),
        as_pair("pooling", "dilation", dilation),
        as_pair("pooling", "padding", padding, least=0),
    )
    if any(2 * p > k for p, k in zip(window.padding, kernel, strict=True)):
        raise ValueError(f"[pooling] padding {window.padding} exceeds half of the kernel {kernel}")
    if min(window.out_size(size)) < 1:
        raise ValueError(
            f"[pooling] the kernel {kernel} with dilation {window.dilation} is larger than the "
            f"image {size} padded by {window.padding}"
        )
    return window


def _below(x: Tensor, window: Window, axes: Pair, fill: float) -> Tensor:
    """The windows of x, the image's `axes` padded with `fill`."""
    if any(window.padding):
        amounts = dict(zip(axes, window.padding, strict=True))
        x = pad(x, [(amounts.get(i, 0),) * 2 for i in range(x.ndim)], fill)
    return Windows(axes, window)(x)


# ---- pooling ----------------------------------------------------------------------------------


class _LargestPixel(Max):
    """The largest pixel of each window (…, KH, KW), of those that are `inside`."""

    def __init__(self, inside: Tensor | None) -> None:
        super().__init__((-2, -1))
        self.inside = inside

    def _hits(self, x: Tensor, extreme: Tensor) -> Tensor:
        hits = super()._hits(x, extreme)
        return hits if self.inside is None else logical_and(hits, self.inside)


class _LargestOfFew(TensorOp):
    """The largest pixel below a small kernel on images (N, H, W, C).

    Pixels of one place below the kernel are a strided slice of the images. The maxima of such
    slices, and the gradient, are element-wise along the channels: compiled, they are one loop each.
    """

    def __init__(self, window: Window, inside: Tensor | None) -> None:
        self.window, self.inside = window, inside

    def compute(self, x: NDArray) -> NDArray:
        return reduce(NDArray.maximum, (x[place] for place in _places(self.window, x.shape)))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        x, largest = node.inputs[0].detach(), node.detach()
        hits = [self._hits(x, largest, place) for place in _places(self.window, x.shape)]
        share = out_grad / reduce(add, hits)
        return _Spread(self.window, x.shape)(*(share * hit for hit in hits))

    def _hits(self, x: Tensor, largest: Tensor, place: Place) -> Tensor:
        pixels = x[place]
        hits = logical_or(equal(pixels, largest), not_equal(pixels, pixels))
        if self.inside is not None:
            hits = logical_and(hits, self.inside[place])
        return hits.astype(x.dtype)


class _Spread(TensorOp):
    """Tensors (N, OH, OW, C), one for each place below the kernel, added onto the images."""

    saves_values = False

    def __init__(self, window: Window, shape: Shape) -> None:
        self.window, self.shape = window, shape

    def compute(self, *parts: NDArray) -> NDArray:
        out = parts[0].device.zeros(self.shape, parts[0].dtype)
        overlaps = any(s < d * (k - 1) + 1 for k, s, d, _ in zip(*self.window, strict=True))
        for place, part in zip(_places(self.window, self.shape), parts, strict=True):
            out[place] = out[place] + part if overlaps else part
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        return tuple(out_grad[place] for place in _places(self.window, self.shape))


def _places(window: Window, shape: Shape) -> Iterator[Place]:
    """For each place below the kernel, which pixels of (N, H, W, C) images are there."""
    size = window.out_size((shape[1], shape[2]))
    for offsets in np.ndindex(*window.kernel):
        rows, columns = (
            slice(k * dilation, k * dilation + stride * (n - 1) + 1, stride)
            for k, dilation, stride, n in zip(
                offsets, window.dilation, window.stride, size, strict=True
            )
        )
        yield slice(None), rows, columns


class MaxPool(FusedOp):
    """The largest pixel below a kernel at each of its positions: (N, H, W, C) → (N, OH, OW, C).

    Equal largest pixels share the gradient, and so do the NaNs where there are any; padding gets
    none. The forward pass keeps how many there are.
    """

    kernel = "max_pool2d"

    def __init__(self, window: Window) -> None:
        self.window = window
        self.ties: NDArray | None = None

    def decompose(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if is_float(x.dtype) and prod(self.window.kernel) <= FEW:
            return self._of_few(x)
        below = _below(channels_first(x), self.window, (2, 3), _lowest(x.dtype))
        return channels_last(_LargestPixel(self._inside(x))(below))

    def _of_few(self, x: Tensor) -> Tensor:
        inside = None
        if any(self.window.padding):
            image = Tensor.make_const(x.device.ones((1, *x.shape[1:3], 1), "bool"))
            inside = self._padded(image, False)
            x = self._padded(x, _lowest(x.dtype))
        window = self.window._replace(padding=(0, 0))
        return _LargestOfFew(window, inside)(x)

    def _padded(self, x: Tensor, fill: float) -> Tensor:
        return pad(x, [(0, 0), *((n, n) for n in self.window.padding), (0, 0)], fill)

    def _inside(self, x: Tensor) -> Tensor | None:
        """Which of what lies below the kernel is no padding, (1, 1, OH, OW, KH, KW)."""
        if not any(self.window.padding):
            return None
        image = Tensor.make_const(x.device.ones((1, 1, *x.shape[1:3]), "bool"))
        return _below(image, self.window, (2, 3), False)

    def compute(self, x: NDArray) -> NDArray:
        kernel = self.fused(x)
        if kernel is None:
            return self.compute_by_parts(x)
        wide = x.astype(widened(x._dtype))
        out, self.ties = (_pooled_like(wide, self.window) for _ in range(2))
        kernel(wide, out, self.ties, *self.window)
        return out.astype(x._dtype)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        if self.ties is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        x = node.inputs[0].realize_cached_data()
        g, wide, out = (
            v.astype(self.ties._dtype)
            for v in (out_grad.realize_cached_data(), x, node.realize_cached_data())
        )
        dx = NDArray._empty(x._shape, x._device, wide._dtype)
        kernel = x._device.fused(self.kernel + "_grad")
        assert kernel is not None  # as its forward kernel is there
        kernel(g.compact(), wide, out.compact(), self.ties, dx, *self.window)
        return (Tensor.make_const(dx.astype(x._dtype)),)


class AvgPool(FusedOp):
    """The mean below a kernel at each of its positions: (N, H, W, C) → (N, OH, OW, C).

    Padding counts as zeros.
    """

    kernel = "avg_pool2d"
    saves_values = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def decompose(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return channels_last(mean(_below(channels_first(x), self.window, (2, 3), 0.0), (-2, -1)))

    def compute(self, x: NDArray) -> NDArray:
        kernel = self.fused(x)
        if kernel is None:
            return self.compute_by_parts(x)
        out = _pooled_like(x, self.window)
        kernel(x, out, *self.window)
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        return (AvgPoolGrad(self.window, node.inputs[0].shape)(out_grad),)


class AvgPoolGrad(FusedOp):
    """The transpose of `AvgPool`: g (N, OH, OW, C) spread evenly over the image of `shape`."""

    kernel = "avg_pool2d_grad"
    saves_values = False

    def __init__(self, window: Window, shape: Shape) -> None:
        self.window, self.shape = window, shape

    def decompose(self, g: Tensor) -> Tensor:  # type: ignore[override]
        (n, height, width, channels), window = self.shape, self.window
        share = channels_first(g) * (1 / prod(window.kernel))
        below = broadcast_to(reshape(share, (*share.shape, 1, 1)), (*share.shape, *window.kernel))
        padded = n, channels, *window.padded((height, width))
        image = Fold(Windows((2, 3), window), padded)(below)
        top, left = window.padding
        return channels_last(image[:, :, top : top + height, left : left + width])

    def compute(self, g: NDArray) -> NDArray:
        kernel = self.fused(g)
        if kernel is None:
            return self.compute_by_parts(g)
        dx = NDArray._empty(self.shape, g._device, g._dtype)
        kernel(g.compact(), dx, *self.window)
        return dx

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        return (AvgPool(self.window)(out_grad),)


def max_pool2d(
    x: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    *,
    layout: str = "NCHW",
) -> Tensor:
    """Largest pixel in a sliding window.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        The images; (N, H, W, C) in the other layout.
    kernel_size : int or (int, int)
        The height and width of the window.
    stride : int or (int, int), optional
        The distance between two windows; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Rows and columns around the image, up to half of the window.
    dilation : int or (int, int), default 1
        The distance between two pixels of a window.
    layout : {"NCHW", "NHWC"}
        The order of the axes, also of the result.

    Returns
    -------
    Tensor, shape (N, C, OH, OW)
        Padding never wins. Equal largest pixels share the gradient.

    Raises
    ------
    ValueError
        If `x` is not 4-d, the padding exceeds half of the window, or the window exceeds the padded
        image, or for another `layout`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.max_pool2d(ndl.ones(1, 3, 4, 4), 2).shape
    (1, 3, 2, 2)
    """
    images = _as_channels_last(x, layout, "max_pool2d")
    window = _image_window(images, kernel_size, stride, padding, dilation)
    return _in_layout(_pool(MaxPool(window), images), layout)


def avg_pool2d(
    x: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    *,
    layout: str = "NCHW",
) -> Tensor:
    """Mean of a sliding window; padding counts as zeros.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        The images; (N, H, W, C) in the other layout.
    kernel_size : int or (int, int)
        The height and width of the window.
    stride : int or (int, int), optional
        The distance between two windows; `kernel_size` if it is None.
    padding : int or (int, int), default 0
        Rows and columns around the image, up to half of the window.
    dilation : int or (int, int), default 1
        The distance between two pixels of a window.
    layout : {"NCHW", "NHWC"}
        The order of the axes, also of the result.

    Returns
    -------
    Tensor, shape (N, C, OH, OW)

    Raises
    ------
    ValueError
        If `x` is not 4-d, the padding exceeds half of the window, or the window exceeds the padded
        image, or for another `layout`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.avg_pool2d(ndl.ones(1, 3, 4, 4), 2).shape
    (1, 3, 2, 2)
    """
    images = _as_channels_last(x, layout, "avg_pool2d")
    window = _image_window(images, kernel_size, stride, padding, dilation)
    return _in_layout(_pool(AvgPool(window), images), layout)


def _as_channels_last(x: Tensor, layout: str, what: str) -> Tensor:
    """The images as (N, H, W, C): kernels work so. Checks the layout and the number of axes."""
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"[{what}] layout must be 'NCHW' or 'NHWC', got {layout!r}")
    if x.ndim != 4:
        raise ValueError(f"[{what}] needs images {'×'.join(layout)}, got shape {x.shape}")
    return channels_last(x) if layout == "NCHW" else x


def _in_layout(y: Tensor, layout: str) -> Tensor:
    return channels_first(y) if layout == "NCHW" else y


def _image_window(
    x: Tensor, kernel_size: Extent, stride: Extent | None, padding: Extent, dilation: Extent
) -> Window:
    if x.ndim != 4:
        raise ValueError(f"[pooling] needs images (N, H, W, C), got shape {x.shape}")
    return _window((x.shape[1], x.shape[2]), kernel_size, stride, padding, dilation)


def _pool(op: MaxPool | AvgPool, x: Tensor) -> Tensor:
    # Without a kernel the definition's own ops are recorded: they keep what their gradients need.
    fused = is_float(x.dtype) and x.device.fused(op.kernel) is not None
    return op(x) if fused else op.decompose(x)


def _lowest(dtype: np.dtype) -> float:
    """The smallest value of the dtype."""
    if dtype.kind == "b":
        return False
    return float("-inf") if is_float(dtype) else int(np.iinfo(dtype).min)


def _pooled_like(x: NDArray, window: Window) -> NDArray:
    size = window.out_size(x._shape[1:3])
    return NDArray._empty((x._shape[0], *size, x._shape[3]), x._device, x._dtype)


__all__ = [
    "AvgPool", "AvgPoolGrad", "Fold", "MaxPool", "Window", "Windows", "avg_pool2d", "max_pool2d",
    "windows",
]  # fmt: skip
