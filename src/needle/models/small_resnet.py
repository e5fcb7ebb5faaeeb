"""SmallResNet: a residual network for small images that trains in minutes on a CPU."""

from __future__ import annotations

from .. import nn, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from .resnet9 import ConvBN


class SmallResNet(nn.Module):
    """A residual network of eight convolutions whose image shrinks to half its side three times.

    The first convolution has stride 2, and no layer works at full size: that is what makes it
    cheap. Then come pairs of stages, one that widens and one residual, with max pooling between.
    The last layer reads the largest value of each channel, so images of any size fit.

    Parameters
    ----------
    num_classes : int, default 10
        The number of logits.
    in_channels : int, default 3
        The channels of an image: 3 for colours, 1 for gray.
    channels : (int, int, int), default (32, 64, 128)
        The channels at a half, a quarter and an eighth of the image's side.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is not positive or `channels` are not three.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.models.SmallResNet(num_classes=5)
    >>> model(ndl.ones(2, 3, 32, 32)).shape
    (2, 5)

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016.
    Page, "How to Train Your ResNet", 2018 (the order of stages, and the pooling at the end).
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        channels: tuple[int, int, int] = (32, 64, 128),
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            return ConvBN(inputs, outputs, 3, stride, device=device, dtype=dtype, bias=False)

        def residual(width: int) -> nn.Residual:
            return nn.Residual(nn.Sequential(block(width, width), block(width, width)))

        if len(channels) != 3:
            raise ValueError(f"[SmallResNet] channels must be three numbers, got {channels}")
        half, quarter, eighth = channels
        self.stages = nn.Sequential(
            block(in_channels, half, stride=2),
            block(half, half),
            block(half, quarter),
            nn.MaxPool2d(2),
            residual(quarter),
            block(quarter, eighth),
            nn.MaxPool2d(2),
            residual(eighth),
        )
        self.head = nn.Linear(eighth, num_classes, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W), H and W at least 8 → logits (N, num_classes)."""
        out: Tensor = self.head(ops.amax(self.stages(x), (2, 3)))
        return out
