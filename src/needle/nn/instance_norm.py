"""Normalization of each channel of each sample, and across neighbouring channels."""

from __future__ import annotations

from typing import ClassVar

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..typing import DTypeLike
from . import functional
from .arguments import SPATIAL_AXES, finite, in_unit_interval, non_negative, positive_int
from .module import Module
from .parameter import Parameter


class _InstanceNorm(Module):
    """Normalization over the axes after the channels."""

    axes: ClassVar[int]
    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_features = positive_int(name, "num_features", num_features)
        self.eps = non_negative(name, "eps", eps)
        self.momentum = in_unit_interval(name, "momentum", momentum)
        self.weight = self.bias = self.running_mean = self.running_var = None
        ones = init.ones(num_features, device=device, dtype=dtype)
        if affine:
            self.weight, self.bias = Parameter(ones), Parameter(init.zeros_like(ones))
        if track_running_stats:
            self.register_buffer("running_mean", init.zeros_like(ones))
            self.register_buffer("running_var", init.ones_like(ones))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized `x`; one sample may be without the axis N.

        A shape that does not fit is a ValueError.
        """
        if x.ndim == self.axes + 1 and x.shape[0] == self.num_features:
            return ops.squeeze(self.forward(ops.unsqueeze(x, 0)), 0)
        if x.ndim != self.axes + 2 or x.shape[1] != self.num_features:
            wanted = SPATIAL_AXES[self.axes - 1]
            raise ValueError(
                f"[{type(self).__name__}] needs input (N, {self.num_features}, {wanted}), got "
                f"shape {x.shape}"
            )
        own = self.training or self.running_mean is None
        return functional.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum,
            self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class InstanceNorm1d(_InstanceNorm):
    """Normalize each channel of each sample of sequences (N, C, L) over its other axes.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, default 0.1
        The weight of the batch in the running statistics, in [0, 1].
    affine : bool, default False
        Whether there are a weight and a bias.
    track_running_stats : bool, default False
        Whether there are running statistics. Without them evaluation normalizes as training does.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
    Stylization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.InstanceNorm1d(3)(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    axes = 1


class InstanceNorm2d(_InstanceNorm):
    """Normalize each channel of each sample of images (N, C, H, W) over its other axes.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, default 0.1
        The weight of the batch in the running statistics, in [0, 1].
    affine : bool, default False
        Whether there are a weight and a bias.
    track_running_stats : bool, default False
        Whether there are running statistics. Without them evaluation normalizes as training does.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
    Stylization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.InstanceNorm2d(3)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    axes = 2


class InstanceNorm3d(_InstanceNorm):
    """Normalize each channel of each sample of volumes (N, C, D, H, W) over its other axes.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, default 0.1
        The weight of the batch in the running statistics, in [0, 1].
    affine : bool, default False
        Whether there are a weight and a bias.
    track_running_stats : bool, default False
        Whether there are running statistics. Without them evaluation normalizes as training does.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
    Stylization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.InstanceNorm3d(3)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """

    axes = 3


class LocalResponseNorm(Module):
    """Divide by the size of neighbouring channels: x / (k + alpha·mean(x²))^beta.

    Parameters
    ----------
    size : int
        The number of neighbouring channels of the mean.
    alpha : float, default 1e-4
        The factor of the mean.
    beta : float, default 0.75
        The exponent.
    k : float, default 1.0
        Added to the mean.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
    Networks", 2012.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LocalResponseNorm(2)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = positive_int("LocalResponseNorm", "size", size)
        self.alpha = finite("LocalResponseNorm", "alpha", alpha)
        self.beta = finite("LocalResponseNorm", "beta", beta)
        self.k = finite("LocalResponseNorm", "k", k)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled `x`, (N, C, …) as before."""
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
