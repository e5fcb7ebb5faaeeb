"""Images read at places between their pixels, as spatial transformers do (Jaderberg et al., 2015).

A place (x, y) counts from the image's left upper corner, (-1, -1), to its right lower one, (1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import ops
from ...autograd import Tensor
from ..arguments import one_of


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """The places theta·(x, y, 1) of the pixels of images of `size` (N, C, H, W): (N, H, W, 2).

    `theta` is (N, 2, 3). With `align_corners` the outermost pixels' centres, otherwise the image's
    edges, are at ±1. Raises ValueError where the shapes do not fit.
    """
    if len(size) != 4 or theta.shape != (size[0], 2, 3):
        raise ValueError(
            f"[affine_grid] needs theta ({size[0]}, 2, 3) and a size (N, C, H, W), got "
            f"{theta.shape} and {tuple(size)}"
        )
    n, _, height, width = size
    rows, columns = (_places(length, align_corners) for length in (height, width))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    points = np.stack([x, y, np.ones_like(x)], -1).reshape(height * width, 3)
    base = Tensor(points, device=theta.device, dtype=theta.dtype, requires_grad=False)
    return ops.matmul(base, ops.transpose(theta)).reshape((n, height, width, 2))


def _places(n: int, align_corners: bool) -> np.ndarray:
    if align_corners:
        return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return (np.arange(n) * 2 + 1) / n - 1


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Images (N, C, H, W) read at the places of grid (N, H', W', 2), as (x, y): (N, C, H', W').

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W)
    grid : Tensor, shape (N, H', W', 2)
        See `affine_grid`.
    mode : {"bilinear", "nearest"}
        Whether a place between pixels mixes them or takes the nearest.
    padding_mode : {"zeros", "border", "reflection"}
        What lies outside the image.
    align_corners : bool
        Whether ±1 are the centres of the outermost pixels or the image's edges.

    Returns
    -------
    Tensor, shape (N, C, H', W')

    Raises
    ------
    ValueError
        If the shapes do not fit or a mode is unknown.
    """
    one_of("grid_sample", "mode", mode, ("bilinear", "nearest"))
    one_of("grid_sample", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
    if input.ndim != 4 or grid.ndim != 4 or grid.shape[::3] != (input.shape[0], 2):
        raise ValueError(
            f"[grid_sample] needs images (N, C, H, W) and a grid (N, H', W', 2), got {input.shape} "
            f"and {grid.shape}"
        )
    height, width = input.shape[2:]
    x = _pixel(grid[:, :, :, 0], width, padding_mode, align_corners)
    y = _pixel(grid[:, :, :, 1], height, padding_mode, align_corners)
    if mode == "nearest":
        return _read(input, _round_half_even(x), _round_half_even(y))
    left, top = ops.floor(x.detach()), ops.floor(y.detach())
    right_part, lower_part = x - left, y - top
    total: Tensor | None = None
    for column, across in ((left, 1.0 - right_part), (left + 1.0, right_part)):
        for row, down in ((top, 1.0 - lower_part), (top + 1.0, lower_part)):
            part = _read(input, column, row) * ops.unsqueeze(across * down, 1)
            total = part if total is None else total + part
    assert total is not None
    return total


def _round_half_even(x: Tensor) -> Tensor:
    return ops.round(x.detach())


def _pixel(place: Tensor, n: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Places as positions among n pixels, brought into the image unless zeros lie outside."""
    at = (place + 1.0) * ((n - 1) / 2) if align_corners else ((place + 1.0) * n - 1.0) / 2.0
    if padding_mode == "reflection":
        low, span = (0.0, float(n - 1)) if align_corners else (-0.5, float(n))
        at = _reflected(at, low, span)
    return at if padding_mode == "zeros" else ops.clip(at, 0.0, n - 1.0)


def _reflected(at: Tensor, low: float, span: float) -> Tensor:
    """Positions mirrored at low and low + span until they lie between."""
    if span == 0:
        return at * 0.0
    distance = ops.abs(at - low)
    times = ops.floor(distance.detach() / span)
    rest = distance - times * span
    return ops.where(times % 2.0 == 0, rest, span - rest) + low


def _read(image: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """The pixels at whole positions (N, H', W'), zeros outside of the image."""
    n, channels, height, width = image.shape
    inside = ops.maximum(ops.abs(column - (width - 1) / 2) - width / 2, 0.0) + ops.maximum(
        ops.abs(row - (height - 1) / 2) - height / 2, 0.0
    )
    flat = ops.clip(row, 0, height - 1) * float(width) + ops.clip(column, 0, width - 1)
    size = flat.shape[1] * flat.shape[2]
    index = ops.broadcast_to(flat.astype("int64").reshape((n, 1, size)), (n, channels, size))
    pixels = ops.gather(image.reshape((n, channels, height * width)), 2, index)
    return ops.where(
        ops.unsqueeze(inside == 0, 1), pixels.reshape((n, channels, *flat.shape[1:])), 0.0
    )
