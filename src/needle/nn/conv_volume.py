"""Convolutions of volumes, and the transposed convolutions of sequences and volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import init
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike, Extent, Shape
from .arguments import one_of, positive_int
from .conv import PADDING_MODES
from .functional import _convolution as convolution
from .functional._pooling import each
from .functional._single import takes_single
from .module import Module
from .parameter import Parameter


class _Convolution(Module):
    """A kernel that moves over the axes after the channels, and its weights."""

    axes: int
    weight: Parameter
    bias: Parameter | None

    def _set(
        self, channels: Sequence[int], kernel_size: Extent, stride: Extent, dilation: Extent,
        groups: int,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.in_channels = positive_int(name, "in_channels", channels[0])
        self.out_channels = positive_int(name, "out_channels", channels[1])
        self.groups = positive_int(name, "groups", groups)
        self.kernel_size = each(name, "kernel_size", kernel_size, self.axes)
        self.stride = each(name, "stride", stride, self.axes)
        self.dilation = each(name, "dilation", dilation, self.axes)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"[{name}] groups={groups} must divide in_channels={channels[0]} and "
                f"out_channels={channels[1]}"
            )

    def _draw(
        self,
        shape: Shape,
        bias: bool,
        device: Device | str | None,
        dtype: DTypeLike | None,
    ) -> None:
        """The weight, Kaiming uniform, and then the bias, uniform in ±1/√fan-in."""
        area = math.prod(self.kernel_size)
        fan_in = self.in_channels // self.groups * area
        fan_out = self.out_channels * area
        self.weight = Parameter(
            init.kaiming_uniform(fan_in, fan_out, shape=shape, device=device, dtype=dtype)
        )
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(fan_in)
            draw = init.rand(self.out_channels, low=-bound, high=bound, device=device, dtype=dtype)
            self.bias = Parameter(draw)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )


class Conv3d(_Convolution):
    """Convolution of volumes: (N, in_channels, D, H, W) → (N, out_channels, D', H', W').

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int or (int, int, int)
        The depth, height and width of the kernel.
    stride : int or (int, int, int), default 1
        The step between positions of the kernel.
    padding : int, (int, int, int) or str, default 0
        What is added on each side, or "valid" or, with stride 1, "same".
    dilation : int or (int, int, int), default 1
        The distance between points below neighbouring entries of the kernel.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What is added; see `needle.nn.functional.pad`.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (KD, KH, KW, in_channels / groups, out_channels)
        Drawn first, Kaiming uniform.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Conv3d(2, 4, kernel_size=3, padding=1)(ndl.ones(1, 2, 5, 6, 7)).shape
    (1, 4, 5, 6, 7)
    """

    axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: str | Extent = 0,
        dilation: Extent = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self._set((in_channels, out_channels), kernel_size, stride, dilation, groups)
        self.padding = convolution.around(
            "Conv3d", padding, self.kernel_size, self.stride, self.dilation
        )
        self.padding_mode = one_of("Conv3d", "padding_mode", padding_mode, PADDING_MODES)
        shape = (*self.kernel_size, self.in_channels // self.groups, self.out_channels)
        self._draw(shape, bias, device, dtype)

    @takes_single(3, method=True)
    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved volumes; a shape that does not fit is a ValueError."""
        convolution.check_input("Conv3d", x, 3, self.in_channels)
        amounts = self.padding
        if self.padding_mode != "zeros":
            x, amounts = convolution.padded(x, amounts, self.padding_mode), [(0, 0)] * 3
        y = convolution.convolve(x, self.weight, self.stride, amounts, self.dilation, self.groups)
        return convolution.with_bias(y, self.bias)


class _ConvTranspose(_Convolution):
    """The map of a convolution from its result back to its input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Extent = 0,
        output_padding: Extent = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extent = 1,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self._set((in_channels, out_channels), kernel_size, stride, dilation, groups)
        self.padding = each(name, "padding", padding, self.axes, least=0)
        self.output_padding = each(name, "output_padding", output_padding, self.axes, least=0)
        if any(e >= s for e, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(
                f"[{name}] output_padding {self.output_padding} must be below the stride "
                f"{self.stride}"
            )
        shape = (*self.kernel_size, self.out_channels // self.groups, self.in_channels)
        self._draw(shape, bias, device, dtype)

    @takes_single(None, method=True)
    def forward(self, x: Tensor) -> Tensor:
        """Return the larger tensor; a shape that does not fit is a ValueError."""
        convolution.check_input(type(self).__name__, x, self.axes, self.in_channels)
        y = convolution.convolve_transposed(
            x, self.weight, self.stride, self.padding, self.output_padding, self.dilation,
            self.groups,
        )  # fmt: skip
        return convolution.with_bias(y, self.bias)


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of sequences: (N, in_channels, L) → (N, out_channels, L').

    L' = (L - 1)·stride - 2·padding + dilation·(kernel_size - 1) + 1 + output_padding.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int
        The length of the kernel.
    stride : int, default 1
        The distance between neighbouring steps of the input in the result.
    padding : int, default 0
        What is cut off on each side of the result.
    output_padding : int, default 0
        Additional steps at the end of the result; fewer than `stride`.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    dilation : int, default 1
        The distance between steps below neighbouring entries of the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (kernel_size, out_channels / groups, in_channels)
        Drawn first, Kaiming uniform.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ConvTranspose1d(4, 2, kernel_size=2, stride=2)(ndl.ones(1, 4, 5)).shape
    (1, 2, 10)
    """

    axes = 1


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes; the formula for each axis is that of `ConvTranspose1d`.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int or (int, int, int)
        The depth, height and width of the kernel.
    stride : int or (int, int, int), default 1
        The distance between neighbouring points of the input in the result.
    padding : int or (int, int, int), default 0
        What is cut off on each side of the result.
    output_padding : int or (int, int, int), default 0
        Additional points at the end of each axis of the result; fewer than `stride`.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    dilation : int or (int, int, int), default 1
        The distance between points below neighbouring entries of the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (KD, KH, KW, out_channels / groups, in_channels)
        Drawn first, Kaiming uniform.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.ConvTranspose3d(4, 2, kernel_size=2, stride=2)(ndl.ones(1, 4, 3, 3, 3)).shape
    (1, 2, 6, 6, 6)
    """

    axes = 3
