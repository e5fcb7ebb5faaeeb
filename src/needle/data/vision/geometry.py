"""Where the pixels of an image are: crops, borders, mirrors, rotations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...backend_ndarray.layout import wholes
from ..transforms import random_state
from .images import ImageTransform, Pixels, as_size, as_type, check_probability

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")
Fill = float | Sequence[float]


def padded(pixels: Pixels, sides: Sequence[int], fill: Fill = 0, mode: str = "constant") -> Pixels:
    """With (left, top, right, bottom) more pixels; `fill` is one number, or one a channel."""
    left, top, right, bottom = sides
    widths = ((top, bottom), (left, right), (0, 0))
    if mode != "constant":
        padded: np.ndarray = np.pad(pixels, widths, mode=mode)  # type: ignore[call-overload]
        return padded
    height, width, channels = pixels.shape
    result = np.empty((height + top + bottom, width + left + right, channels), pixels.dtype)
    result[:] = fill
    result[top : top + height, left : left + width] = pixels
    return result


def _sides(padding: int | Sequence[int], what: str) -> tuple[int, ...]:
    sides = wholes(padding, what, "padding")
    if len(sides) not in (1, 2, 4) or min(sides) < 0:
        raise ValueError(
            f"[{what}] padding must be a number, (left and right, top and bottom) or (left, top, "
            f"right, bottom), not negative; got {padding!r}"
        )
    return sides * (4 // len(sides))


def _mode(mode: str, what: str) -> str:
    if mode not in PADDING_MODES:
        raise ValueError(
            f"[{what}] padding_mode must be one of {', '.join(PADDING_MODES)}, got {mode!r}"
        )
    return mode


class Pad(ImageTransform):
    """Add a border.

    Parameters
    ----------
    padding : int or sequence of int
        One number for all sides, (left and right, top and bottom), or (left, top, right, bottom).
    fill : float or sequence of float
        The color of a constant border.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.Pad((1, 2))(np.zeros((4, 4, 3))).shape
    (8, 6, 3)
    """

    def __init__(
        self, padding: int | Sequence[int], fill: Fill = 0, padding_mode: str = "constant"
    ) -> None:
        self.padding = _sides(padding, "Pad")
        self.fill, self.padding_mode = fill, _mode(padding_mode, "Pad")

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels with the border."""
        return padded(pixels, self.padding, self.fill, self.padding_mode)


class CenterCrop(ImageTransform):
    """Crop the middle; an image that is smaller gets a border of zeros.

    Parameters
    ----------
    size : int or (height, width)

    Raises
    ------
    ValueError
        If the size is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.CenterCrop(4)(np.zeros((8, 9, 3))).shape
    (4, 4, 3)
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = as_size(size, "CenterCrop")

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels of the middle."""
        pixels = _at_least(pixels, self.size)
        top, left = (round((n - m) / 2) for n, m in zip(pixels.shape, self.size, strict=False))
        return pixels[top : top + self.size[0], left : left + self.size[1]]


def _at_least(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    more = [max(m - n, 0) for n, m in zip(pixels.shape, size, strict=False)]
    if not any(more):
        return pixels
    sides = (more[1] // 2, more[0] // 2, (more[1] + 1) // 2, (more[0] + 1) // 2)
    return padded(pixels, sides)


class RandomCrop(ImageTransform):
    """Crop at a random place; draws `randint` for the top and for the left.

    Parameters
    ----------
    size : int or (height, width)
    padding : int or sequence of int, optional
        A border that is added first, as in `Pad`.
    pad_if_needed : bool
        Whether an image that is smaller than `size` gets a border.
    fill : float or sequence of float
        The color of a constant border.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}

    Raises
    ------
    ValueError
        If an argument is out of range, or an image is smaller than `size`.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomCrop(32, padding=4)(np.zeros((32, 32, 3))).shape
    (32, 32, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: Fill = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = as_size(size, "RandomCrop")
        self.padding = None if padding is None else _sides(padding, "RandomCrop")
        self.pad_if_needed, self.fill = pad_if_needed, fill
        self.padding_mode = _mode(padding_mode, "RandomCrop")

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels of the part."""
        if self.padding is not None:
            pixels = padded(pixels, self.padding, self.fill, self.padding_mode)
        height, width = self.size
        if self.pad_if_needed:
            down, right = max(height - pixels.shape[0], 0), max(width - pixels.shape[1], 0)
            pixels = padded(
                pixels, (right, down, right, down), self.fill, self.padding_mode
            )  # the drawn place decides how much of the border is seen
        if pixels.shape[0] < height or pixels.shape[1] < width:
            raise ValueError(
                f"[RandomCrop] the image, {pixels.shape[0]}×{pixels.shape[1]}, is smaller than "
                f"{height}×{width}: pad_if_needed=True"
            )
        state = random_state()
        top = int(state.randint(0, pixels.shape[0] - height + 1))
        left = int(state.randint(0, pixels.shape[1] - width + 1))
        return pixels[top : top + height, left : left + width]


class RandomHorizontalFlip(ImageTransform):
    """Mirror left and right with probability `p`; draws `rand()`.

    Parameters
    ----------
    p : float

    Raises
    ------
    ValueError
        If `p` is outside of [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomHorizontalFlip(1.0)(np.arange(3).reshape(1, 3, 1)).ravel()
    array([2, 1, 0])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability(p, type(self).__name__)

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels, mirrored or not."""
        return pixels[:, ::-1] if random_state().rand() < self.p else pixels


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirror top and bottom with probability `p`; draws `rand()`.

    Parameters
    ----------
    p : float

    Raises
    ------
    ValueError
        If `p` is outside of [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomVerticalFlip(1.0)(np.arange(3).reshape(3, 1, 1)).ravel()
    array([2, 1, 0])
    """

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels, mirrored or not."""
        return pixels[::-1] if random_state().rand() < self.p else pixels


class RandomRotation(ImageTransform):
    """Rotate by a random angle; draws `uniform`.

    Parameters
    ----------
    degrees : float or (float, float)
        Bounds of the angle, counter-clockwise; one number d stands for (-d, d).
    interpolation : {"nearest", "bilinear"}
    expand : bool
        Whether the result is large enough for the whole image.
    center : (float, float), optional
        (x, y) of the point that stays; the middle by default.
    fill : float or sequence of float
        The color outside of the image.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.RandomRotation((90, 90))(np.array([[[1], [2]], [[3], [4]]]))[..., 0]
    array([[2, 4],
           [1, 3]])
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Fill = 0,
    ) -> None:
        if isinstance(degrees, (int, float)):
            if degrees < 0:
                raise ValueError(
                    f"[RandomRotation] a single number of degrees must not be negative, got "
                    f"{degrees}"
                )
            degrees = (-degrees, degrees)
        if len(degrees) != 2:
            raise ValueError(f"[RandomRotation] degrees must be one or two, got {degrees}")
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(
                f"[RandomRotation] interpolation must be nearest or bilinear, got {interpolation!r}"
            )
        self.degrees, self.interpolation = tuple(degrees), interpolation
        self.expand, self.center, self.fill = expand, center, fill

    def apply(self, pixels: Pixels) -> Pixels:
        """The rotated pixels."""
        angle = float(random_state().uniform(*self.degrees))
        return rotated(pixels, angle, self.interpolation, self.expand, self.center, self.fill)


def rotated(
    pixels: Pixels,
    degrees: float,
    interpolation: str = "nearest",
    expand: bool = False,
    center: Sequence[float] | None = None,
    fill: Fill = 0,
) -> Pixels:
    """The image rotated counter-clockwise; each pixel of the result is looked up where it was."""
    height, width = pixels.shape[:2]
    angle = -math.radians(degrees)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    middle_x, middle_y = (width / 2, height / 2) if center is None else center
    shift_x = middle_x - cos * middle_x - sin * middle_y
    shift_y = middle_y + sin * middle_x - cos * middle_y
    out_height, out_width = height, width
    if expand:
        corners = [(x, y) for x in (0, width) for y in (0, height)]
        xs = [cos * x + sin * y + shift_x for x, y in corners]
        ys = [-sin * x + cos * y + shift_y for x, y in corners]
        out_width = math.ceil(max(xs)) - math.floor(min(xs))
        out_height = math.ceil(max(ys)) - math.floor(min(ys))
        half_x, half_y = (out_width - width) / 2, (out_height - height) / 2
        shift_x -= cos * half_x + sin * half_y
        shift_y -= -sin * half_x + cos * half_y
    x, y = np.arange(out_width) + 0.5, (np.arange(out_height) + 0.5)[:, None]
    from_x = cos * x + sin * y + shift_x
    from_y = -sin * x + cos * y + shift_y
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    sample = _nearest if interpolation == "nearest" else _bilinear
    result = np.empty((out_height, out_width, pixels.shape[2]), pixels.dtype)
    result[:] = fill
    result[inside] = sample(pixels, from_x[inside], from_y[inside])
    return result


def _nearest(pixels: Pixels, x: Pixels, y: Pixels) -> Pixels:
    taken: np.ndarray = pixels[y.astype(int), x.astype(int)]
    return taken


def _bilinear(pixels: Pixels, x: Pixels, y: Pixels) -> Pixels:
    """The weighted mean of the four pixels around each place (x, y)."""
    height, width = pixels.shape[:2]
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    across, down = (x - 0.5 - left)[:, None], (y - 0.5 - top)[:, None]
    columns = np.clip(left, 0, width - 1), np.clip(left + 1, 0, width - 1)
    rows = np.clip(top, 0, height - 1), np.clip(top + 1, 0, height - 1)
    upper = pixels[rows[0], columns[0]] * (1 - across) + pixels[rows[0], columns[1]] * across
    lower = pixels[rows[1], columns[0]] * (1 - across) + pixels[rows[1], columns[1]] * across
    return as_type(upper * (1 - down) + lower * down, pixels.dtype)
