"""Normalization: over the batch, over each sample, over groups and over neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ... import init, ops
from ...autograd import Tensor
from ...backend_ndarray import NDArray, promote
from ...ops._common import widens
from ..arguments import positive_int


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """`values` (C,) shaped so that they broadcast along axis 1 of `x`."""
    return values.reshape((values.size, *[1] * (x.ndim - 2)))


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x·weight + bias with a number for each channel (axis 1)."""
    x = x if weight is None else x * per_channel(weight, x)
    return x if bias is None else x + per_channel(bias, x)


def _rows_normalized(rows: Tensor, eps: float) -> Tensor:
    """Each row with mean 0 and variance 1."""
    length = rows.shape[-1]
    ones = init.ones(length, device=rows.device, dtype=rows.dtype)
    return ops.layer_norm(rows, ones, init.zeros_like(ones), eps)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of input (N, C, …) over all other axes.

    In training, and where there are no running statistics, those of the batch are used, and the
    running ones, if given, move towards them: (1 - momentum)·old + momentum·batch. Unlike PyTorch's
    the running variance is biased, as the course defines it. Raises ValueError for input of fewer
    than two axes, and in training for a single value a channel.
    """
    if input.ndim < 2:
        raise ValueError(f"[batch_norm] needs input (N, C, …), got shape {input.shape}")
    if not training and running_mean is not None and running_var is not None:
        deviation = ops.sqrt(per_channel(running_var, input) + eps)
        return scaled((input - per_channel(running_mean, input)) / deviation, weight, bias)
    order = (0, *range(2, input.ndim), 1)
    last = ops.permute(input, order)
    rows = last.reshape((prod(last.shape[:-1]), last.shape[-1]))
    if rows.shape[0] < 2:
        raise ValueError(
            f"[batch_norm] training needs at least 2 values a channel, got {rows.shape[0]}: one "
            "alone has no variance. Use a larger batch, or eval()"
        )
    channels = rows.shape[1]
    if weight is None:
        weight = init.ones(channels, device=input.device, dtype=input.dtype)
    if bias is None:
        bias = init.zeros(channels, device=input.device, dtype=input.dtype)
    dtype = promote(input.dtype, weight.dtype)
    y, mean, var = ops.batch_norm(rows.astype(dtype), weight.astype(dtype), bias.astype(dtype), eps)
    for running, value in ((running_mean, mean), (running_var, var)):
        if running is not None:
            move_towards(running, value, momentum)
    return ops.permute(y.reshape(last.shape), (0, input.ndim - 1, *range(1, input.ndim - 1)))


def move_towards(running: Tensor, value: NDArray, momentum: float) -> None:
    """Make `running` (1 - momentum)·running + momentum·value, outside of any graph."""
    moved = running.realize_cached_data() * (1 - momentum) + value * momentum
    running._replace_data(moved.astype(running.dtype))


@widens
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each sample of input (N, C, …) over the axes after the channels.

    With `use_input_stats=False` the running statistics are used as in `batch_norm`.
    """
    if input.ndim < 3:
        raise ValueError(f"[instance_norm] needs input (N, C, …), got shape {input.shape}")
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    n, channels, *rest = input.shape
    if prod(rest) < 2:
        raise ValueError(
            f"[instance_norm] needs at least 2 values a channel, got shape {input.shape}"
        )
    rows = input.reshape((n, channels, prod(rest)))
    if running_mean is not None and running_var is not None:
        data = rows.detach().realize_cached_data()
        mean = data.mean(2, keepdims=True)
        gap = data - mean
        move_towards(running_mean, mean.reshape((n, channels)).mean(0), momentum)
        move_towards(running_var, (gap * gap).mean(2).mean(0), momentum)
    return scaled(_rows_normalized(rows, eps).reshape(input.shape), weight, bias)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize over the last axes, which must be `normalized_shape`, then scale and shift."""
    axes = _last_axes("layer_norm", input, normalized_shape)
    rows = input.reshape((*input.shape[: input.ndim - len(axes)], prod(axes)))
    y = _rows_normalized(rows, eps).reshape(input.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide by the root mean square over the last axes, which must be `normalized_shape`.

    `eps` defaults to the machine epsilon of the dtype.
    """
    axes = _last_axes("rms_norm", input, normalized_shape)
    if eps is None:
        eps = 2.0**-52 if input.dtype == "float64" else 2.0**-23
    return _rms_norm(input, tuple(range(-len(axes), 0)), weight, eps)


@widens
def _rms_norm(x: Tensor, axes: tuple[int, ...], weight: Tensor | None, eps: float) -> Tensor:
    y = x * ops.rsqrt((x * x).mean(axes, keepdims=True) + eps)
    return y if weight is None else y * weight


def _last_axes(what: str, x: Tensor, shape: int | Sequence[int]) -> tuple[int, ...]:
    axes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not axes or x.shape[-len(axes) :] != axes:
        raise ValueError(f"[{what}] needs input whose last axes are {axes}, got shape {x.shape}")
    return axes


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each sample of input (N, C, …) over `num_groups` groups of channels."""
    groups = positive_int("group_norm", "num_groups", num_groups)
    if input.ndim < 2 or input.shape[1] % groups:
        raise ValueError(
            f"[group_norm] needs input (N, C, …) with C divisible by {groups}, got {input.shape}"
        )
    rows = input.reshape((input.shape[0] * groups, prod(input.shape[1:]) // groups))
    return scaled(_rows_normalized(rows, eps).reshape(input.shape), weight, bias)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha·mean(x² over `size` neighbouring channels))^beta (Krizhevsky et al., 2012)."""
    size = positive_int("local_response_norm", "size", size)
    if input.ndim < 3:
        raise ValueError(f"[local_response_norm] needs input (N, C, …), got shape {input.shape}")
    return _local_response_norm(input, size, alpha, beta, k)


@widens
def _local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    n, channels, *rest = x.shape
    squares = (x * x).reshape((n, channels, prod(rest)))
    squares = ops.pad(squares, ((0, 0), (size // 2, (size - 1) // 2), (0, 0)))
    total = squares[:, :channels]
    for i in range(1, size):
        total = total + squares[:, i : i + channels]
    return x / (k + total.reshape(x.shape) * (alpha / size)) ** beta
