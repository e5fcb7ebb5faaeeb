"""Normalization over the batch."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from .. import init, ops
from ..autograd import Tensor
from ..backend_ndarray import NDArray
from ..backend_selection import Device
from ..typing import DTypeLike
from .arguments import in_unit_interval, non_negative, positive_int
from .module import Module
from .norm import _one_dtype
from .parameter import Parameter


class _BatchNorm(Module):
    """Normalization of each channel (axis 1) over all other axes.

    Input has one of the numbers of axes `_ndims`; `_wanted` says so in errors.
    """

    _ndims: ClassVar[tuple[int, ...]]
    _wanted: ClassVar[str]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor

    def __init__(
        self,
        dim: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        num_features: int | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if (dim is None) == (num_features is None):
            raise TypeError(f"[{name}] needs the number of channels, as dim or as num_features")
        given = num_features if dim is None else dim
        assert given is not None
        self.dim = channels = positive_int(name, "dim", given)
        self.eps = non_negative(name, "eps", eps)
        self.momentum = momentum
        if momentum is not None:
            self.momentum = in_unit_interval(name, "momentum", momentum)
        self.weight = self.bias = self.running_mean = self.running_var = None
        if affine:
            self.weight = Parameter(init.ones(channels, device=device, dtype=dtype))
            self.bias = Parameter(init.zeros(channels, device=device, dtype=dtype))
        if track_running_stats:
            self.register_buffer("running_mean", init.zeros(channels, device=device, dtype=dtype))
            self.register_buffer("running_var", init.ones(channels, device=device, dtype=dtype))
            if momentum is None:
                count = init.zeros(device=device, dtype="int64")
                self.register_buffer("num_batches_tracked", count)

    @property
    def num_features(self) -> int:
        """The number of channels: `dim` by PyTorch's name."""
        return self.dim

    def _check(self, x: Tensor) -> None:
        if x.ndim not in self._ndims or x.shape[1] != self.dim:
            wanted = self._wanted.replace("dim", str(self.dim))
            raise ValueError(f"[{type(self).__name__}] needs input {wanted}, got {x.shape}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels.

        In training mode, and without running statistics, a channel of one value is a ValueError,
        as is a shape that does not fit.
        """
        self._check(x)
        if x.ndim == 2:
            return self._normalized(x)
        # Rows of channels, channels last; for images these are views.
        last = ops.permute(x, (0, *range(2, x.ndim), 1))
        rows = self._normalized(last.reshape((prod(last.shape[:-1]), self.dim)))
        return ops.permute(rows.reshape(last.shape), (0, x.ndim - 1, *range(1, x.ndim - 1)))

    def _normalized(self, x: Tensor) -> Tensor:
        """The rows (B, dim), normalized."""
        mean, var = self.running_mean, self.running_var
        if not self.training and mean is not None and var is not None:
            if self.weight is None or self.bias is None:
                return (x - mean) / ops.sqrt(var + self.eps)
            return (x - mean) * (self.weight / ops.sqrt(var + self.eps)) + self.bias
        if x.shape[0] < 2:
            raise ValueError(
                f"[{type(self).__name__}] training needs at least 2 values a channel, got "
                f"{x.shape[0]}: one alone has no variance. Use a larger batch, or eval()"
            )
        scale: tuple[Tensor, Tensor]
        if self.weight is None or self.bias is None:
            ones = init.ones(self.dim, device=x.device, dtype=x.dtype)
            scale = ones, init.zeros_like(ones)
        else:
            scale = self.weight, self.bias
        y, batch_mean, batch_var = ops.batch_norm(*_one_dtype(x, *scale), self.eps)
        if mean is not None and var is not None:
            part = self._part()
            _move(mean, batch_mean, part)
            _move(var, batch_var, part)
        return y

    def _part(self) -> float | NDArray:
        """The weight of this batch in the running statistics."""
        if self.momentum is not None:
            return self.momentum
        count = self.num_batches_tracked.realize_cached_data() + 1
        self.num_batches_tracked._replace_data(count)
        return 1.0 / count.astype("float32")

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, momentum={self.momentum}"


def _move(running: Tensor, value: NDArray, part: float | NDArray) -> None:
    """Move a running statistic towards the batch's; outside of any graph."""
    moved = running.realize_cached_data() * (1 - part) + value * part
    running._replace_data(moved.astype(running.dtype))


class BatchNorm1d(_BatchNorm):
    """Normalize each feature over the batch: (x - mean) / √(var + eps)·weight + bias.

    In training mode the mean and the biased variance are those of the batch, and each running
    statistic becomes (1 - momentum)·old + momentum·batch. Evaluation mode uses the running
    statistics. Input is a batch of rows (B, dim) or of sequences (B, dim, L).

    Parameters
    ----------
    dim : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics, in [0, 1]; with None they are the mean of
        all batches'.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the batch's, too.
    num_features : int, optional
        PyTorch's name of `dim`.

    Attributes
    ----------
    weight, bias : Parameter, shape (dim,), or None
        Ones and zeros at first.
    running_mean, running_var : Tensor, shape (dim,), or None
        Buffers: zeros and ones at first.
    num_batches_tracked : Tensor, shape ()
        Buffer, only if `momentum` is None: the number of batches so far.

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

    _ndims, _wanted = (2, 3), "of shape (B, dim) or (B, dim, L)"


class BatchNorm2d(_BatchNorm):
    """Normalize each channel of images (N, dim, H, W) over all other axes.

    See `BatchNorm1d`.

    Parameters
    ----------
    dim : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics, in [0, 1]; with None they are the mean of
        all batches'.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the batch's, too.
    num_features : int, optional
        PyTorch's name of `dim`.

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

    _ndims, _wanted = (4,), "(N, dim, H, W)"


class BatchNorm3d(_BatchNorm):
    """Normalize each channel of volumes (N, dim, D, H, W) over all other axes.

    See `BatchNorm1d`.

    Parameters
    ----------
    dim : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance; it must not be negative.
    momentum : float, optional, default 0.1
        The weight of the batch in the running statistics, in [0, 1]; with None they are the mean of
        all batches'.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.
    affine : bool, default True
        Whether there are a weight and a bias.
    track_running_stats : bool, default True
        Whether there are running statistics. Without them evaluation uses the batch's, too.
    num_features : int, optional
        PyTorch's name of `dim`.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.BatchNorm3d(3)(ndl.ones(2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """

    _ndims, _wanted = (5,), "(N, dim, D, H, W)"
