"""From images to Tensors, and what is done to these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...autograd import Tensor
from ..transforms import random_state
from .images import (
    Image,
    ImageTransform,
    Pixels,
    check_probability,
    check_range,
    is_pillow,
    pixels_of,
)


class ToTensor:
    """A Tensor C×H×W of a Pillow image or an array H×W×C.

    Bytes become float32 from 0 to 1; other dtypes keep their values.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.ToTensor()(np.full((2, 3, 1), 255, np.uint8))
    needle.Tensor([[[1. 1. 1.]
      [1. 1. 1.]]])
    """

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, np.ndarray) and image.ndim == 2:
            image = image[:, :, None]
        pixels = np.ascontiguousarray(np.moveaxis(pixels_of(image, "ToTensor"), -1, 0))
        if pixels.dtype == np.uint8:
            pixels = pixels.astype(np.float32) / 255
        return Tensor(pixels, dtype=pixels.dtype, requires_grad=False)


class PILToTensor:
    """A Tensor C×H×W of a Pillow image or an array H×W×C, in the dtype of its pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.PILToTensor()(np.full((1, 1, 1), 255, np.uint8)).tolist()
    [[[255]]]
    """

    def __call__(self, image: Any) -> Tensor:
        pixels = np.ascontiguousarray(np.moveaxis(pixels_of(image, "PILToTensor"), -1, 0))
        return Tensor(pixels, dtype=pixels.dtype, requires_grad=False)


class ToPILImage:
    """A Pillow image of a Tensor C×H×W or an array H×W×C; floats are from 0 to 1.

    Parameters
    ----------
    mode : str, optional
        What Pillow calls the kind of image; it follows from the number of channels.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        from PIL import Image as pillow

        if isinstance(image, (Tensor, np.ndarray)) and image.ndim == 2:
            image = image[None] if isinstance(image, Tensor) else image[:, :, None]
        pixels = pixels_of(image, "ToPILImage")
        if pixels.dtype.kind == "f":
            pixels = (np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        pixels = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        made = pillow.fromarray(pixels)
        return made if self.mode is None else made.convert(self.mode)


class Normalize(ImageTransform):
    """(x - mean) / std for every channel.

    Parameters
    ----------
    mean, std : float or sequence of float
        One number, or one a channel.
    inplace : bool, default False
        Accepted as PyTorch's hint; the image that is given stays as it is.

    Raises
    ------
    ValueError
        If a std is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> vision.Normalize([0.5], [0.25])(np.full((1, 1, 1), 1.0))
    array([[[2.]]], dtype=float32)
    """

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        inplace: bool = False,
    ) -> None:
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        if not (self.std > 0).all():
            raise ValueError(f"[Normalize] std must be positive, got {std}")

    def __call__(self, image: Image) -> Any:
        _check_numbers(image, "Normalize")
        return super().__call__(image)

    def apply(self, pixels: Pixels) -> Pixels:
        """The normalized pixels, float32."""
        channels = pixels.shape[2]
        if any(x.size not in (1, channels) for x in (self.mean, self.std)):
            raise ValueError(
                f"[Normalize] the image has {channels} channels, mean {self.mean.size} numbers and "
                f"std {self.std.size}"
            )
        return (pixels.astype(np.float32) - self.mean) / self.std


class RandomErasing(ImageTransform):
    """Erase a random rectangle with probability `p` (Zhong et al. 2017).

    Draws `rand()`, then as `RandomResizedCrop` does.

    Parameters
    ----------
    p : float
    scale : (float, float)
        Bounds of the rectangle's area as a fraction of the image's.
    ratio : (float, float)
        Bounds of its height / width.
    value : float, sequence of float or "random"
        The color, one number or one a channel; "random" draws `standard_normal` for every pixel.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import vision
    >>> erase = vision.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(1, 1))
    >>> erase(np.ones((8, 8, 1))).sum()
    np.float64(48.0)
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0,
    ) -> None:
        self.p = check_probability(p, "RandomErasing")
        self.scale = check_range(scale, "RandomErasing", "scale")
        self.ratio = check_range(ratio, "RandomErasing", "ratio")
        if isinstance(value, str) and value != "random":
            raise ValueError(f'[RandomErasing] value must be numbers or "random", got {value!r}')
        self.value = value

    def __call__(self, image: Image) -> Any:
        _check_numbers(image, "RandomErasing")
        return super().__call__(image)

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels with or without a rectangle."""
        state = random_state()
        if state.rand() >= self.p:
            return pixels
        height, width, channels = pixels.shape
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * state.uniform(*self.scale)
            ratio = math.exp(state.uniform(low, high))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                break
        else:
            return pixels
        value: Any = self.value
        if isinstance(value, str):
            value = state.standard_normal((h, w, channels))
        top, left = (int(state.randint(0, n + 1)) for n in (height - h, width - w))
        erased = pixels.copy()
        erased[top : top + h, left : left + w] = value
        return erased


def _check_numbers(image: Image, what: str) -> None:
    if is_pillow(image):
        raise TypeError(f"[{what}] takes Tensors and arrays; put ToTensor() before it")
