"""Maxima and where they are: below kernels, over bins, over random windows; and back from them.

A window is a list of indices into the flat image. A table of all windows says which numbers to
gather, and the first largest of each is the maximum, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal, Protocol, overload

import numpy as np

from ... import init, ops
from ...autograd import Tensor, TensorOp, no_grad
from ...backend_ndarray import NDArray
from ...typing import Extent, Shape
from ..arguments import SPATIAL_AXES, positive_int
from ._pooling import OutputSize, Pooling, adaptive_sizes, each, pooled_below, pooled_bins
from ._single import takes_single

Pooled = Tensor | tuple[Tensor, Tensor]
IndexArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def _largest(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """(maxima, indices) of x (N, C, …) over windows of a table (N or 1, C or 1, *out, K)."""
    n, channels = x.shape[:2]
    *out, length = table.shape[2:]
    flat = x.reshape((n, channels, prod(x.shape[2:])))
    cells = ops.broadcast_to(table, (n, channels, *out, length))
    cells = cells.reshape((n, channels, prod(out) * length))
    below = ops.take_along_dim(flat.detach(), cells, 2).reshape((n, channels, prod(out), length))
    first = ops.unsqueeze(ops.argmax(below, 3), 3)
    cells = cells.reshape((n, channels, prod(out), length))
    places = ops.take_along_dim(cells, first, 3).reshape((n, channels, prod(out)))
    maxima = ops.take_along_dim(flat, places, 2)
    return maxima.reshape((n, channels, *out)), places.reshape((n, channels, *out))


def _table(windows: Sequence[IndexArray], size: Shape, like: Tensor) -> Tensor:
    """The table of windows whose places along each axis are given as arrays (out, K).

    Places outside of an axis are replaced by the window's nearest one inside, which is in the
    window, too.
    """
    axes = len(size)
    flat: IndexArray = np.zeros((1,) * (2 * axes), np.int64)
    for i, (places, n) in enumerate(zip(windows, size, strict=True)):
        inside = (places >= 0) & (places < n)
        first = np.where(inside.any(1), inside.argmax(1), 0)
        known = places[np.arange(len(places)), first][:, None]
        places = np.where(inside, places, np.clip(known, 0, n - 1))
        shape = [1] * (2 * axes)
        shape[i], shape[axes + i] = places.shape
        flat = flat * n + places.reshape(shape)
    out = flat.shape[:axes]
    table = flat.reshape((1, 1, *out, -1))
    return Tensor(table, device=like.device, dtype="int64", requires_grad=False)


# ---- below a kernel -----------------------------------------------------------------------------


class _MaxPool(Protocol):
    """The type of max pooling: whether there are indices follows from `return_indices`."""

    @overload
    def __call__(
        self, input: Tensor, kernel_size: Extent, stride: Extent | None = None,
        padding: Extent = 0, dilation: Extent = 1, ceil_mode: bool = False,
        return_indices: Literal[False] = False,
    ) -> Tensor: ...  # fmt: skip

    @overload
    def __call__(
        self, input: Tensor, kernel_size: Extent, stride: Extent | None = None,
        padding: Extent = 0, dilation: Extent = 1, ceil_mode: bool = False, *,
        return_indices: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def _typed(function: Callable[..., Any]) -> _MaxPool:
    return function


def _max_pool(
    axes: int, x: Tensor, kernel_size: Extent, stride: Extent | None, padding: Extent,
    dilation: Extent, ceil_mode: bool, return_indices: bool,
) -> Pooled:  # fmt: skip
    geometry = Pooling(
        f"max_pool{axes}d", x, axes, kernel_size, stride, padding, dilation, ceil_mode
    )
    if not return_indices:
        return pooled_below(geometry, x)
    windows = [
        np.add.outer(
            np.arange(geometry.out[i]) * geometry.stride[i] - geometry.padding[i],
            np.arange(geometry.kernel[i]) * geometry.dilation[i],
        )
        for i in range(axes)
    ]
    return _largest(x, _table(windows, geometry.size, x))


@takes_single(1)
@_typed
def max_pool1d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum below a kernel that moves over sequences (N, C, L); see `max_pool2d`."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@takes_single(2)
@_typed
def max_pool2d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum below a kernel that moves over images (N, C, H, W).

    `stride` defaults to `kernel_size`; padding never is the maximum. With `ceil_mode` the last
    position may reach beyond the image. With `return_indices` the result is (maxima, indices into
    the flat images), and the first of equal maxima has the gradient; otherwise they share it.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@takes_single(3)
@_typed
def max_pool3d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum below a kernel that moves over volumes (N, C, D, H, W); see `max_pool2d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


# ---- over bins ----------------------------------------------------------------------------------


def _adaptive_max_pool(
    axes: int, x: Tensor, output_size: OutputSize, return_indices: bool
) -> Pooled:
    sizes = adaptive_sizes(axes, x, output_size)
    if not return_indices:
        return pooled_bins(axes, x, sizes)
    windows = []
    for n, m in zip(x.shape[2:], sizes, strict=True):
        start, end = np.arange(m) * n // m, -(-(np.arange(m) + 1) * n // m)
        offsets = np.arange((end - start).max())
        windows.append(np.minimum(start[:, None] + offsets, end[:, None] - 1))
    return _largest(x, _table(windows, x.shape[2:], x))


@takes_single(1)
def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Pooled:
    """The maximum over `output_size` bins of sequences (N, C, L); see `adaptive_max_pool2d`."""
    return _adaptive_max_pool(1, input, output_size, return_indices)


@takes_single(2)
def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Pooled:
    """The maximum over bins of images (N, C, H, W); None in `output_size` keeps the length.

    With `return_indices` the result is (maxima, indices into the flat images).
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


@takes_single(3)
def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Pooled:
    """The maximum over bins of volumes (N, C, D, H, W); see `adaptive_max_pool2d`."""
    return _adaptive_max_pool(3, input, output_size, return_indices)


# ---- over random windows ------------------------------------------------------------------------


def _fractional_max_pool(
    axes: int, x: Tensor, kernel_size: Extent, output_size: Extent | None,
    output_ratio: float | Sequence[float] | None, return_indices: bool, samples: Tensor | None,
) -> Pooled:  # fmt: skip
    """Windows begin at ⌊(i + u)·α⌋ - ⌊u·α⌋ for a random u; the last one ends with the image.

    B. Graham, "Fractional Max-Pooling", 2014.
    """
    what = f"fractional_max_pool{axes}d"
    if x.ndim != axes + 2:
        raise ValueError(f"[{what}] needs input (N, C, …) of {axes} more axes, got {x.shape}")
    kernel = each(what, "kernel_size", kernel_size, axes)
    out = fractional_sizes(what, x.shape[2:], output_size, output_ratio)
    for n, k, m in zip(x.shape[2:], kernel, out, strict=True):
        if m < 1 or m + k - 1 > n:
            raise ValueError(f"[{what}] {m} windows of {k} do not fit into {n} places")
    n, channels, *size = x.shape
    if samples is None:
        samples = init.rand(n, channels, axes, device=x.device, dtype=x.dtype, requires_grad=False)
    elif samples.shape != (n, channels, axes):
        raise ValueError(
            f"[{what}] _random_samples must be {(n, channels, axes)}, got {samples.shape}"
        )
    flat = None
    for i in range(axes):
        # PyTorch takes the first number of two for the width, of three for the depth.
        u = samples[:, :, 1 - i if axes == 2 else i].reshape((n, channels, 1))
        places = _starts(u, size[i], kernel[i], out[i]).reshape((n, channels, out[i], 1))
        offsets = np.arange(kernel[i]).reshape((1, 1, 1, -1))
        places = places + Tensor(offsets, device=x.device, dtype="int64", requires_grad=False)
        shape = [n, channels, *(1,) * (2 * axes)]
        shape[2 + i], shape[2 + axes + i] = out[i], kernel[i]
        places = places.reshape(tuple(shape))
        flat = places if flat is None else flat * size[i] + places
    assert flat is not None
    maxima, indices = _largest(x, flat.reshape((n, channels, *out, prod(kernel))))
    return (maxima, indices) if return_indices else maxima


def _starts(u: Tensor, size: int, kernel: int, out: int) -> Tensor:
    """Where `out` windows begin, (N, C, out), for random numbers u (N, C, 1)."""
    last = ops.broadcast_to(ops.to(u.detach() * 0, "int64") + (size - kernel), u.shape)
    if out == 1:
        return last
    alpha = (size - kernel) / (out - 1)
    steps = Tensor(np.arange(out - 1), device=u.device, dtype=u.dtype, requires_grad=False)
    begin = ops.to((steps + u) * alpha, "int64") - ops.to(u * alpha, "int64")
    return ops.concatenate([begin, last], 2)


def fractional_sizes(
    what: str, size: Sequence[int], output_size: Extent | None,
    output_ratio: float | Sequence[float] | None,
) -> Shape:  # fmt: skip
    """The numbers of windows. Raises ValueError unless one of the two is given."""
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"[{what}] needs output_size or output_ratio, and not both")
    if output_size is not None:
        return each(what, "output_size", output_size, len(size))
    ratios: list[float] = (
        [output_ratio] * len(size) if isinstance(output_ratio, float) else list(output_ratio or ())
    )
    if len(ratios) != len(size) or not all(0 < ratio < 1 for ratio in ratios):
        raise ValueError(f"[{what}] output_ratio must lie between 0 and 1, got {output_ratio}")
    return tuple(int(n * ratio) for n, ratio in zip(size, ratios, strict=True))


@takes_single(2)
def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pooled:
    """The maximum over windows at random places of images (N, C, H, W).

    There are `output_size` windows, or `output_ratio` times the image's size. Each image and
    channel has places of its own, which follow from two numbers of `_random_samples` (N, C, 2).
    """
    return _fractional_max_pool(
        2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples
    )


@takes_single(3)
def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pooled:
    """The maximum over windows at random places of volumes; see `fractional_max_pool2d`."""
    return _fractional_max_pool(
        3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples
    )


# ---- back ---------------------------------------------------------------------------------------


class _PutBack(TensorOp):
    """Elements (N, C, n) at their indices in (N, C, length), zeros elsewhere.

    Where kernels overlap, elements with one index are one maximum: it is written, not added up, and
    each of them gets the gradient of its place.
    """

    saves_values = False

    def __init__(self, indices: Tensor, length: int) -> None:
        self.indices, self.length = indices, length

    def compute(self, a: NDArray) -> NDArray:
        empty = Tensor.make_const(a.device.zeros((*a.shape[:2], self.length), a.dtype))
        with no_grad():
            written = ops.scatter(empty, 2, self.indices, Tensor.make_const(a))
        return written.realize_cached_data()

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return ops.gather(out_grad, 2, self.indices)


def _max_unpool(
    axes: int, x: Tensor, indices: Tensor, kernel_size: Extent, stride: Extent | None,
    padding: Extent, output_size: Sequence[int] | None,
) -> Tensor:  # fmt: skip
    what = f"max_unpool{axes}d"
    kernel = each(what, "kernel_size", kernel_size, axes)
    step = kernel if stride is None else each(what, "stride", stride, axes)
    around = each(what, "padding", padding, axes, least=0)
    if x.ndim != axes + 2 or indices.shape != x.shape:
        wanted = SPATIAL_AXES[axes - 1]
        raise ValueError(
            f"[{what}] needs input (N, C, {wanted}) and indices alike, got {x.shape} and "
            f"{indices.shape}"
        )
    n, channels, *size = x.shape
    if output_size is None:
        geometry = zip(size, step, around, kernel, strict=True)
        target = tuple((m - 1) * s - 2 * p + k for m, s, p, k in geometry)
    else:
        target = tuple(positive_int(what, "output_size", m) for m in tuple(output_size)[-axes:])
    flat = n, channels, prod(size)
    spread = _PutBack(indices.reshape(flat), prod(target))(x.reshape(flat))
    return spread.reshape((n, channels, *target))


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Maxima of sequences put back at their `indices`; see `max_unpool2d`."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Maxima put back at their `indices`, zeros elsewhere: the partial inverse of `max_pool2d`.

    Where kernels overlap, elements with one index are one maximum, and it is written once.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Maxima of volumes put back at their `indices`; see `max_unpool2d`."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
