"""Convolution layers on N×C×H×W (and N×C×L) tensors."""

from __future__ import annotations

import math

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..ops._convolution import as_pair, make_geometry
from ..typing import DTypeLike, Extent, Padding
from . import functional
from .arguments import one_of, positive_int
from .functional._single import takes_single
from .module import Module
from .parameter import Parameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(Module):
    """Convolution of images.

    (N, in_channels, H, W) gives (N, out_channels, H', W') with H' = ⌊(H + 2·padding - dilation·(KH
    - 1) - 1) / stride⌋ + 1, and W' likewise. The result is stored channels last, so that a chain of
    convolutions, norms and activations needs no copies.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int or (int, int)
        The height and width of the kernel.
    stride : int or (int, int), default 1
        The step between positions of the kernel.
    padding : int, (int, int), ((int, int), (int, int)) or str, default 0
        The zeros around the image: on each side, as (height, width), as ((top, bottom),
        (left, right)), or "valid" (none) or "same" (the result is as large as the image; only with
        stride 1).
    dilation : int or (int, int), default 1
        The distance between pixels below neighbouring entries of the kernel.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What is added around; see `needle.nn.functional.pad`.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (KH, KW, in_channels / groups, out_channels)
        Drawn first, Kaiming uniform with fan-in in_channels·KH·KW / groups.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is out of range or `groups` does not divide both numbers of channels.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
    >>> layer(ndl.ones(2, 3, 32, 32)).shape
    (2, 8, 16, 16)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Padding = 0,
        dilation: Extent = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
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
        self.padding_mode = one_of(name, "padding_mode", padding_mode, PADDING_MODES)
        self._draw(bias, device, dtype)

    def _draw(self, bias: bool, device: Device | str | None, dtype: DTypeLike | None) -> None:
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

    @takes_single(2, method=True)
    def forward(self, x: Tensor) -> Tensor:
        """Convolve the images.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)
            The images.

        Returns
        -------
        Tensor, shape (N, out_channels, H', W')

        Raises
        ------
        ValueError
            If `x` has another shape or the padded image is smaller than the kernel.
        """
        _check_image(self, x, self.in_channels)
        y = self._convolve(ops.channels_last(x))
        return ops.channels_first(y if self.bias is None else y + self.bias)

    def _convolve(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._padded(x), 0
        return ops.conv(x, self.weight, self.stride, padding, self.dilation, self.groups)

    def _padded(self, x: Tensor) -> Tensor:
        """The images (N, H, W, C) with what `padding_mode` adds around them."""
        (top, bottom), (left, right) = make_geometry(
            type(self).__name__, self.stride, self.padding, self.dilation, self.groups,
            self.kernel_size,
        ).padding  # fmt: skip
        return functional.pad(x, (0, 0, left, right, top, bottom), self.padding_mode)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


class Conv(Conv2d):
    """The course's convolution: a square kernel, padded by kernel_size // 2.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple
        The height and width of the kernel; of a tuple the first entry counts.
    stride : int or tuple, default 1
        The step between positions of the kernel; of a tuple the first entry counts.
    bias : bool, default True
        Whether a bias is added.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Conv(3, 8, kernel_size=3)(ndl.ones(2, 3, 32, 32)).shape
    (2, 8, 32, 32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        kernel = kernel_size[0] if isinstance(kernel_size, tuple) else kernel_size
        step = stride[0] if isinstance(stride, tuple) else stride
        kernel = positive_int(type(self).__name__, "kernel_size", kernel)
        super().__init__(
            in_channels, out_channels, kernel, step, kernel // 2, bias=bias, device=device,
            dtype=dtype,
        )  # fmt: skip


class Conv1d(Conv2d):
    """Convolution of sequences.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int
        The length of the kernel.
    stride : int, default 1
        The step between positions of the kernel.
    padding : int or str, default 0
        The zeros on each side, or "valid" or "same"; see `Conv2d`.
    dilation : int, default 1
        The distance between positions below neighbouring entries of the kernel.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What is added around; see `needle.nn.functional.pad`.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (1, kernel_size, in_channels / groups, out_channels)
        Drawn first, Kaiming uniform with fan-in in_channels·kernel_size / groups.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.Conv1d(4, 8, kernel_size=3)(ndl.ones(2, 4, 10)).shape
    (2, 8, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        around = padding if isinstance(padding, str) else (0, padding)
        super().__init__(
            in_channels, out_channels, (1, kernel_size), (1, stride), around, (1, dilation), groups,
            bias, padding_mode, device, dtype,
        )  # fmt: skip

    @takes_single(1, method=True)
    def forward(self, x: Tensor) -> Tensor:
        """Convolve the sequences.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, L)
            The sequences.

        Returns
        -------
        Tensor, shape (N, out_channels, L')
            L' = ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1.

        Raises
        ------
        ValueError
            If `x` has another shape or the padded sequence is shorter than the kernel.
        """
        if x.ndim != 3:
            raise ValueError(f"[Conv1d] needs input (N, channels, L), got shape {x.shape}")
        return ops.squeeze(super().forward(ops.unsqueeze(x, 2)), 2)


class ConvTranspose2d(Conv2d):
    """Transposed convolution of images: the map of `Conv2d` from its result back to its input.

    (N, in_channels, H, W) gives (N, out_channels, H', W') with
    H' = (H - 1)·stride - 2·padding + dilation·(KH - 1) + 1 + output_padding, and W' likewise.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    out_channels : int
        The number of channels of the result.
    kernel_size : int or (int, int)
        The height and width of the kernel.
    stride : int or (int, int), default 1
        The distance between neighbouring pixels of the input in the result.
    padding : int, (int, int) or ((int, int), (int, int)), default 0
        The pixels that are cut off on each side of the result.
    output_padding : int or (int, int), default 0
        Additional rows and columns at the end of the result; fewer than `stride`.
    groups : int, default 1
        The number of groups of channels that are convolved separately.
    bias : bool, default True
        Whether a bias is added.
    dilation : int or (int, int), default 1
        The distance between pixels below neighbouring entries of the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (KH, KW, out_channels / groups, in_channels)
        Drawn first, Kaiming uniform with fan-in in_channels·KH·KW / groups.
    bias : Parameter, shape (out_channels,), or None
        Drawn second, uniform in ±1/√fan-in.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.ConvTranspose2d(8, 3, kernel_size=2, stride=2)
    >>> layer(ndl.ones(1, 8, 16, 16)).shape
    (1, 3, 32, 32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Padding = 0,
        output_padding: Extent = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extent = 1,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        self.output_padding = as_pair("ConvTranspose2d", "output_padding", output_padding, least=0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            device=device, dtype=dtype,
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
        instead = ""
        if x.ndim == 4 and x.shape[3] == channels:
            instead = ": write x.permute(0, 3, 1, 2)"
        elif x.ndim == 3 and channels == 1:
            instead = ": write x.unsqueeze(1)"
        raise ValueError(
            f"[{type(layer).__name__}] needs input (N, {channels}, H, W), got shape {x.shape}"
            + instead
        )
