"""2-d convolution and its two gradients, channels last.

The three convolutions are one bilinear map seen from its three arguments, so each one's gradients
are the other two: y = Conv(x, w), dx = ConvInputGrad(dy, w), dw = ConvWeightGrad(x, dy).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from ..autograd import Tensor, TensorOp, autocast_dtype
from ..backend_ndarray import NDArray, Shape, is_stored, promote, widened
from ..backend_ndarray.layout import whole, wholes
from ..typing import Extent, Padding
from ._shape import permute, squeeze, unsqueeze

Pair = tuple[int, int]

MOST = 2**31  # of lengths and of numbers in a geometry, for the kernels


class Geometry(NamedTuple):
    """How a kernel moves over an image: (height, width) pairs, and groups of channels."""

    stride: Pair
    padding: tuple[Pair, Pair]  # (before, after) of the height and of the width
    dilation: Pair
    groups: int

    def out_size(self, size: Sequence[int], kernel: Sequence[int]) -> Pair:
        """The number of positions along the height and the width; 0 or less where none fits."""
        height, width = (
            (size[i] + sum(self.padding[i]) - self.dilation[i] * (kernel[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return height, width

    def native(self) -> tuple[Pair, Pair, Pair, int]:
        """As the kernels take it."""
        before = self.padding[0][0], self.padding[1][0]
        return self.stride, self.dilation, before, self.groups

    def windows(
        self, out: Sequence[int], kernel: Sequence[int]
    ) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        """(i, j, index): the padded pixels (N, OH, OW, C) below each position of the kernel."""
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                starts = i * self.dilation[0], j * self.dilation[1]
                yield i, j, (slice(None), *(
                    slice(start, start + self.stride[k] * (out[k] - 1) + 1, self.stride[k])
                    for k, start in enumerate(starts)
                ))  # fmt: skip


class _Convolution(TensorOp):
    kernel: str

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        dtype = a._dtype
        if is_stored(dtype) and not a._device.takes_stored(self.kernel, dtype):
            a, b = a.astype(widened(dtype)), b.astype(widened(dtype))
        return self._convolved(a, b).astype(dtype)

    def _convolved(self, a: NDArray, b: NDArray) -> NDArray:
        raise NotImplementedError

    def _apply(self, a: NDArray, b: NDArray, out: NDArray) -> bool:
        """Run the device's kernel. False where it has none."""
        kernel = a._device.fused(self.kernel)
        if kernel is not None:
            kernel(a, b.compact(), out, *self.geometry.native())
        return kernel is not None

    def _by_group(self, x: NDArray) -> NDArray:
        """(…, groups·c) → (groups, rows, c)."""
        groups = self.geometry.groups
        return x.reshape((prod(x.shape[:-1]), groups, x.shape[-1] // groups)).permute((1, 0, 2))

    def _weights_by_group(self, w: NDArray) -> NDArray:
        """(c, groups·o) → (groups, c, o)."""
        groups = self.geometry.groups
        return w.reshape((w.shape[0], groups, w.shape[1] // groups)).permute((1, 0, 2))


class Conv(_Convolution):
    """x (N, H, W, C) * w (KH, KW, C / groups, O) → (N, OH, OW, O): a sum over the kernel's pixels.

    `Conv(stride, padding)` as the course has it, or `Conv(geometry)`.
    """

    kernel = "conv2d"

    def __init__(self, geometry: Geometry | int = 1, padding: Padding = 1) -> None:
        if not isinstance(geometry, Geometry):
            geometry = make_geometry("conv", geometry, padding)
        super().__init__(geometry)

    def _convolved(self, x: NDArray, w: NDArray) -> NDArray:
        size = self.geometry.out_size(x.shape[1:3], w.shape[:2])
        out = NDArray._empty((x.shape[0], *size, w.shape[3]), x._device, x._dtype)
        if self._apply(x, w, out):
            return out
        out.fill(0)
        padded = x.pad(((0, 0), *self.geometry.padding, (0, 0)))
        for i, j, window in self.geometry.windows(size, w.shape[:2]):
            pixels, weights = self._by_group(padded[window]), self._weights_by_group(w[i, j])
            out = out + (pixels @ weights).permute((1, 0, 2)).reshape(out.shape)
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        x, w = node.inputs
        return (
            ConvInputGrad(self.geometry, x.shape)(out_grad, w) if x.requires_grad else None,
            ConvWeightGrad(self.geometry, w.shape)(x, out_grad) if w.requires_grad else None,
        )


class ConvInputGrad(_Convolution):
    """g (N, OH, OW, O) spread by w over the image it came from, `shape`: convᵀ."""

    kernel = "conv2d_input_grad"

    def __init__(self, geometry: Geometry, shape: Shape) -> None:
        super().__init__(geometry)
        self.shape = shape

    def _convolved(self, g: NDArray, w: NDArray) -> NDArray:
        out = NDArray._empty(self.shape, g._device, g._dtype)
        if self._apply(g.compact(), w, out):
            return out
        n, height, width, channels = self.shape
        (top, bottom), (left, right) = self.geometry.padding
        padded = g.device.zeros((n, height + top + bottom, width + left + right, channels), g.dtype)
        rows = self._by_group(g)
        for i, j, window in self.geometry.windows(g.shape[1:3], w.shape[:2]):
            pixels = rows @ self._weights_by_group(w[i, j]).swapaxes(1, 2)
            there = padded[window]
            padded[window] = there + pixels.permute((1, 0, 2)).reshape(there.shape)
        return padded[:, top : top + height, left : left + width].compact()

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        g, w = node.inputs
        return (
            Conv(self.geometry)(out_grad, w) if g.requires_grad else None,
            ConvWeightGrad(self.geometry, w.shape)(out_grad, g) if w.requires_grad else None,
        )


class ConvWeightGrad(_Convolution):
    """Sums of x (N, H, W, C) times g (N, OH, OW, O) under each kernel position: shape (KH, …)."""

    kernel = "conv2d_weight_grad"

    def __init__(self, geometry: Geometry, shape: Shape) -> None:
        super().__init__(geometry)
        self.shape = shape

    def _convolved(self, x: NDArray, g: NDArray) -> NDArray:
        out = NDArray._empty(self.shape, x._device, x._dtype)
        if self._apply(x, g, out):
            return out
        padded = x.pad(((0, 0), *self.geometry.padding, (0, 0)))
        rows = self._by_group(g)
        for i, j, window in self.geometry.windows(g.shape[1:3], self.shape[:2]):
            sums = self._by_group(padded[window]).swapaxes(1, 2) @ rows
            out[i, j] = sums.permute((1, 0, 2)).reshape(self.shape[2:])
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor | None, ...]:
        x, g = node.inputs
        return (
            ConvInputGrad(self.geometry, x.shape)(g, out_grad) if x.requires_grad else None,
            Conv(self.geometry)(x, out_grad) if g.requires_grad else None,
        )


def conv(
    a: Tensor,
    b: Tensor,
    stride: Extent = 1,
    padding: Padding = 1,
    dilation: Extent = 1,
    groups: int = 1,
) -> Tensor:
    """2-d convolution of images in channels-last order.

    Parameters
    ----------
    a : Tensor, shape (N, H, W, C)
        The images.
    b : Tensor, shape (KH, KW, C / groups, O)
        The kernel.
    stride : int or (int, int), default 1
        The distance between two positions of the kernel; (height, width).
    padding : int, (int, int), ((int, int), (int, int)), "valid" or "same", default 1
        Zeros around the image: on all sides, (height, width), or ((top, bottom), (left, right)).
        "same" needs stride 1.
    dilation : int or (int, int), default 1
        The distance between two pixels of the kernel.
    groups : int, default 1
        The number of groups of channels that do not mix.

    Returns
    -------
    Tensor, shape (N, OH, OW, O)

    Raises
    ------
    ValueError
        If the shapes do not fit or the kernel exceeds the padded image.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.conv(ndl.ones(1, 4, 4, 3), ndl.ones(3, 3, 3, 8), padding=0).shape
    (1, 2, 2, 8)
    """
    a, b = _one_dtype(a, b)
    geometry = make_geometry("conv", stride, padding, dilation, groups, b.shape[:2])
    _check_shapes("conv", a, b, geometry.groups, b.shape[2] if b.ndim == 4 else 0, "b's axis 2")
    size = geometry.out_size(a.shape[1:3], b.shape[:2])
    if min(size) < 1:
        raise ValueError(
            f"[conv] the kernel {b.shape[:2]} with dilation {geometry.dilation} is larger than the "
            f"image {a.shape[1:3]} padded by {geometry.padding}"
        )
    return Conv(geometry)(a, b)


def conv_transpose(
    a: Tensor,
    b: Tensor,
    stride: Extent = 1,
    padding: Padding = 0,
    output_padding: Extent = 0,
    dilation: Extent = 1,
    groups: int = 1,
) -> Tensor:
    """Transposed 2-d convolution: the gradient of `conv` with respect to its image.

    Parameters
    ----------
    a : Tensor, shape (N, OH, OW, C)
        The images.
    b : Tensor, shape (KH, KW, O / groups, C)
        The kernel.
    stride : int or (int, int), default 1
        The distance between two positions of the kernel; (height, width).
    padding : int or (int, int), default 0
        How many pixels of each side of the result are cut off.
    output_padding : int or (int, int), default 0
        Rows and columns that are added at the end; below the stride.
    dilation : int or (int, int), default 1
        The distance between two pixels of the kernel.
    groups : int, default 1
        The number of groups of channels that do not mix.

    Returns
    -------
    Tensor, shape (N, H, W, O)
        H = (OH - 1)·stride - 2·padding + dilation·(KH - 1) + 1 + output_padding.

    Raises
    ------
    ValueError
        If the shapes do not fit, nothing is left of the image, or `output_padding` is too large.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.conv_transpose(ndl.ones(1, 4, 4, 8), ndl.ones(2, 2, 3, 8), stride=2).shape
    (1, 8, 8, 3)
    """
    a, b = _one_dtype(a, b)
    geometry = make_geometry("conv_transpose", stride, padding, dilation, groups)
    _check_shapes("conv_transpose", a, b, 1, b.shape[3] if b.ndim == 4 else 0, "b's axis 3")
    groups = geometry.groups
    if b.shape[3] % groups:
        raise ValueError(f"[conv_transpose] groups={groups} does not divide {b.shape[3]} channels")
    extra = as_pair("conv_transpose", "output_padding", output_padding, least=0)
    height, width = (
        (a.shape[1 + i] - 1) * geometry.stride[i] - sum(geometry.padding[i])
        + geometry.dilation[i] * (b.shape[i] - 1) + 1 + extra[i]
        for i in (0, 1)
    )  # fmt: skip
    if height < 1 or width < 1 or any(e >= s for e, s in zip(extra, geometry.stride, strict=True)):
        raise ValueError(
            f"[conv_transpose] padding {geometry.padding} leaves nothing of the image, or "
            f"output_padding {extra} is not below the stride {geometry.stride}"
        )
    shape = (a.shape[0], height, width, b.shape[2] * groups)
    return ConvInputGrad(geometry, shape)(a, b)


def conv1d(
    a: Tensor,
    b: Tensor,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """1-d convolution of sequences in channels-last order.

    Parameters
    ----------
    a : Tensor, shape (N, L, C)
        The sequences.
    b : Tensor, shape (K, C / groups, O)
        The kernel.
    stride : int, default 1
        The distance between two positions of the kernel.
    padding : int, "valid" or "same", default 0
        Zeros at both ends.
    dilation : int, default 1
        The distance between two elements of the kernel.
    groups : int, default 1
        The number of groups of channels that do not mix.

    Returns
    -------
    Tensor, shape (N, L', O)

    Raises
    ------
    ValueError
        If the shapes do not fit or the kernel exceeds the padded sequence.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.conv1d(ndl.ones(1, 5, 3), ndl.ones(3, 3, 8)).shape
    (1, 3, 8)
    """
    if a.ndim != 3 or b.ndim != 3:
        raise ValueError(f"[conv1d] needs (N, L, C) and (K, C, O), got {a.shape} and {b.shape}")
    around: Padding = padding if isinstance(padding, str) else (0, padding)
    y = conv(unsqueeze(a, 1), unsqueeze(b, 0), (1, stride), around, (1, dilation), groups)
    return squeeze(y, 1)


# ---- arguments --------------------------------------------------------------------------------


def as_pair(what: str, name: str, value: object, least: int = 1) -> Pair:
    """An int or two ints, each from `least` to MOST. Raises TypeError or ValueError."""
    pair = wholes(value, what, name)
    pair = pair * 2 if not isinstance(value, (tuple, list)) and len(pair) == 1 else pair
    if len(pair) != 2:
        raise TypeError(f"[{what}] {name} must be an int or two ints, got {value!r}")
    if not least <= min(pair) <= max(pair) <= MOST:
        raise ValueError(f"[{what}] {name} must be ints of {least} … 2^31, got {value!r}")
    return pair[0], pair[1]


def make_geometry(
    what: str,
    stride: Extent = 1,
    padding: Padding = 0,
    dilation: Extent = 1,
    groups: int = 1,
    kernel: Sequence[int] = (1, 1),
) -> Geometry:
    """The checked geometry of a convolution; see `conv` for the forms of its arguments."""
    strides, spread = as_pair(what, "stride", stride), as_pair(what, "dilation", dilation)
    groups = whole(groups, what, "groups")
    if groups < 1:
        raise ValueError(f"[{what}] groups must be an int of at least 1, got {groups!r}")
    if isinstance(padding, str) and padding == "same":
        if strides != (1, 1):
            raise ValueError(f'[{what}] padding="same" needs stride 1, got {stride}')
        reach = [spread[i] * (kernel[i] - 1) for i in (0, 1)]
        around = (
            (reach[0] // 2, reach[0] - reach[0] // 2),
            (reach[1] // 2, reach[1] - reach[1] // 2),
        )
    elif isinstance(padding, str) and padding == "valid":
        around = (0, 0), (0, 0)
    elif isinstance(padding, (tuple, list)) and all(isinstance(p, (tuple, list)) for p in padding):
        around = tuple(as_pair(what, "padding", p, least=0) for p in padding)  # type: ignore[assignment]
    elif isinstance(padding, str):
        raise ValueError(f'[{what}] padding must be "same", "valid" or ints, got {padding!r}')
    else:
        height, width = as_pair(what, "padding", padding, least=0)
        around = (height, height), (width, width)
    return Geometry(strides, around, spread, groups)


def _check_shapes(what: str, a: Tensor, b: Tensor, groups: int, channels: int, where: str) -> None:
    if a.ndim != 4 or b.ndim != 4:
        raise ValueError(
            f"[{what}] needs an image (N, H, W, C) and a kernel of 4 axes, got shapes {a.shape} "
            f"and {b.shape}"
        )
    if a.shape[3] != channels * groups or (what == "conv" and b.shape[3] % groups):
        raise ValueError(
            f"[{what}] {a.shape[3]} channels in shape {a.shape} do not fit {where} in {b.shape} "
            f"with groups={groups}"
        )
    if not prod(b.shape[:3]):
        raise ValueError(f"[{what}] the kernel of shape {b.shape} must not be empty")
    if max(*a.shape, *b.shape) > MOST:
        raise ValueError(f"[{what}] shapes {a.shape} and {b.shape} must not be longer than 2^31")


def _one_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if autocast_dtype() is not None:  # the op itself casts both
        return a, b
    dtype = promote(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def channels_last(x: Tensor) -> Tensor:
    """View of images with the channels as the last axis.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
        The images.

    Returns
    -------
    Tensor, shape (N, H, W, C)

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.channels_last(ndl.ones(1, 3, 4, 5)).shape
    (1, 4, 5, 3)
    """
    return permute(x, (0, 2, 3, 1))


def channels_first(x: Tensor) -> Tensor:
    """View of images with the channels as axis 1.

    Parameters
    ----------
    x : Tensor, shape (N, H, W, C)
        The images.

    Returns
    -------
    Tensor, shape (N, C, H, W)

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.channels_first(ndl.ones(1, 4, 5, 3)).shape
    (1, 3, 4, 5)
    """
    return permute(x, (0, 3, 1, 2))


__all__ = [
    "Conv", "ConvInputGrad", "ConvWeightGrad", "Geometry", "channels_first", "channels_last",
    "conv", "conv1d", "conv_transpose",
]  # fmt: skip
