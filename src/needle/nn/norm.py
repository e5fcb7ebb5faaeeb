"""Normalization layers: over the batch, over features, and by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from .. import init, ops
from ..autograd import Tensor
from ..backend_ndarray import NDArray, Shape, promote
from ..backend_selection import Device
from ..ops._common import widens
from .arguments import in_unit_interval, non_negative, positive_int
from .module import Module, Parameter


class BatchNorm1d(Module):
    """(x - mean) / √(var + eps)·weight + bias for each feature of a batch (B, dim).

    In training, mean and (biased) variance are those of the batch, and the buffers
    `running_mean` and `running_var` become (1 - momentum)·old + momentum·batch's; evaluation uses
    the buffers (Ioffe and Szegedy, 2015).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device | str | None = None,
        dtype: Any = "float32",
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
        """(B, dim) → (B, dim). Raises ValueError for another shape and, in training, for B < 2."""
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
    """`BatchNorm1d` over N, H and W of images (N, dim, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W), the shape kept.

        Raises ValueError for another shape and, in training, for fewer than 2 values a channel.
        """
        if x.ndim != 4 or x.shape[1] != self.dim:
            raise ValueError(f"[BatchNorm2d] needs input (N, {self.dim}, H, W), got {x.shape}")
        pixels = ops.channels_last(x)
        rows = super().forward(pixels.reshape((prod(pixels.shape[:3]), self.dim)))
        return ops.channels_first(rows.reshape(pixels.shape))


class GroupNorm(Module):
    """Each sample's channels in groups, each to mean 0 and variance 1 (Wu and He, 2018)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: Any = "float32",
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
        """(N, num_channels, …), the shape kept. Raises ValueError for another shape."""
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
    """(x - mean) / √(var + eps)·weight + bias over the last axes (Ba et al., 2016).

    `normalized_shape` gives their lengths, as an int (the last axis) or a sequence.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape(type(self).__name__, normalized_shape)
        self.eps = non_negative(type(self).__name__, "eps", eps)
        self.weight = Parameter(init.ones(*self.normalized_shape, device=device, dtype=dtype))
        self.bias = Parameter(init.zeros(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(…, *normalized_shape), the shape kept. Raises ValueError where the last axes differ."""
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
    """`LayerNorm` over the last axis, of length `dim`."""

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(positive_int("LayerNorm1d", "dim", dim), eps, device, dtype)
        self.dim = dim


class RMSNorm(Module):
    """x / √(mean(x²) + eps)·weight over the last axes (Zhang and Sennrich, 2019)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-6,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape("RMSNorm", normalized_shape)
        self.eps = non_negative("RMSNorm", "eps", eps)
        self.weight = Parameter(init.ones(*self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(…, *normalized_shape), the shape kept. Raises ValueError where the last axes differ."""
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
