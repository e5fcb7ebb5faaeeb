"""Pooling of (N, C, …) tensors below a moving kernel and over a given number of bins.

Pooling over three axes is pooling over the last two and then over the first: the maximum of maxima,
and the sum of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray import is_float
from ...backend_ndarray.layout import wholes
from ...ops._pooling import _lowest
from ...typing import Extent, HostArray, Shape
from ..arguments import SPATIAL_AXES, positive_int
from ._padding import pad
from ._single import takes_single

# Windows move over channels-last images here.
_max_pool_nhwc = partial(ops.max_pool2d, layout="NHWC")
_avg_pool_nhwc = partial(ops.avg_pool2d, layout="NHWC")


def each(what: str, name: str, value: Extent, axes: int, least: int = 1) -> Shape:
    """An int for each of `axes` axes. Raises TypeError or ValueError."""
    numbers = tuple(wholes(value, what, name))
    if not isinstance(value, (tuple, list)) or len(numbers) == 1:
        numbers = numbers * axes
    if len(numbers) != axes:
        raise ValueError(f"[{what}] {name} must be an int or {axes} ints, got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"[{what}] {name} must be at least {least}, got {value!r}")
    return numbers


class Pooling:
    """The checked geometry of a kernel on an image whose axes are given."""

    def __init__(
        self, what: str, x: Tensor, axes: int, kernel_size: Extent, stride: Extent | None,
        padding: Extent, dilation: Extent, ceil_mode: bool,
    ) -> None:  # fmt: skip
        if x.ndim != axes + 2:
            wanted = SPATIAL_AXES[axes - 1]
            raise ValueError(f"[{what}] needs input (N, C, {wanted}), got shape {x.shape}")
        self.kernel = each(what, "kernel_size", kernel_size, axes)
        self.stride = self.kernel if stride is None else each(what, "stride", stride, axes)
        self.padding = each(what, "padding", padding, axes, least=0)
        self.dilation = each(what, "dilation", dilation, axes)
        self.size = x.shape[2:]
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(
                f"[{what}] padding {self.padding} exceeds half of the kernel {self.kernel}"
            )
        self.out = tuple(self._positions(i, ceil_mode) for i in range(axes))
        if min(self.out) < 1:
            raise ValueError(
                f"[{what}] the kernel {self.kernel} with dilation {self.dilation} is larger than "
                f"the image {self.size} padded by {self.padding}"
            )
        # With ceil_mode the last position may reach beyond the padding.
        self.beyond = tuple(
            max(0, (out - 1) * self.stride[i] + self._reach(i) - self._padded(i))
            for i, out in enumerate(self.out)
        )

    def _reach(self, i: int) -> int:
        return self.dilation[i] * (self.kernel[i] - 1) + 1

    def _padded(self, i: int) -> int:
        return self.size[i] + 2 * self.padding[i]

    def _positions(self, i: int, ceil_mode: bool) -> int:
        room = self._padded(i) - self._reach(i)
        if room < 0:
            return 0
        if not ceil_mode:
            return room // self.stride[i] + 1
        number = -(-room // self.stride[i]) + 1
        # A position that starts in the padding after the image would see nothing of it.
        starts = (number - 1) * self.stride[i]
        return number - (starts >= self.size[i] + self.padding[i])

    def counts(self, i: int, include_pad: bool) -> HostArray:
        """How many places along axis i count below the kernel at each position."""
        start = np.arange(self.out[i]) * self.stride[i] - self.padding[i]
        end = np.minimum(start + self.kernel[i], self.size[i] + self.padding[i])
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, self.size[i])
        return end - start

    def extended(self, x: Tensor, value: float) -> Tensor:
        """`x` with what the last positions reach beyond the padding."""
        if not any(self.beyond):
            return x
        return pad(x, [n for extra in reversed(self.beyond) for n in (0, extra)], value=value)

    def apply(self, pool: Callable[..., Tensor], x: Tensor) -> Tensor:
        """A pooling of (N, H, W, C) images applied along all axes."""
        n, channels, *size = x.shape
        if len(size) == 1:
            x = _flat(pool, x.reshape((n, channels, 1, *size)), *self._pairs(None, 0))
        elif len(size) == 2:
            x = _flat(pool, x, *self._pairs(0, 1))
        else:
            x = _flat(pool, x.reshape((n, channels * size[0], *size[1:])), *self._pairs(1, 2))
            x = x.reshape((n, channels, size[0], prod(x.shape[2:])))
            x = _flat(pool, x, *self._pairs(0, None))
        return x.reshape((n, channels, *self.out))

    def _pairs(self, rows: int | None, columns: int | None) -> tuple[tuple[int, ...], ...]:
        """Kernel, stride, padding and dilation along two of the axes; None has length 1."""
        return tuple(
            tuple(neutral if i is None else values[i] for i in (rows, columns))
            for values, neutral in (
                (self.kernel, 1), (self.stride, 1), (self.padding, 0), (self.dilation, 1)
            )
        )  # fmt: skip


def _flat(pool: Callable[..., Tensor], x: Tensor, *geometry: tuple[int, ...]) -> Tensor:
    return ops.channels_first(pool(ops.channels_last(x), *geometry))


def pooled_below(geometry: Pooling, x: Tensor) -> Tensor:
    """The maximum below the kernel."""
    return geometry.apply(_max_pool_nhwc, geometry.extended(x, _lowest(x.dtype)))


# ---- mean -----------------------------------------------------------------------------------


def _avg_pool(
    axes: int, x: Tensor, kernel_size: Extent, stride: Extent | None, padding: Extent,
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    what = f"avg_pool{axes}d"
    geometry = Pooling(what, x, axes, kernel_size, stride, padding, 1, ceil_mode)
    if not is_float(x.dtype):
        raise TypeError(f"[{what}] needs a floating-point dtype, got {x.dtype}")
    means = geometry.apply(_avg_pool_nhwc, geometry.extended(x, 0.0))
    size = prod(geometry.kernel)
    if divisor_override is not None:
        return means * (size / positive_int(what, "divisor_override", divisor_override))
    if (count_include_pad or not any(geometry.padding)) and not any(geometry.beyond):
        return means
    counts = np.ones(())
    for i in range(axes):
        counts = np.multiply.outer(counts, geometry.counts(i, count_include_pad))
    return means * Tensor(size / counts, device=x.device, dtype=x.dtype, requires_grad=False)


@takes_single(1)
def avg_pool1d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean below a kernel that moves over sequences (N, C, L); see `avg_pool2d`."""
    return _avg_pool(
        1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@takes_single(2)
def avg_pool2d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean below a kernel that moves over images (N, C, H, W).

    `stride` defaults to `kernel_size`. Padding counts as zeros, or with `count_include_pad=False`
    not at all. `divisor_override` divides the sums instead of the number of pixels.
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@takes_single(3)
def avg_pool3d(
    input: Tensor,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean below a kernel that moves over volumes (N, C, D, H, W); see `avg_pool2d`."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(
    axes: int, x: Tensor, norm_type: float, kernel_size: Extent, stride: Extent | None,
    ceil_mode: bool,
) -> Tensor:  # fmt: skip
    if not norm_type > 0:
        raise ValueError(f"[lp_pool{axes}d] norm_type must be positive, got {norm_type}")
    size = prod(each(f"lp_pool{axes}d", "kernel_size", kernel_size, axes))
    powers = x**norm_type
    means = _avg_pool(axes, powers, kernel_size, stride, 0, ceil_mode, True, None)
    return (ops.relu(means) * size) ** (1 / norm_type)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ xᵖ)^(1/p) below a kernel that moves over sequences (N, C, L), for p = `norm_type`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ xᵖ)^(1/p) below a kernel that moves over images (N, C, H, W), for p = `norm_type`."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Σ xᵖ)^(1/p) below a kernel that moves over volumes (N, C, D, H, W), for p = `norm_type`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# ---- bins -----------------------------------------------------------------------------------

OutputSize = int | None | tuple[int | None, ...]


def adaptive_sizes(axes: int, x: Tensor, output_size: OutputSize) -> list[int]:
    """The numbers of bins. Raises TypeError or ValueError."""
    what = f"adaptive pooling of {axes} axes"
    if x.ndim != axes + 2 or 0 in x.shape[2:]:
        raise ValueError(f"[{what}] needs input (N, C, …) with pixels, got shape {x.shape}")
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    if len(given) != axes:
        raise ValueError(f"[{what}] output_size must be an int or {axes} ints, got {output_size}")
    return [
        n if m is None else positive_int(what, "output_size", m)
        for n, m in zip(x.shape[2:], given, strict=True)
    ]


def pooled_bins(axes: int, x: Tensor, sizes: list[int], mean: bool = False) -> Tensor:
    """The maximum or the mean over bins.

    Bin i of m along n pixels covers ⌊i·n/m⌋ … ⌈(i + 1)·n/m⌉ - 1.
    """
    reduce: Callable[..., Tensor] = ops.mean if mean else ops.amax
    if all(m == 1 for m in sizes):
        return reduce(x, tuple(range(2, x.ndim)), keepdims=True)
    if axes == 2 and all(n % m == 0 for n, m in zip(x.shape[2:], sizes, strict=True)):
        kernel = tuple(n // m for n, m in zip(x.shape[2:], sizes, strict=True))
        return _flat(_avg_pool_nhwc if mean else _max_pool_nhwc, x, kernel)
    for i, m in enumerate(sizes):
        x = _reduce_bins(reduce, x, 2 + i, m)
    return x


def _reduce_bins(reduce: Callable[..., Tensor], x: Tensor, axis: int, m: int) -> Tensor:
    n = x.shape[axis]
    if n == m:
        return x
    if n % m == 0:
        return reduce(x.reshape((*x.shape[:axis], m, n // m, *x.shape[axis + 1 :])), axis + 1)
    bins = (slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m))
    before = (slice(None),) * axis
    return ops.stack([reduce(x[(*before, cells)], axis) for cells in bins], axis)


@takes_single(1)
def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean over `output_size` bins of sequences (N, C, L)."""
    return pooled_bins(1, input, adaptive_sizes(1, input, output_size), mean=True)


@takes_single(2)
def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean over bins of images (N, C, H, W); None in `output_size` keeps the length."""
    return pooled_bins(2, input, adaptive_sizes(2, input, output_size), mean=True)


@takes_single(3)
def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The mean over bins of volumes (N, C, D, H, W); None in `output_size` keeps the length."""
    return pooled_bins(3, input, adaptive_sizes(3, input, output_size), mean=True)
