"""Images of another size, resampled as Pillow does.

A pixel of the result is a weighted mean of the pixels under a filter: a triangle ("bilinear") or a
cubic ("bicubic"). Where the image becomes smaller the filter is widened by the same factor, so that
fine patterns are averaged and do not alias. The filter is separable: one product by a matrix of
weights along the width and one along the height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend_ndarray.layout import whole
from ..transforms import Transform, random_state
from .images import Image, Pixels, as_size, as_type, check_range, is_pillow, of_kind, pixels_of

Box = tuple[int, int, int, int]  # top, left, height, width


def _triangle(x: Pixels) -> Pixels:
    weight: np.ndarray = np.maximum(1 - np.abs(x), 0)
    return weight


def _cubic(x: Pixels) -> Pixels:
    """The cubic convolution kernel (Keys 1981) with a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


class InterpolationMode:
    """Names of the ways to resample, as torchvision has them.

    Examples
    --------
    >>> from needle.data import vision
    >>> vision.InterpolationMode.BICUBIC == "bicubic"
    True
    """

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


_FILTERS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
INTERPOLATIONS = ("nearest", *_FILTERS)


def check_interpolation(interpolation: str, what: str) -> str:
    """`interpolation`. Raises ValueError for unknown ones."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"[{what}] interpolation must be one of {', '.join(INTERPOLATIONS)}, got "
            f"{interpolation!r}"
        )
    return interpolation


def _weights(n: int, out: int, interpolation: str) -> Pixels:
    """The matrix (out, n) of weights; each row sums to 1."""
    function, support = _FILTERS[interpolation]
    scale = n / out
    stretch = max(scale, 1.0)
    centers = (np.arange(out) + 0.5) * scale
    first = np.floor(np.maximum(centers - support * stretch + 0.5, 0)).astype(int)
    last = np.floor(np.minimum(centers + support * stretch + 0.5, n)).astype(int)
    places = np.arange(n)
    weights = function((places + 0.5 - centers[:, None]) / stretch)
    weights *= (places >= first[:, None]) & (places < last[:, None])
    matrix: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def resized(pixels: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    """The image H×W×C in another size (height, width)."""
    height, width = size
    if interpolation == "nearest":
        rows = ((np.arange(height) + 0.5) * (pixels.shape[0] / height)).astype(int)
        columns = ((np.arange(width) + 0.5) * (pixels.shape[1] / width)).astype(int)
        taken: np.ndarray = pixels[rows[:, None], columns]
        return taken
    result = pixels
    if width != pixels.shape[1]:
        by_column = _weights(pixels.shape[1], width, interpolation)
        result = as_type(by_column @ result.astype(np.float32), pixels.dtype)
    if height != pixels.shape[0]:
        by_row = _weights(pixels.shape[0], height, interpolation)
        flat = result.reshape(len(result), -1).astype(np.float32)
        result = as_type((by_row @ flat).reshape(height, width, -1), pixels.dtype)
    return result


def _resized_box(image: Image, box: Box, size: tuple[int, int], what: str, how: str) -> Image:
    """A part of an image in another size; images of Pillow are resized by Pillow."""
    top, left, height, width = box
    if is_pillow(image):
        from PIL.Image import Resampling

        image = image.crop((left, top, left + width, top + height))
        return image.resize(size[::-1], Resampling[how.upper()])
    pixels = pixels_of(image, what)[top : top + height, left : left + width]
    return of_kind(image, resized(pixels, size, how))


def _size_of(image: Image, what: str) -> tuple[int, int]:
    if is_pillow(image):
        width, height = image.size
        return height, width
    height, width = pixels_of(image, what).shape[:2]
    return height, width


class Resize(Transform):
    """Resize the image.

    Parameters
    ----------
    size : int or (height, width)
        One number is the length of the shorter side; the aspect ratio is kept.
    interpolation : {"nearest", "bilinear", "bicubic"}
        The last two average where the image becomes smaller (antialiasing).
    max_size : int, optional
        The most that the longer side may become; with a single number as `size`.
    antialias : bool, default True
        False is not supported.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.Resize(4)(np.zeros((8, 16, 3))).shape
    (4, 8, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        interpolation: str = "bilinear",
        max_size: int | None = None,
        antialias: bool = True,
    ) -> None:
        if not antialias:
            raise ValueError('[Resize] always averages; interpolation="nearest" does not')
        self.size = as_size(size, "Resize")
        self.keeps_ratio = not isinstance(size, Sequence) or len(size) == 1
        self.interpolation = check_interpolation(interpolation, "Resize")
        if max_size is not None:
            max_size = whole(max_size, "Resize", "max_size")
            if not self.keeps_ratio or max_size <= self.size[0]:
                raise ValueError(
                    f"[Resize] max_size must exceed size, which must be one number; got size={size}"
                    f" and max_size={max_size}"
                )
        self.max_size = max_size

    def __call__(self, image: Any) -> Any:
        height, width = _size_of(image, "Resize")
        size = self._new_size(height, width) if self.keeps_ratio else self.size
        return _resized_box(image, (0, 0, height, width), size, "Resize", self.interpolation)

    def _new_size(self, height: int, width: int) -> tuple[int, int]:
        shorter, longer = sorted((height, width))
        new_shorter, new_longer = self.size[0], int(self.size[0] * longer / shorter)
        if self.max_size is not None and new_longer > self.max_size:
            new_shorter = int(self.max_size * new_shorter / new_longer)
            new_longer = self.max_size
        return (new_longer, new_shorter) if height > width else (new_shorter, new_longer)


class RandomResizedCrop(Transform):
    """Crop a random part of random size and aspect ratio, and resize it.

    Draws `uniform` twice, for the area and the ratio, until the part fits into the image (at most
    ten times), then `randint` twice for its place.

    Parameters
    ----------
    size : int or (height, width)
        Of the result.
    scale : (float, float)
        Bounds of the part's area as a fraction of the image's.
    ratio : (float, float)
        Bounds of its width / height; drawn on a logarithmic scale.
    interpolation : {"nearest", "bilinear", "bicubic"}

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomResizedCrop((5, 6))(np.zeros((8, 16, 3))).shape
    (5, 6, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.size = as_size(size, "RandomResizedCrop")
        self.scale = check_range(scale, "RandomResizedCrop", "scale")
        self.ratio = check_range(ratio, "RandomResizedCrop", "ratio")
        self.interpolation = check_interpolation(interpolation, "RandomResizedCrop")

    def __call__(self, image: Any) -> Any:
        box = self._box(*_size_of(image, "RandomResizedCrop"))
        return _resized_box(image, box, self.size, "RandomResizedCrop", self.interpolation)

    def _box(self, height: int, width: int) -> Box:
        state = random_state()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * state.uniform(*self.scale)
            ratio = math.exp(state.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(state.randint(0, height - h + 1))
                return top, int(state.randint(0, width - w + 1)), h, w
        return self._middle(height, width)

    def _middle(self, height: int, width: int) -> Box:
        """The largest part in the middle whose ratio is allowed."""
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        return (height - h) // 2, (width - w) // 2, h, w
