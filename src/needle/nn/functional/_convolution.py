"""Convolutions of (N, C, …) tensors, with PyTorch's weights (out, in / groups, …).

The layers keep their weights as (…, in / groups, out), as the kernels take them; `convolve` and
`convolve_transposed` are what the functions and the layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray.layout import whole
from ...typing import Extent, Shape
from ..arguments import SPATIAL_AXES
from ._padding import pad
from ._pooling import each
from ._single import takes_single

Padding = str | Extent


def same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each axis with which a result of stride 1 is as large as the input."""
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [(r // 2, r - r // 2) for r in reach]


def around(
    what: str, padding: Padding, kernel: Shape, stride: Shape, dilation: Shape
) -> list[tuple[int, int]]:
    """(before, after) of each axis. Raises TypeError or ValueError."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(f'[{what}] padding="same" needs stride 1, got {stride}')
        return same_padding(kernel, dilation)
    if isinstance(padding, str):
        raise ValueError(f'[{what}] padding must be "same", "valid" or ints, got {padding!r}')
    return [(p, p) for p in each(what, "padding", padding, len(kernel), least=0)]


def check_input(what: str, x: Tensor, axes: int, channels: int) -> None:
    """Raise ValueError unless `x` is (N, channels, …) with `axes` further axes."""
    if x.ndim != axes + 2 or x.shape[1] != channels:
        wanted = SPATIAL_AXES[axes - 1]
        raise ValueError(f"[{what}] needs input (N, {channels}, {wanted}), got shape {x.shape}")


def padded(x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """`x` padded along its last axes, in a `padding_mode` of the layers."""
    flat = [n for pair in reversed(amounts) for n in pair]
    return pad(x, flat, "constant" if mode == "zeros" else mode)


def convolve(
    x: Tensor, weight: Tensor, stride: Shape, amounts: Sequence[tuple[int, int]], dilation: Shape,
    groups: int,
) -> Tensor:  # fmt: skip
    """x (N, C, …) and weight (…, C / groups, O), with (before, after) zeros of each axis."""
    axes = x.ndim - 2
    if axes == 3:
        return _convolve_volumes(x, weight, stride, amounts, dilation, groups)
    if axes == 1:
        x, weight = ops.unsqueeze(x, 2), ops.unsqueeze(weight, 0)
        stride, dilation, amounts = (1, *stride), (1, *dilation), [(0, 0), *amounts]
    pixels = ops.channels_last(x)
    y = ops.channels_first(ops.conv(pixels, weight, stride, tuple(amounts), dilation, groups))
    return ops.squeeze(y, 2) if axes == 1 else y


def _convolve_volumes(
    x: Tensor, weight: Tensor, stride: Shape, amounts: Sequence[tuple[int, int]], dilation: Shape,
    groups: int,
) -> Tensor:  # fmt: skip
    """A convolution of images whose channels are those of all slices below the kernel."""
    depth, *_, per_group, out_channels = weight.shape
    x = padded(x, [amounts[0], (0, 0), (0, 0)], "zeros")
    slices = ops.Windows((2, 0), ops.Window((depth, 1), (stride[0], 1), (dilation[0], 1), (0, 0)))
    if x.shape[2] < dilation[0] * (depth - 1) + 1:
        raise ValueError(f"[conv3d] the kernel's depth {depth} exceeds that of input {x.shape}")
    below = slices(x)  # (N, C, D', H, W, depth, 1)
    n, channels, places, height, width = below.shape[:5]
    below = below.reshape((n, groups, channels // groups, places, height, width, depth))
    below = ops.permute(below, (0, 3, 1, 6, 2, 4, 5))
    images = below.reshape((n * places, groups * depth * (channels // groups), height, width))
    flat = ops.permute(weight, (1, 2, 0, 3, 4))
    flat = flat.reshape((*flat.shape[:2], depth * per_group, out_channels))
    y = convolve(images, flat, stride[1:], amounts[1:], dilation[1:], groups)
    return ops.permute(y.reshape((n, places, *y.shape[1:])), (0, 2, 1, 3, 4))


def convolve_transposed(
    x: Tensor, weight: Tensor, stride: Shape, padding: Shape, output_padding: Shape,
    dilation: Shape, groups: int,
) -> Tensor:  # fmt: skip
    """x (N, C, …) and weight (…, O / groups, C) → (N, O, …), the transpose of `convolve`."""
    axes = x.ndim - 2
    if axes == 3:
        return _transpose_volumes(x, weight, stride, padding, output_padding, dilation, groups)
    if axes == 1:
        x, weight = ops.unsqueeze(x, 2), ops.unsqueeze(weight, 0)
        stride, dilation = (1, *stride), (1, *dilation)
        padding, output_padding = (0, *padding), (0, *output_padding)
    pixels = ops.channels_last(x)
    y = ops.conv_transpose(pixels, weight, stride, padding, output_padding, dilation, groups)
    y = ops.channels_first(y)
    return ops.squeeze(y, 2) if axes == 1 else y


def _transpose_volumes(
    x: Tensor, weight: Tensor, stride: Shape, padding: Shape, output_padding: Shape,
    dilation: Shape, groups: int,
) -> Tensor:  # fmt: skip
    """Images with the slices of the result as channels, added onto their places in the depth."""
    n, channels, places, height, width = x.shape
    depth, *_, per_group, _ = weight.shape
    images = ops.permute(x, (0, 2, 1, 3, 4)).reshape((n * places, channels, height, width))
    flat = ops.permute(weight, (1, 2, 0, 3, 4))
    flat = flat.reshape((*flat.shape[:2], depth * per_group, channels))
    y = convolve_transposed(
        images, flat, stride[1:], padding[1:], output_padding[1:], dilation[1:], groups
    )
    height, width = y.shape[2:]
    y = y.reshape((n, places, groups, depth, per_group, height, width))
    y = ops.permute(y, (0, 2, 4, 1, 5, 6, 3))
    y = y.reshape((n, groups * per_group, places, height, width, depth, 1))
    window = ops.Window((depth, 1), (stride[0], 1), (dilation[0], 1), (0, 0))
    spread = (places - 1) * stride[0] + dilation[0] * (depth - 1) + 1
    volume = ops.Fold(ops.Windows((2, 0), window), (n, y.shape[1], spread, height, width))(y)
    return padded(volume, [(-padding[0], output_padding[0] - padding[0]), (0, 0), (0, 0)], "zeros")


def _conv(
    axes: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Extent, padding: Padding,
    dilation: Extent, groups: int,
) -> Tensor:  # fmt: skip
    what = f"conv{axes}d"
    steps, spread = each(what, "stride", stride, axes), each(what, "dilation", dilation, axes)
    kernel = _checked_kernel(what, weight, axes)
    groups = whole(groups, what, "groups")
    check_input(what, x, axes, weight.shape[1] * groups)
    amounts = around(what, padding, kernel, steps, spread)
    ours = ops.permute(weight, (*range(2, axes + 2), 1, 0))
    return with_bias(convolve(x, ours, steps, amounts, spread, groups), bias)


def _conv_transpose(
    axes: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Extent, padding: Extent,
    output_padding: Extent, groups: int, dilation: Extent,
) -> Tensor:  # fmt: skip
    what = f"conv_transpose{axes}d"
    steps, spread = each(what, "stride", stride, axes), each(what, "dilation", dilation, axes)
    _checked_kernel(what, weight, axes)
    check_input(what, x, axes, weight.shape[0])
    ours = ops.permute(weight, (*range(2, axes + 2), 1, 0))
    cut = each(what, "padding", padding, axes, least=0)
    extra = each(what, "output_padding", output_padding, axes, least=0)
    groups = whole(groups, what, "groups")
    return with_bias(convolve_transposed(x, ours, steps, cut, extra, spread, groups), bias)


def _checked_kernel(what: str, weight: Tensor, axes: int) -> Shape:
    if weight.ndim != axes + 2 or not prod(weight.shape):
        raise ValueError(
            f"[{what}] needs a weight of {axes + 2} axes that is not empty, got {weight.shape}"
        )
    return weight.shape[2:]


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """y (N, O, …) plus a number for each channel."""
    return y if bias is None else y + bias.reshape((bias.size, *[1] * (y.ndim - 2)))


@takes_single(1)
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Padding = 0, dilation: Extent = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, L) convolved with weight (O, C / groups, K); see `conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@takes_single(2)
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Padding = 0, dilation: Extent = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, H, W) convolved with weight (O, C / groups, KH, KW), as PyTorch has it.

    The weight of the layer `nn.Conv2d` has the axes (KH, KW, C / groups, O) instead. `padding` is
    an int, two ints, "valid" or, with stride 1, "same". Raises ValueError where shapes do not fit.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@takes_single(3)
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Padding = 0, dilation: Extent = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, D, H, W) convolved with weight (O, C / groups, KD, KH, KW); see `conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


@takes_single(1)
def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Extent = 0, output_padding: Extent = 0, groups: int = 1, dilation: Extent = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, L) with weight (C, O / groups, K) → (N, O, L'); see `conv_transpose2d`."""
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@takes_single(2)
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Extent = 0, output_padding: Extent = 0, groups: int = 1, dilation: Extent = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, H, W) with weight (C, O / groups, KH, KW) → (N, O, H', W'): convᵀ.

    H' = (H - 1)·stride - 2·padding + dilation·(KH - 1) + 1 + output_padding. Raises ValueError
    where shapes do not fit.
    """
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@takes_single(3)
def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Extent = 1,
    padding: Extent = 0, output_padding: Extent = 0, groups: int = 1, dilation: Extent = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, D, H, W) with weight (C, O / groups, KD, KH, KW); see `conv_transpose2d`."""
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
