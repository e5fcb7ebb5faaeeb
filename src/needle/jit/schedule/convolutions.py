"""The convolutions that get code specialized for their shape, and the constants of that code."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ...backend_ndarray.layout import is_compact
from ..ir.domain import is_linear
from ..ir.graph import Node, View

# A tile of the result has one pixel of several images, so that a smaller batch does not fill it;
# see static_convolution.h.
MIN_IMAGES = 16
# With fewer channels the gradient of the image would leave most of a vector empty.
MIN_CHANNELS_BACK = 8
# Each thread packs the images of a tile into memory of its own.
TILE_IMAGES, MAX_TILE_BYTES = 14, 4 << 20


class ConvolutionShape(NamedTuple):
    """A convolution, without the kernel positions that lie over padding only.

    The fields are those of `ConvolutionShape` in program_runtime.h; static_convolution.h explains
    them.
    """

    images: int
    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    filters: int
    out_height: int
    out_width: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    planes: int
    x_plane: int
    x_image: int
    w_row: int
    w_offset: int
    w_elements: int


def convolution_shape(node: Node) -> ConvolutionShape | None:
    """The constants of a convolution or of a gradient of one; None where it gets no own code."""
    if not node.op.startswith("conv2d"):
        return None
    image, kernel, result = convolution_views(node)
    stride, dilation, padding, groups = node.attributes
    if groups != 1 or tuple(dilation) != (1, 1) or not _fits_tiles(image, result):
        return None
    if node.op == "conv2d_input_grad" and image.shape[3] < MIN_CHANNELS_BACK:
        return None
    planes = _planes(image)
    if planes is None or not all(is_compact(v.shape, v.strides) for v in (kernel, result)):
        return None
    rows, cols = (
        _taps_over_image(image.shape[1 + i], kernel.shape[i], result.shape[1 + i], *steps)
        for i, steps in enumerate(zip(stride, padding, strict=True))
    )
    if not rows or not cols:
        return None
    images, height, width, channels = image.shape
    _, out_height, out_width, filters = result.shape
    w_row, w_column = kernel.shape[1] * channels * filters, channels * filters
    return ConvolutionShape(
        images, height, width, channels, len(rows), len(cols), filters, out_height, out_width,
        stride[0], stride[1], padding[0] - rows[0], padding[1] - cols[0],
        planes[0], planes[1], image.strides[0],
        w_row, rows[0] * w_row + cols[0] * w_column, kernel.size,
    )  # fmt: skip


def _fits_tiles(image: View, result: View) -> bool:
    pixels = max(prod(image.shape[1:]), prod(result.shape[1:]))
    return (
        image.shape[0] >= MIN_IMAGES
        and 0 < TILE_IMAGES * pixels * image.dtype.itemsize <= MAX_TILE_BYTES
    )


def convolution_views(node: Node) -> tuple[View, View, View]:
    """(image, weights, result) of a convolution or of a gradient, which computes one of them."""
    a, b, c = node.operands[:3]
    return {"conv2d": (a, b, c), "conv2d_input_grad": (c, b, a), "conv2d_weight_grad": (a, c, b)}[
        node.op
    ]


def _planes(image: View) -> tuple[int, int] | None:
    """(number of planes of an image, distance between them); None for other layouts.

    An image is one plane of pixels with their channels (NHWC), or one plane for each channel.
    """
    if is_linear(image.shape[1:], image.strides[1:]):
        return 1, 0
    if is_linear(image.shape[1:3], image.strides[1:3]):
        return image.shape[3], image.strides[3]
    return None


def _taps_over_image(size: int, kernel: int, out: int, stride: int, padding: int) -> Sequence[int]:
    """The kernel positions, from the first to the last that some output has over the image."""
    used = [
        tap
        for tap in range(kernel)
        if any(0 <= i * stride - padding + tap < size for i in range(out))
    ]
    return range(used[0], used[-1] + 1) if used else ()
