"""Normalization layers: over the batch, over features, and by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import init, ops
from ..autograd import Tensor
from ..backend_ndarray import NDArray, Shape, promote
from ..backend_selection import Device
from ..ops._common import widens
from ..typing import DTypeLike
from .arguments import in_unit_interval, non_negative, positive_int
from .module import Module, Parameter


class BatchNorm1d(Module):
    """Normalize each feature over the batch: (x - mean) / √(var + eps)·weight + bias.

    In training mode the mean and the biased variance are those of the batch, and each running
    statistic becomes (1 - momentum)·old + momentum·batch. Evaluation mode uses the running
    statistics.

    Parameters
    ----------
    dim : int
        The number of features.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, default 0.1
        The weight of the batch in the running statistics, in [0, 1].
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight, bias : Parameter, shape (dim,)
        Ones and zeros at first.
    running_mean, running_var : Tensor, shape (dim,)
        Buffers: zeros and ones at first.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> norm = ndl.nn.BatchNorm1d(1, eps=0.0)
    >>> norm(ndl.Tensor([[1], [3]])).tolist()
    [[-1.0], [1.0]]
    >>> norm.eval()(ndl.ones(4, 1)).shape
    (4, 1)
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.dim = positive_int("BatchNorm1d", "dim", dim)
        self.eps = non_negative("BatchNorm1d", "eps", eps)
        self.momentum = in_unit_interval("BatchNorm1d", "momentum", momentum)
        self.weight = Parameter(init.ones(dim, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(dim, device=device, dtype=dtype))
        self.register_buffer("running_mean", init.zeros(dim, device=device, dtype=dtype))
        self.register_buffer("running_var", init.ones(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the features.

        Parameters
        ----------
        x : Tensor, shape (B, dim)
            A batch of rows.

        Returns
        -------
        Tensor, shape (B, dim)

        Raises
        ------
        ValueError
            If `x` has another shape or, in training mode, if B is below 2.
        """
        shape = x.shape
        if len(shape) != 2 or shape[1] != self.dim:
            raise ValueError(f"[BatchNorm1d] needs input of shape (B, {self.dim}), got {shape}")
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.eps)
            return (x - self.running_mean) * scale + self.bias
        if shape[0] < 2:
            raise ValueError(
                f"[{type(self).__name__}] training needs at least 2 values a channel, got "
                f"{shape[0]}: one alone has no variance. Use a larger batch, or eval()"
            )
        y, mean, var = ops.batch_norm(*_one_dtype(x, self.weight, self.bias), self.eps)
        self._update(self.running_mean, mean)
        self._update(self.running_var, var)
        return y

    def _update(self, running: Tensor, value: NDArray) -> None:
        """Move a running statistic towards the batch's; outside of any graph."""
        m = self.momentum
        moved = running.realize_cached_data() * (1 - m) + value * m
        running._replace_data(moved.astype(running.dtype))

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm2d(BatchNorm1d):
    """Normalize each channel of images over N, H and W; see `BatchNorm1d`.

    Parameters
    ----------
    dim : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, default 0.1
        The weight of the batch in the running statistics, in [0, 1].
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.BatchNorm2d(3)(ndl.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels.

        Parameters
        ----------
        x : Tensor, shape (N, dim, H, W)
            A batch of images.

        Returns
        -------
        Tensor, shape (N, dim, H, W)

        Raises
        ------
        ValueError
            If `x` has another shape or, in training mode, if N·H·W is below 2.
        """
        if x.ndim != 4 or x.shape[1] != self.dim:
            raise ValueError(f"[BatchNorm2d] needs input (N, {self.dim}, H, W), got {x.shape}")
        pixels = ops.channels_last(x)
        rows = super().forward(pixels.reshape((prod(pixels.shape[:3]), self.dim)))
        return ops.channels_first(rows.reshape(pixels.shape))


class GroupNorm(Module):
    """Normalize each sample over groups of channels, with a weight and a bias for each channel.

    Parameters
    ----------
    num_groups : int
        The number of groups.
    num_channels : int
        The number of channels, a multiple of `num_groups`.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight, bias : Parameter, shape (num_channels,)
        Ones and zeros at first.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If the groups do not divide the channels.

    References
    ----------
    Wu and He, "Group Normalization", 2018.

    Examples
    --------
    >>> import needle as ndl
    >>> norm = ndl.nn.GroupNorm(num_groups=2, num_channels=4, eps=0.0)
    >>> norm(ndl.Tensor([[1, 3, 10, 30]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.num_groups = positive_int("GroupNorm", "num_groups", num_groups)
        self.num_channels = positive_int("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"[GroupNorm] {num_groups} groups do not divide {num_channels} channels"
            )
        self.eps = non_negative("GroupNorm", "eps", eps)
        self.weight = Parameter(init.ones(num_channels, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(num_channels, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the groups.

        Parameters
        ----------
        x : Tensor, shape (N, num_channels, ...)
            A batch of samples.

        Returns
        -------
        Tensor, shape (N, num_channels, ...)

        Raises
        ------
        ValueError
            If axis 1 of `x` does not have length `num_channels`.
        """
        shape = x.shape
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ValueError(f"[GroupNorm] needs input (N, {self.num_channels}, …), got {shape}")
        size = prod(shape[1:]) // self.num_groups
        rows = x.reshape((shape[0] * self.num_groups, size))
        ones = init.ones(size, device=x.device, dtype=x.dtype)
        zeros = init.zeros(size, device=x.device, dtype=x.dtype)
        normal = ops.layer_norm(rows, ones, zeros, self.eps)
        per_channel = (self.num_channels, *[1] * (len(shape) - 2))
        weight, bias = self.weight.reshape(per_channel), self.bias.reshape(per_channel)
        return normal.reshape(shape) * weight + bias

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class LayerNorm(Module):
    """Normalize each sample over its last axes: (x - mean) / √(var + eps)·weight + bias.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the normalized axes; an int stands for the last axis alone.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight, bias : Parameter, shape normalized_shape
        Ones and zeros at first.

    Raises
    ------
    TypeError
        If a length is not an integer.
    ValueError
        If a length is below 1, there is none, or `eps` is negative.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LayerNorm(2, eps=0.0)(ndl.Tensor([[1, 3], [2, 6]])).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape(type(self).__name__, normalized_shape)
        self.eps = non_negative(type(self).__name__, "eps", eps)
        self.weight = Parameter(init.ones(*self.normalized_shape, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the samples.

        Parameters
        ----------
        x : Tensor, shape (..., *normalized_shape)
            The samples.

        Returns
        -------
        Tensor, shape (..., *normalized_shape)

        Raises
        ------
        ValueError
            If the last axes of `x` are not `normalized_shape`.
        """
        shape = x.shape
        _check_last_axes(self, shape, self.normalized_shape)
        x, weight, bias = _one_dtype(x, self.weight, self.bias)
        if len(self.normalized_shape) == 1:
            return ops.layer_norm(x, weight, bias, self.eps)
        # All normalized axes become one.
        n = len(self.normalized_shape)
        rows = x.reshape((*shape[:-n], prod(self.normalized_shape)))
        flat = weight.reshape((-1,)), bias.reshape((-1,))
        return ops.layer_norm(rows, *flat, self.eps).reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class LayerNorm1d(LayerNorm):
    """Normalize each sample over its last axis; see `LayerNorm`.

    Parameters
    ----------
    dim : int
        The length of the last axis.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.LayerNorm1d(2, eps=0.0)(ndl.Tensor([[1, 3]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__(positive_int("LayerNorm1d", "dim", dim), eps, device, dtype)
        self.dim = dim


class RMSNorm(Module):
    """Divide each sample by its root mean square: x / √(mean(x²) + eps)·weight over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the normalized axes; an int stands for the last axis alone.
    eps : float, default 1e-6
        Added to the mean square; it must not be negative.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape normalized_shape
        Ones at first.

    Raises
    ------
    TypeError
        If a length is not an integer.
    ValueError
        If a length is below 1, there is none, or `eps` is negative.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.RMSNorm(4, eps=0.0)(ndl.Tensor([[1, 1, 1, 1], [2, -2, 2, 2]])).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-6,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape("RMSNorm", normalized_shape)
        self.eps = non_negative("RMSNorm", "eps", eps)
        self.weight = Parameter(init.ones(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the samples.

        Parameters
        ----------
        x : Tensor, shape (..., *normalized_shape)
            The samples.

        Returns
        -------
        Tensor, shape (..., *normalized_shape)

        Raises
        ------
        ValueError
            If the last axes of `x` are not `normalized_shape`.
        """
        _check_last_axes(self, x.shape, self.normalized_shape)
        return widens(self._normalized)(x)

    def _normalized(self, x: Tensor) -> Tensor:
        axes = tuple(range(-len(self.normalized_shape), 0))
        return x * ops.rsqrt((x * x).mean(axes, keepdims=True) + self.eps) * self.weight

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


def _one_dtype(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three in the wider of the dtypes of x and weight."""
    if x.dtype is weight.dtype is bias.dtype:
        return x, weight, bias
    dtype = promote(x.dtype, weight.dtype)
    return x.astype(dtype), weight.astype(dtype), bias.astype(dtype)


def _normalized_shape(layer: str, shape: int | Sequence[int]) -> Shape:
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not lengths:
        raise ValueError(f"[{layer}] normalized_shape must name at least one axis, got ()")
    return tuple(positive_int(layer, "normalized_shape", n) for n in lengths)


def _check_last_axes(layer: Module, shape: Shape, expected: Shape) -> None:
    if shape[-len(expected) :] != expected:
        wanted = ", ".join(str(n) for n in expected)
        raise ValueError(
            f"[{type(layer).__name__}] needs input of shape (…, {wanted}), got {shape}"
        )
