"""Images in folders, one folder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...typing import Extent
from ..dataset import Dataset, Transforms

SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)


class ImageFolder(Dataset):
    """The images in the subfolders of a folder; each subfolder is a class.

    An item is (H×W×3 float32 in [0, 1] after transforms, label). `classes` are the names of the
    classes, sorted; a label is a place in it. `paths` and `labels` (n int64) list the samples,
    class by class, sorted by name. Hidden files and files whose names do not end like an image's
    are passed over.

    Parameters
    ----------
    root : str or path
        The folder.
    transforms : sequence of callable, optional
        Functions of one sample's array, applied in order.
    size : int or (int, int), optional
        The (height, width) that every image is scaled to before the transforms; None keeps the
        sizes.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    OSError
        If the folder cannot be read.
    ValueError
        If there are no classes or a class has no images, and on reading an item that is not an
        image.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transforms: Transforms | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__(transforms)
        _pillow()
        self.size = _checked_size(size)
        folders = [p for p in _visible(Path(root)) if p.is_dir()]
        if not folders:
            raise ValueError(
                f"[ImageFolder] root {os.fspath(root)!r} must hold a folder of images for each "
                "class, found no folder"
            )
        self.classes = [folder.name for folder in folders]
        images = [_images(folder) for folder in folders]
        self.paths = [path for paths in images for path in paths]
        self.labels = np.repeat(np.arange(len(images)), [len(paths) for paths in images])

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, index: int) -> np.ndarray:
        """The bytes H×W×3 of an image, before the transforms."""
        return _read_image(self.paths[index], self.size)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, int]:
        image = self.pixels(index).astype(np.float32) / np.float32(255)
        return self.apply_transforms(image), int(self.labels[index])


def _checked_size(size: Extent | None) -> tuple[int, int] | None:
    """(height, width) of a `size` argument."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in pair):
        raise ValueError(
            f"[ImageFolder] size must be a positive int or (height, width), got {size!r}"
        )
    return int(pair[0]), int(pair[1])


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    paths = [p for p in _visible(folder) if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not paths:
        raise ValueError(
            f"[ImageFolder] {os.fspath(folder)!r}: expected images, found no file that ends in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return paths


def _read_image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """The pixels (H×W×3 uint8) of an image, scaled to `size`. Raises ValueError naming the file."""
    Image = _pillow()
    content = path.read_bytes()
    try:
        return _pixels(Image, content, size)
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        reason = str(error).replace("\n", " ") or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):  # its message names a buffer
            reason = "it has no format that Pillow knows"
        raise ValueError(
            f"[ImageFolder] {os.fspath(path)!r}: expected an image, but it cannot be read: {reason}"
        ) from None


def _pixels(Image: Any, content: bytes, size: tuple[int, int] | None) -> np.ndarray:
    import io

    with Image.open(io.BytesIO(content)) as image:
        if image.mode[0] in "IF":
            raise ValueError(f"its pixels have the mode {image.mode!r}, expected 8 bits a channel")
        rgb = image.convert("RGB")
    if size is not None:
        rgb = rgb.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _pillow() -> Any:
    """Pillow's module Image."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "[ImageFolder] needs Pillow to read images: pip install 'needle-dl[images]'"
        ) from None
    return Image
