"""The colors of an image: brightness, contrast, saturation, hue, shades of gray."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..transforms import random_state
from .images import ImageTransform, Pixels, as_type, check_probability

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)


def gray(pixels: Pixels) -> Pixels:
    """The brightness H×W×1, float32."""
    if pixels.shape[2] == 1:
        return pixels.astype(np.float32)
    if pixels.shape[2] not in (3, 4):
        raise ValueError(f"[gray] needs an image of 1, 3 or 4 channels, got {pixels.shape[2]}")
    return (pixels[:, :, :3] @ np.asarray(LUMA, np.float32))[:, :, None]


def _white(pixels: Pixels) -> float:
    """The largest value of a channel: 1 for floats."""
    return float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else 1.0


def _mixed(pixels: Pixels, other: Pixels | float, factor: float) -> Pixels:
    """`other` for factor 0, the image for 1, and beyond it for more; an alpha channel stays."""
    colors = pixels[:, :, :3]
    mixed = np.clip(factor * colors.astype(np.float32) + (1 - factor) * other, 0, _white(pixels))
    return _with_alpha(pixels, as_type(mixed, pixels.dtype))


def _with_alpha(pixels: Pixels, colors: Pixels) -> Pixels:
    return np.concatenate([colors, pixels[:, :, 3:]], 2) if pixels.shape[2] == 4 else colors


def adjust_brightness(pixels: Pixels, factor: float) -> Pixels:
    """Black for 0, the image for 1."""
    return _mixed(pixels, 0.0, factor)


def adjust_contrast(pixels: Pixels, factor: float) -> Pixels:
    """The mean gray for 0, the image for 1."""
    return _mixed(pixels, float(gray(pixels).mean()), factor)


def adjust_saturation(pixels: Pixels, factor: float) -> Pixels:
    """Shades of gray for 0, the image for 1."""
    return pixels if pixels.shape[2] == 1 else _mixed(pixels, gray(pixels), factor)


def adjust_hue(pixels: Pixels, factor: float) -> Pixels:
    """Move the colors of an image H×W×C around the color wheel.

    Parameters
    ----------
    pixels : array H×W×C
    factor : float
        The part of a full turn, from -1/2 to 1/2.

    Returns
    -------
    array H×W×C
        Of the same dtype. Images of one channel stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.adjust_hue(np.array([[[255, 0, 0]]], np.uint8), 1 / 3)
    array([[[  0, 255,   0]]], dtype=uint8)
    """
    if pixels.shape[2] == 1:
        return pixels
    white = _white(pixels)
    colors = pixels[:, :, :3].astype(np.float32) / white
    largest, smallest = colors.max(2), colors.min(2)
    chroma = largest - smallest
    hue = (_sector(colors, largest, np.where(chroma == 0, 1, chroma)) + 6 * factor) % 6
    # Every channel runs down from the largest value to the smallest and up again (HSV to RGB).
    places = (np.asarray([5, 3, 1]) + hue[:, :, None]) % 6
    turned = largest[:, :, None] - chroma[:, :, None] * np.clip(
        np.minimum(places, 4 - places), 0, 1
    )
    return _with_alpha(pixels, as_type(turned * white, pixels.dtype))


def _sector(colors: Pixels, largest: Pixels, chroma: Pixels) -> Pixels:
    """The hue in sixths of a turn; 0 for grays."""
    red, green, blue = (colors[:, :, i] for i in range(3))
    return np.where(
        largest == red,
        (green - blue) / chroma,
        np.where(largest == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )


class Grayscale(ImageTransform):
    """Shades of gray.

    Parameters
    ----------
    num_output_channels : {1, 3}

    Raises
    ------
    ValueError
        If it is another number.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.Grayscale()(np.zeros((8, 9, 3))).shape
    (8, 9, 1)
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ValueError(
                f"[Grayscale] num_output_channels must be 1 or 3, got {num_output_channels}"
            )
        self.num_output_channels = num_output_channels

    def apply(self, pixels: Pixels) -> Pixels:
        """The brightness in every channel."""
        return np.repeat(as_type(gray(pixels), pixels.dtype), self.num_output_channels, axis=2)


Bounds = float | Sequence[float]


class ColorJitter(ImageTransform):
    """Change brightness, contrast, saturation and hue at random, in random order.

    Draws `permutation(4)`, then `uniform` for each that is to change, in the order of the
    parameters.

    Parameters
    ----------
    brightness, contrast, saturation : float or (float, float)
        Bounds of the factor; one number d stands for (max(0, 1 - d), 1 + d).
    hue : float or (float, float)
        Bounds of the turn within [-1/2, 1/2]; one number h stands for (-h, h).

    Raises
    ------
    ValueError
        If bounds are out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.ColorJitter(brightness=(2, 2))(np.full((1, 1, 3), 0.25))
    array([[[0.5, 0.5, 0.5]]])
    """

    def __init__(
        self,
        brightness: Bounds = 0,
        contrast: Bounds = 0,
        saturation: Bounds = 0,
        hue: Bounds = 0,
    ) -> None:
        self.brightness = _bounds(brightness, "brightness", 1)
        self.contrast = _bounds(contrast, "contrast", 1)
        self.saturation = _bounds(saturation, "saturation", 1)
        self.hue = _bounds(hue, "hue", 0)

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels in other colors."""
        state = random_state()
        order = state.permutation(4)
        steps: list[tuple[Callable[[Pixels, float], Pixels], float] | None] = []
        for function, bounds in (
            (adjust_brightness, self.brightness), (adjust_contrast, self.contrast),
            (adjust_saturation, self.saturation), (adjust_hue, self.hue),
        ):  # fmt: skip
            steps.append(None if bounds is None else (function, float(state.uniform(*bounds))))
        for i in order:
            if (step := steps[i]) is not None:
                pixels = step[0](pixels, step[1])
        return pixels


def _bounds(value: Bounds, name: str, neutral: int) -> tuple[float, float] | None:
    """Bounds around the neutral value, None for that alone."""
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"[ColorJitter] {name} must not be negative, got {value}")
        low, high = neutral - value, neutral + value
        low = max(low, 0) if neutral else low
    else:
        low, high = value
    least, most = (0.0, np.inf) if neutral else (-0.5, 0.5)
    if not least <= low <= high <= most:
        raise ValueError(f"[ColorJitter] {name} must lie within {least} … {most}, got {value}")
    return None if low == high == neutral else (low, high)


class RandomGrayscale(ImageTransform):
    """Shades of gray with probability `p`, in as many channels as before.

    Draws `rand()`.

    Parameters
    ----------
    p : float, default 0.1

    Raises
    ------
    ValueError
        If `p` is no probability.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomGrayscale(1.0)(np.array([[[0, 255, 0]]], np.uint8))
    array([[[150, 150, 150]]], dtype=uint8)
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = check_probability(p, "RandomGrayscale")

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels, or the gray ones."""
        if random_state().rand() >= self.p or pixels.shape[2] == 1:
            return pixels
        shades = np.repeat(as_type(gray(pixels), pixels.dtype), 3, 2)
        return _with_alpha(pixels, shades)
