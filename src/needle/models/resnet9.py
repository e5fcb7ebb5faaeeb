"""ResNet9: a small residual convolutional network for 32×32 images."""

from __future__ import annotations

from .. import nn
from ..backend_selection import Device
from ..typing import DTypeLike


def ConvBN(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    bias: bool = True,
) -> nn.Sequential:
    """ReLU(BatchNorm(Conv(x))): (N, in, H, W) → (N, out, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return nn.Sequential(
        nn.Conv(in_channels, out_channels, kernel_size, stride, bias, device=device, dtype=dtype),
        nn.BatchNorm2d(out_channels, device=device, dtype=dtype),
        nn.ReLU(),
    )


def ResNet9(
    device: Device | str | None = None, dtype: DTypeLike | None = "float32", num_classes: int = 10
) -> nn.Sequential:
    """(N, 3, 32, 32) → logits (N, num_classes); 431,946 parameters for ten classes."""

    def block(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
        return ConvBN(in_channels, out_channels, kernel, stride, device, dtype)

    def residual(channels: int) -> nn.Residual:
        return nn.Residual(
            nn.Sequential(block(channels, channels, 3, 1), block(channels, channels, 3, 1))
        )

    return nn.Sequential(
        block(3, 16, 7, 4),
        block(16, 32, 3, 2),
        residual(32),
        block(32, 64, 3, 2),
        block(64, 128, 3, 2),
        residual(128),
        nn.Flatten(),
        nn.Linear(128, 128, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(128, num_classes, device=device, dtype=dtype),
    )
