"""Padding, and rearrangements of pixels and windows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray.layout import wholes
from ...ops._convolution import as_pair
from ...typing import Extent
from ..arguments import one_of, positive_int

MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad the last axes: `pad` holds (before, after) of the last axis, then of the one before it.

    Parameters
    ----------
    input : Tensor
    pad : sequence of int
        An even number of lengths. Negative ones cut off, in mode "constant".
    mode : {"constant", "reflect", "replicate", "circular"}
        What comes in: `value`, the mirror image without the edge, the edge, the other end.
    value : number
        For mode "constant".

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `pad` does not fit the axes, or exceeds what the mode can fill.
    """
    lengths = wholes(list(pad), "pad", "pad")
    if len(lengths) % 2 or len(lengths) > 2 * input.ndim:
        raise ValueError(
            f"[pad] pad must hold two lengths for each of up to {input.ndim} axes, got {lengths}"
        )
    one_of("pad", "mode", mode, MODES)
    pairs = [(lengths[i], lengths[i + 1]) for i in range(0, len(lengths), 2)]
    if mode == "constant":
        return _pad_constant(input, pairs, value)
    for i, (before, after) in enumerate(pairs):
        if before or after:
            input = _pad_axis(input, input.ndim - 1 - i, before, after, mode)
    return input


def _pad_constant(x: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    around = [*[(0, 0)] * (x.ndim - len(pairs)), *reversed(pairs)]
    if any(min(pair) < 0 for pair in around):
        x = x[tuple(
            slice(max(-before, 0), n - max(-after, 0))
            for n, (before, after) in zip(x.shape, around, strict=True)
        )]  # fmt: skip
    if not any(max(pair) > 0 for pair in around):
        return x
    return ops.pad(x, [(max(before, 0), max(after, 0)) for before, after in around], value)


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """`x` with the slices before and after it along `axis` that the mode gives."""
    n = x.shape[axis]
    most = {"reflect": n - 1, "circular": n, "replicate": max(before, after) if n else 0}[mode]
    if not 0 <= min(before, after) <= max(before, after) <= most:
        raise ValueError(
            f"[pad] mode {mode!r} can pad an axis of length {n} by 0 … {most}, got "
            f"{(before, after)}"
        )

    def part(start: int, stop: int) -> Tensor:
        return x[(*[slice(None)] * axis, slice(start, stop))]

    def repeated(start: int, times: int) -> Tensor:
        edge = part(start, start + 1)
        return ops.broadcast_to(edge, (*x.shape[:axis], times, *x.shape[axis + 1 :]))

    if mode == "reflect":
        first = ops.flip(part(1, before + 1), (axis,))
        last = ops.flip(part(n - 1 - after, n - 1), (axis,))
    elif mode == "circular":
        first, last = part(n - before, n), part(0, after)
    else:
        first, last = repeated(0, before), repeated(n - 1, after)
    parts = [first] * (before > 0) + [x] + [last] * (after > 0)
    return ops.concatenate(parts, axis)


# ---- pixels and channels --------------------------------------------------------------------


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(…, C·r², H, W) → (…, C, H·r, W·r): channels become pixels (Shi et al., 2016)."""
    r = positive_int("pixel_shuffle", "upscale_factor", upscale_factor)
    _check_image("pixel_shuffle", input, 3)
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise ValueError(f"[pixel_shuffle] {r}² does not divide {channels} channels")
    x = input.reshape((*lead, channels // (r * r), r, r, height, width))
    k = len(lead)
    x = ops.permute(x, (*range(k + 1), k + 3, k + 1, k + 4, k + 2))
    return x.reshape((*lead, channels // (r * r), height * r, width * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(…, C, H·r, W·r) → (…, C·r², H, W): the inverse of `pixel_shuffle`."""
    r = positive_int("pixel_unshuffle", "downscale_factor", downscale_factor)
    _check_image("pixel_unshuffle", input, 3)
    *lead, channels, height, width = input.shape
    if height % r or width % r:
        raise ValueError(f"[pixel_unshuffle] {r} does not divide the image {(height, width)}")
    x = input.reshape((*lead, channels, height // r, r, width // r, r))
    k = len(lead)
    x = ops.permute(x, (*range(k + 1), k + 2, k + 4, k + 1, k + 3))
    return x.reshape((*lead, channels * r * r, height // r, width // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, …) with the channels of `groups` groups interleaved (Zhang et al., 2018)."""
    groups = positive_int("channel_shuffle", "groups", groups)
    _check_image("channel_shuffle", input, 3)
    n, channels, *rest = input.shape
    if channels % groups:
        raise ValueError(f"[channel_shuffle] {groups} groups do not divide {channels} channels")
    x = input.reshape((n, groups, channels // groups, *rest))
    return ops.permute(x, (0, 2, 1, *range(3, x.ndim))).reshape(input.shape)


def _check_image(what: str, x: Tensor, least: int) -> None:
    if x.ndim < least:
        raise ValueError(f"[{what}] needs at least {least} axes, got shape {x.shape}")


# ---- windows --------------------------------------------------------------------------------


def unfold(
    input: Tensor,
    kernel_size: Extent,
    dilation: Extent = 1,
    padding: Extent = 0,
    stride: Extent = 1,
) -> Tensor:
    """The windows below a kernel as columns: (N, C, H, W) → (N, C·KH·KW, number of windows).

    One image may be without the axis N.
    """
    if input.ndim == 3:
        return ops.squeeze(unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride), 0)
    if input.ndim != 4:
        raise ValueError(f"[unfold] needs images (N, C, H, W), got shape {input.shape}")
    rows, columns = as_pair("unfold", "padding", padding, least=0)
    x = pad(input, (columns, columns, rows, rows))
    below = ops.windows(x, kernel_size, stride, 0, dilation, (2, 3))  # (N, C, OH, OW, KH, KW)
    n, channels, height, width, *kernel = below.shape
    below = ops.permute(below, (0, 1, 4, 5, 2, 3))
    return below.reshape((n, channels * prod(kernel), height * width))


def fold(
    input: Tensor,
    output_size: Extent,
    kernel_size: Extent,
    dilation: Extent = 1,
    padding: Extent = 0,
    stride: Extent = 1,
) -> Tensor:
    """Columns added onto the places that `unfold` takes them from: (N, C·KH·KW, L) → (N, C, H, W).

    One image may be without the axis N. Raises ValueError if the number of columns or their length
    does not fit.
    """
    if input.ndim == 2:
        one = fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride)
        return ops.squeeze(one, 0)
    height, width = as_pair("fold", "output_size", output_size)
    kernel = as_pair("fold", "kernel_size", kernel_size)
    rows, columns = as_pair("fold", "padding", padding, least=0)
    window = ops.Window(
        kernel, as_pair("fold", "stride", stride), as_pair("fold", "dilation", dilation), (0, 0)
    )
    padded = height + 2 * rows, width + 2 * columns
    out = window.out_size(padded)
    if input.ndim != 3 or input.shape[1] % prod(kernel) or input.shape[2] != prod(out):
        raise ValueError(
            f"[fold] needs input (N, C·{prod(kernel)}, {prod(out)}), got shape {input.shape}"
        )
    n, channels = input.shape[0], input.shape[1] // prod(kernel)
    below = ops.permute(input.reshape((n, channels, *kernel, *out)), (0, 1, 4, 5, 2, 3))
    image = ops.Fold(ops.Windows((2, 3), window), (n, channels, *padded))(below)
    return image[:, :, rows : rows + height, columns : columns + width]
