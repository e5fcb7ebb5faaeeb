"""Images out of focus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backend_ndarray.layout import wholes
from ..transforms import random_state
from .images import ImageTransform, Pixels, as_type, check_range


class GaussianBlur(ImageTransform):
    """Blur by a Gaussian bell of random width. Borders are mirrored.

    Draws `uniform(*sigma)`.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Width and height of the bell in pixels; odd.
    sigma : float or (float, float), default (0.1, 2.0)
        The standard deviation in pixels, or its bounds.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.GaussianBlur(3, 1.0)(np.full((4, 4, 1), 7, np.uint8)).max()
    np.uint8(7)
    """

    def __init__(
        self, kernel_size: int | Sequence[int], sigma: float | Sequence[float] = (0.1, 2.0)
    ) -> None:
        sizes = wholes(kernel_size, "GaussianBlur", "kernel_size")
        if len(sizes) not in (1, 2) or any(n < 1 or n % 2 == 0 for n in sizes):
            raise ValueError(
                "[GaussianBlur] kernel_size must be one or two odd positive integers, got "
                f"{kernel_size!r}"
            )
        self.kernel_size = sizes * (2 // len(sizes))
        bounds = sigma if isinstance(sigma, Sequence) else (sigma, sigma)
        self.sigma = check_range(bounds, "GaussianBlur", "sigma")

    def apply(self, pixels: Pixels) -> Pixels:
        """The blurred pixels."""
        sigma = random_state().uniform(*self.sigma)
        width, height = self.kernel_size
        blurred = pixels.astype(np.float32)
        for axis, size in ((0, height), (1, width)):
            blurred = _convolved(blurred, _bell(size, sigma), axis)
        return as_type(blurred, pixels.dtype)


def _bell(size: int, sigma: float) -> Pixels:
    x = np.arange(size, dtype=np.float32) - (size - 1) / 2
    bell = np.exp(-0.5 * (x / sigma) ** 2)
    return np.asarray(bell / bell.sum(), np.float32)


def _convolved(pixels: Pixels, kernel: Pixels, axis: int) -> Pixels:
    around = len(kernel) // 2
    widths = [(around, around) if i == axis else (0, 0) for i in range(3)]
    mirrored = np.moveaxis(np.pad(pixels, widths, "reflect"), axis, 0)
    length = pixels.shape[axis]
    total = sum(weight * mirrored[i : i + length] for i, weight in enumerate(kernel))
    return np.moveaxis(np.asarray(total), 0, axis)


__all__ = ["GaussianBlur"]
