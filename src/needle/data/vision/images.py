"""Images of every kind as arrays H×W×C, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from ...autograd import Tensor
from ...backend_ndarray.layout import wholes
from ..transforms import Transform

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# An array of numbers of any dtype; H×W×C where it is an image.
Pixels: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]
Image: TypeAlias = "Pixels | Tensor | PillowImage"


def is_pillow(image: object) -> TypeGuard[PillowImage]:
    """Whether it is an image of Pillow, which is not imported for the question."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def pixels_of(image: Image, what: str) -> Pixels:
    """The pixels H×W×C. Raises TypeError or ValueError, naming `what`, for what is no image."""
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise ValueError(f"[{what}] needs a Tensor C×H×W, got one of shape {image.shape}")
        return np.moveaxis(np.asarray(image), 0, -1)
    if is_pillow(image):
        if image.mode not in ("L", "RGB", "RGBA"):
            raise ValueError(
                f"[{what}] takes Pillow images of mode L, RGB or RGBA, got {image.mode}: "
                'image.convert("RGB")'
            )
        pixels = np.asarray(image)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"[{what}] takes a Pillow image, an array H×W×C or a Tensor C×H×W, got "
            f"{type(image).__name__}"
        )
    if image.ndim != 3:
        raise ValueError(f"[{what}] needs an image H×W×C, got an array of shape {image.shape}")
    return image


def of_kind(image: Image, pixels: Pixels) -> Image:
    """The pixels as an image of the same kind."""
    if isinstance(image, Tensor):
        channels_first = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        return Tensor(
            channels_first, device=image.device, dtype=channels_first.dtype, requires_grad=False
        )
    if is_pillow(image):
        made: Image = sys.modules["PIL.Image"].fromarray(
            np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        )
        return made
    return pixels


class ImageTransform(Transform):
    """A function of an image of any kind; subclasses define `apply` for the array H×W×C."""

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels of the result, which may be a view of those that it is given."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def __call__(self, image: Any) -> Any:
        return of_kind(image, self.apply(pixels_of(image, type(self).__name__)))


def as_type(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Computed pixels in the image's dtype: rounded and kept in range where that is an integer."""
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return np.clip(np.rint(values), info.min, info.max).astype(dtype)
    return values.astype(dtype, copy=False)


def as_size(size: int | Sequence[int], what: str) -> tuple[int, int]:
    """(height, width); one number is both."""
    sizes = wholes(size, what, "size")
    height, width = sizes * 2 if len(sizes) == 1 else sizes if len(sizes) == 2 else (0, 0)
    if height < 1 or width < 1:
        raise ValueError(f"[{what}] size must be one or two positive integers, got {size!r}")
    return height, width


def check_probability(p: float, what: str) -> float:
    """`p`. Raises ValueError outside of [0, 1]."""
    if not 0 <= p <= 1:
        raise ValueError(f"[{what}] p must lie in [0, 1], got {p}")
    return p


def check_range(values: Sequence[float], what: str, name: str) -> tuple[float, float]:
    """Two positive numbers in order. Raises ValueError for others."""
    low, high = values
    if not 0 < low <= high:
        raise ValueError(f"[{what}] {name} must be (low, high) with 0 < low ≤ high, got {values}")
    return low, high
