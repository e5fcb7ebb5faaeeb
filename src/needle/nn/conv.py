"""Convolution layers on N×C×H×W (and N×C×L) tensors."""

from __future__ import annotations

import math
from typing import Any

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..ops._convolution import as_pair, make_geometry
from .arguments import positive_int
from .module import Module, Parameter


class Conv2d(Module):
    """Convolution of (N, in_channels, H, W) images → (N, out_channels, H', W').

    `weight` (KH, KW, in_channels / groups, out_channels) is drawn first, Kaiming uniform with
    fan_in = in_channels·KH·KW / groups, then `bias` (out_channels,), uniform in ±1/√fan_in.
    `padding` is what `ops.conv` takes, "same" included. The result's memory is channels last, in
    which a chain of convolutions, norms and activations computes without copies.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels = positive_int(name, "in_channels", in_channels)
        self.out_channels = positive_int(name, "out_channels", out_channels)
        self.groups = positive_int(name, "groups", groups)
        self.kernel_size = as_pair(name, "kernel_size", kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        make_geometry(name, stride, padding, dilation, groups, self.kernel_size)  # checks them
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"[{name}] groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self._draw(bias, device, dtype)

    def _draw(self, bias: bool, device: Device | str | None, dtype: Any) -> None:
        area = math.prod(self.kernel_size)
        fan_in = self.in_channels // self.groups * area
        self.weight = Parameter(
            init.kaiming_uniform(
                fan_in, self.out_channels * area, shape=self._weight_shape(), device=device,
                dtype=dtype,
            )
        )  # fmt: skip
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(fan_in)
            draw = init.rand(self.out_channels, low=-bound, high=bound, device=device, dtype=dtype)
            self.bias = Parameter(draw)

    def _weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.in_channels // self.groups, self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H', W'). Raises ValueError for others."""
        _check_image(self, x, self.in_channels)
        y = self._convolve(ops.channels_last(x))
        return ops.channels_first(y if self.bias is None else y + self.bias)

    def _convolve(self, x: Tensor) -> Tensor:
        return ops.conv(x, self.weight, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


class Conv(Conv2d):
    """The course's convolution: a square kernel, padded by kernel_size // 2.

    A tuple's first entry counts as kernel_size or stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        kernel = kernel_size[0] if isinstance(kernel_size, tuple) else kernel_size
        step = stride[0] if isinstance(stride, tuple) else stride
        kernel = positive_int(type(self).__name__, "kernel_size", kernel)
        super().__init__(
            in_channels, out_channels, kernel, step, kernel // 2, bias=bias, device=device,
            dtype=dtype,
        )  # fmt: skip


class Conv1d(Conv2d):
    """Convolution of (N, in_channels, L) sequences; `weight` is (1, K, in / groups, out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Any = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        around = padding if isinstance(padding, str) else (0, padding)
        super().__init__(
            in_channels, out_channels, (1, kernel_size), (1, stride), around, (1, dilation), groups,
            bias, device, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, L) → (N, out_channels, L')."""
        if x.ndim != 3:
            raise ValueError(f"[Conv1d] needs input (N, channels, L), got shape {x.shape}")
        return ops.squeeze(super().forward(ops.unsqueeze(x, 2)), 2)


class ConvTranspose2d(Conv2d):
    """The transpose of a convolution: (N, in_channels, H, W) → (N, out_channels, H', W').

    `weight` is (KH, KW, out_channels / groups, in_channels); see `ops.conv_transpose`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        self.output_padding = as_pair("ConvTranspose2d", "output_padding", output_padding, least=0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device,
            dtype,
        )  # fmt: skip

    def _weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.out_channels // self.groups, self.in_channels)

    def _convolve(self, x: Tensor) -> Tensor:
        return ops.conv_transpose(
            x, self.weight, self.stride, self.padding, self.output_padding, self.dilation,
            self.groups,
        )  # fmt: skip


def _check_image(layer: Module, x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"[{type(layer).__name__}] needs input (N, {channels}, H, W), got shape {x.shape}"
        )
