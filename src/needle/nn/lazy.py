"""Layers whose number of input features follows from the first input.

A lazy layer holds parameters of one feature until its first forward pass. Then it draws parameters
that fit, in the same Parameter objects, and becomes the layer that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

from .. import autograd
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike, Extent, Padding
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .conv_volume import Conv3d, ConvTranspose1d, ConvTranspose3d
from .instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .linear import Linear
from .module import Module


class _Lazy(Module):
    """A layer of class `_becomes` that waits for its first input."""

    _becomes: ClassVar[type[Module]]
    _axis: ClassVar[int] = 1

    def _wait(self, **options: object) -> None:
        """Make the layer for one input feature, and remember how it was made."""
        placeholder = options.get("groups", 1)  # the least that the groups divide
        cast(Callable[..., None], self._becomes.__init__)(self, placeholder, **options)
        self._options = options

    def forward(self, x: Tensor) -> Tensor:
        """Find the number of features in `x`, become the layer, and return its result."""
        name = type(self).__name__
        if autograd.current_trace() is not None:
            raise RuntimeError(
                f"[{name}] has no parameters yet; call the model once before it is compiled"
            )
        if x.ndim < 2:
            raise ValueError(f"[{name}] needs input with a batch axis, got shape {x.shape}")
        features = x.shape[self._axis]
        known = {"_options", "training", "_hooks", "_buffer_names"}
        layer = cast(Callable[..., Module], self._becomes)(features, **self._options)
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for path, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            old = held[path]
            drawn = tensor.realize_cached_data().astype(old.dtype).to(old.device)
            old._replace_data(drawn)
        for attribute, value in vars(layer).items():
            if attribute not in known and not isinstance(value, Tensor):
                setattr(self, attribute, value)
        del self._options
        self.__class__ = self._becomes  # type: ignore[assignment]
        return self.forward(x)


class LazyLinear(_Lazy, Linear):
    """`Linear` whose `in_features` follows from the first input.

    Parameters
    ----------
    out_features : int
        The length of the result's last axis.
    bias : bool, default True
        Whether a bias is added.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyLinear(3)
    >>> layer(ndl.ones(2, 5)).shape
    (2, 3)
    """

    _becomes = Linear
    _axis = -1

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        self._wait(
            out_features=out_features,
            bias=bias,
            device=device,
            dtype=dtype,
        )


class _LazyConv(_Lazy):
    """The base class of the lazy convolutions."""

    def __init__(
        self,
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
        self._wait(
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )


class LazyConv1d(_LazyConv, Conv1d):
    """`Conv1d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is added on each side; see the layer.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : str, default "zeros"
        What padding is made of.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConv1d(4, 3)
    >>> layer(ndl.ones(2, 3, 8)).shape
    (2, 4, 6)
    """

    _becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """`Conv2d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is added on each side; see the layer.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : str, default "zeros"
        What padding is made of.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConv2d(4, 3)
    >>> layer(ndl.ones(2, 3, 8, 8)).shape
    (2, 4, 6, 6)
    """

    _becomes = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """`Conv3d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is added on each side; see the layer.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    padding_mode : str, default "zeros"
        What padding is made of.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConv3d(4, 3)
    >>> layer(ndl.ones(2, 3, 8, 8, 8)).shape
    (2, 4, 6, 6, 6)
    """

    _becomes = Conv3d


class _LazyConvTranspose(_Lazy):
    """The base class of the lazy transposed convolutions."""

    def __init__(
        self,
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
        self._wait(
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            device=device,
            dtype=dtype,
        )


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """`ConvTranspose1d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is cut off on each side.
    output_padding : int or tuple of int, default 0
        Additional places at the end of the result.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConvTranspose1d(4, 3)
    >>> layer(ndl.ones(2, 3, 8)).shape
    (2, 4, 10)
    """

    _becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """`ConvTranspose2d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is cut off on each side.
    output_padding : int or tuple of int, default 0
        Additional places at the end of the result.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConvTranspose2d(4, 3)
    >>> layer(ndl.ones(2, 3, 8, 8)).shape
    (2, 4, 10, 10)
    """

    _becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """`ConvTranspose3d` whose `in_channels` follows from the first input.

    Parameters
    ----------
    out_channels : int
        The number of channels of the result.
    kernel_size : int or tuple of int
        The lengths of the kernel.
    stride : int or tuple of int, default 1
        The step between positions of the kernel.
    padding : int, tuple or str, default 0
        What is cut off on each side.
    output_padding : int or tuple of int, default 0
        Additional places at the end of the result.
    groups : int, default 1
        The number of groups of channels.
    bias : bool, default True
        Whether a bias is added.
    dilation : int or tuple of int, default 1
        The distance between neighbouring places below the kernel.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyConvTranspose3d(4, 3)
    >>> layer(ndl.ones(2, 3, 8, 8, 8)).shape
    (2, 4, 10, 10, 10)
    """

    _becomes = ConvTranspose3d


class _LazyBatchNorm(_Lazy):
    """The base class of the lazy batch norms."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self._wait(
            eps=eps,
            momentum=momentum,
            device=device,
            dtype=dtype,
            affine=affine,
            track_running_stats=track_running_stats,
        )


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """`BatchNorm1d` whose `dim` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyBatchNorm1d()
    >>> layer(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    _becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """`BatchNorm2d` whose `dim` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyBatchNorm2d()
    >>> layer(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """`BatchNorm3d` whose `dim` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyBatchNorm3d()
    >>> layer(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """

    _becomes = BatchNorm3d


class _LazyInstanceNorm(_Lazy):
    """The base class of the lazy instance norms."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        self._wait(
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """`InstanceNorm1d` whose `num_features` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        The weight of the batch in the running statistics.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyInstanceNorm1d()
    >>> layer(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    _becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """`InstanceNorm2d` whose `num_features` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        The weight of the batch in the running statistics.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyInstanceNorm2d()
    >>> layer(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """`InstanceNorm3d` whose `num_features` follows from the first input.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        The weight of the batch in the running statistics.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.LazyInstanceNorm3d()
    >>> layer(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """

    _becomes = InstanceNorm3d
