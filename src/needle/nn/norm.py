"""Normalization of each sample: over groups, over features, and by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import init, ops
from ..autograd import Tensor
from ..backend_ndarray import Shape, promote
from ..backend_selection import Device
from ..typing import DTypeLike
from . import functional
from .arguments import non_negative, positive_int
from .module import Module
from .parameter import Parameter


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
    affine : bool, default True
        Whether there are a weight and a bias.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight, bias : Parameter, shape (num_channels,), or None
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
        affine: bool = True,
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
        self.weight = self.bias = None
        if affine:
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
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

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
    elementwise_affine : bool, default True
        Whether there are a weight and a bias.
    bias : bool, default True
        Whether there is a bias.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight, bias : Parameter, shape normalized_shape, or None
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
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape(type(self).__name__, normalized_shape)
        self.eps = non_negative(type(self).__name__, "eps", eps)
        self.weight = self.bias = None
        if elementwise_affine:
            ones = init.ones(*self.normalized_shape, device=device, dtype=dtype)
            self.weight = Parameter(ones)
            self.bias = Parameter(init.zeros_like(ones)) if bias else None

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
        if self.weight is None or self.bias is None:
            return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
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
        super().__init__(positive_int("LayerNorm1d", "dim", dim), eps, device=device, dtype=dtype)
        self.dim = dim


class RMSNorm(Module):
    """Divide each sample by its root mean square: x / √(mean(x²) + eps)·weight over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the normalized axes; an int stands for the last axis alone.
    eps : float, default 1e-6
        Added to the mean square; it must not be negative.
    elementwise_affine : bool, default True
        Whether there is a weight.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    weight : Parameter, shape normalized_shape, or None
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
        elementwise_affine: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.normalized_shape = _normalized_shape("RMSNorm", normalized_shape)
        self.eps = non_negative("RMSNorm", "eps", eps)
        self.weight = None
        if elementwise_affine:
            ones = init.ones(*self.normalized_shape, device=device, dtype=dtype)
            self.weight = Parameter(ones)

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
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

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
