"""Interpolation: images of another size.

Along each axis the result is a product with a matrix whose rows hold the weights of the pixels that
a new pixel is made of. So one function serves all modes, and gradients follow from the product's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray import is_float
from ...backend_ndarray.layout import wholes
from ..arguments import one_of, positive
from ._pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

# The number of axes that each mode is defined for.
MODES = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,),
    "bilinear": (2,), "bicubic": (2,), "trilinear": (3,),
}  # fmt: skip


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Bring images (N, C, …) of one to three axes to another size.

    Parameters
    ----------
    input : Tensor, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
    size : int or sequence of int, optional
        The new lengths; either these or `scale_factor`.
    scale_factor : float or sequence of float, optional
        The new lengths as multiples of the old, rounded down.
    mode : str
        "nearest", "nearest-exact", "area", or for one axis "linear", for two "bilinear" or
        "bicubic", for three "trilinear".
    align_corners : bool, optional
        Whether the centres of the corner pixels stay in place instead of the image's edges; not
        for "nearest" and "area".
    recompute_scale_factor : bool, optional
        Whether the scale follows from the rounded size instead of `scale_factor`.
    antialias : bool
        Must be False.

    Returns
    -------
    Tensor

    Raises
    ------
    NotImplementedError
        For `antialias`.
    ValueError
        If the arguments do not fit each other or the input.
    """
    one_of("interpolate", "mode", mode, tuple(MODES))
    axes = input.ndim - 2
    if axes not in MODES[mode]:
        raise ValueError(f"[interpolate] mode {mode!r} does not fit input of shape {input.shape}")
    if antialias:
        raise NotImplementedError("[interpolate] antialias=True is not implemented; blur first")
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(f"[interpolate] align_corners has no meaning for mode {mode!r}")
    lengths, scales = _new_size(input, size, scale_factor)
    if recompute_scale_factor:
        scales = [None] * axes
    if mode == "area":
        pools = adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
        return pools[axes - 1](input, tuple(lengths))
    for i, (length, scale) in enumerate(zip(lengths, scales, strict=True)):
        n = input.shape[2 + i]
        if mode.startswith("nearest"):
            input = ops.take(input, _nearest(mode, n, length, scale), 2 + i)
        elif n != length or scale not in (None, 1.0):
            input = _along(input, 2 + i, _weights(mode, n, length, scale, bool(align_corners)))
    return input


def _new_size(
    x: Tensor, size: int | Sequence[int] | None, scale_factor: float | Sequence[float] | None
) -> tuple[list[int], list[float | None]]:
    """The new lengths, and the scales where they were given."""
    axes = x.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] needs either size or scale_factor")
    if size is not None:
        lengths = list(wholes(size, "interpolate", "size"))
        lengths = lengths * axes if isinstance(size, int) else lengths
        scales: list[float | None] = [None] * axes
    else:
        given: tuple[float, ...] = (
            tuple(scale_factor) if isinstance(scale_factor, Sequence) else (scale_factor or 0.0,)
        )
        factors = [positive("interpolate", "scale_factor", f) for f in given]
        factors = factors * axes if len(factors) == 1 else factors
        lengths = [math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=False)]
        scales = [*factors]
    if len(lengths) != axes or len(scales) != axes or min(lengths) < 1 or 0 in x.shape[2:]:
        raise ValueError(
            f"[interpolate] size {size} or scale_factor {scale_factor} does not fit input of shape "
            f"{x.shape}"
        )
    return lengths, scales


def _nearest(mode: str, n: int, length: int, scale: float | None) -> Integers:
    """The old pixel of each new one."""
    step = n / length if scale is None else 1 / scale
    half = 0.5 if mode == "nearest-exact" else 0.0
    # float32 as in PyTorch, whose rounding decides between two pixels at equal distance.
    places = (np.arange(length, dtype="float32") + np.float32(half)) * np.float32(step)
    nearest: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    nearest = np.minimum(np.floor(places).astype(np.int64), n - 1)
    return nearest


def _weights(mode: str, n: int, length: int, scale: float | None, align: bool) -> Floats:
    """The matrix (length, n) of the weights of old pixels in new ones."""
    if align:
        places = np.arange(length) * ((n - 1) / (length - 1) if length > 1 else 0.0)
    else:
        step = n / length if scale is None else 1 / scale
        places = (np.arange(length) + 0.5) * step - 0.5
        if mode != "bicubic":
            places = np.maximum(places, 0.0)
    first = np.floor(places)
    t = places - first
    if mode == "bicubic":
        parts = [(k, _cubic(np.abs(t - k))) for k in (-1, 0, 1, 2)]
    else:
        parts = [(0, 1 - t), (1, t)]
    matrix = np.zeros((length, n))
    for k, weight in parts:
        pixel = np.clip(first + k, 0, n - 1).astype("int64")
        np.add.at(matrix, (np.arange(length), pixel), weight)
    return matrix


def _cubic(d: Floats) -> Floats:
    """The cubic convolution kernel at distance d (Keys, 1981), with PyTorch's a = -0.75."""
    a = -0.75
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _along(x: Tensor, axis: int, matrix: Floats) -> Tensor:
    """`matrix` applied to `x` along `axis`."""
    if not is_float(x.dtype):
        raise TypeError(f"[interpolate] needs a floating-point dtype, got {x.dtype}")
    weights = Tensor(matrix.T.copy(), device=x.device, dtype=x.dtype, requires_grad=False)
    last = x.ndim - 1
    if axis == last:
        return ops.matmul(x, weights)
    order = [i if i not in (axis, last) else axis + last - i for i in range(x.ndim)]
    return ops.permute(ops.matmul(ops.permute(x, order), weights), order)


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` by its older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """`interpolate` with the nearest pixels."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """`interpolate` of images with the corners' centres in place."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
