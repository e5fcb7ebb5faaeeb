"""Grids of images, and files of them: `torchvision.utils`."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ..autograd import Tensor
from ..data.vision.png import encode_png
from ..files import written_whole


def make_grid(
    tensor: Tensor | Sequence[Tensor],
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> Tensor:
    """One image of many, side by side.

    Parameters
    ----------
    tensor : Tensor or sequence of Tensor
        Images N×C×H×W, or one of fewer axes. Images of one channel become images of three.
    nrow : int, default 8
        How many images stand in a row.
    padding : int, default 2
        The border in pixels.
    normalize : bool, default False
        Whether values are moved to [0, 1].
    value_range : (float, float), optional
        What becomes 0 and 1; the smallest and the largest value by default.
    scale_each : bool, default False
        Whether each image has a smallest and a largest value of its own.
    pad_value : float, default 0
        The color of the border.

    Returns
    -------
    Tensor, 3×H×W

    Raises
    ------
    TypeError, ValueError
        For what are no images.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.vision import utils
    >>> utils.make_grid(ndl.ones(3, 1, 4, 4), nrow=2).shape
    (3, 14, 14)
    """
    images = _images(tensor)
    if normalize:
        parts = images if scale_each else [images]
        images = np.stack([_normalized(x, value_range) for x in parts]).reshape(images.shape)
    if len(images) == 1:
        return _tensor(images[0])
    count, channels, height, width = images.shape
    columns = min(nrow, count)
    rows = math.ceil(count / columns)
    height, width = height + padding, width + padding
    grid = np.full(
        (channels, rows * height + padding, columns * width + padding), pad_value, images.dtype
    )
    for i, image in enumerate(images):
        top, left = (i // columns) * height + padding, (i % columns) * width + padding
        grid[:, top : top + height - padding, left : left + width - padding] = image
    return _tensor(grid)


def save_image(
    tensor: Tensor | Sequence[Tensor],
    fp: str | os.PathLike[str] | IO[bytes],
    format: str | None = None,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> None:
    """Write images of values in [0, 1] to a file, as `make_grid` arranges them.

    A file that is named appears whole or not at all.

    Parameters
    ----------
    tensor : Tensor or sequence of Tensor
        Images N×C×H×W, or one of fewer axes.
    fp : str, path or file
        Where to. PNG files are written by needle, other kinds by Pillow.
    format : str, optional
        The kind of file; the end of its name says it by default, and a file object is given PNG.
    nrow, padding, normalize, value_range, scale_each, pad_value
        As for `make_grid`.

    Returns
    -------
    None

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If there is no such format, or `tensor` is no image.

    Examples
    --------
    >>> import io
    >>> import needle as ndl
    >>> from needle.vision import utils
    >>> file = io.BytesIO()
    >>> utils.save_image(ndl.zeros(3, 4, 4), file)
    >>> file.getvalue()[1:4]
    b'PNG'
    """
    grid = make_grid(tensor, nrow, padding, normalize, value_range, scale_each, pad_value)
    pixels = np.clip(grid.numpy() * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    named = Path(fp).suffix[1:] if isinstance(fp, (str, os.PathLike)) else "png"
    kind = format or named
    content = encode_png(pixels) if kind.lower() == "png" else _encoded(pixels, kind)
    if isinstance(fp, (str, os.PathLike)):
        with written_whole(fp) as file:
            file.write(content)
    else:
        fp.write(content)


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    """The file of an image in a format that Pillow writes. Raises ValueError for others."""
    from PIL import Image

    name = Image.registered_extensions().get(f".{kind.lower()}", kind.upper())
    file = io.BytesIO()
    try:
        Image.fromarray(pixels).save(file, format=name)
    except KeyError:
        raise ValueError(f"[save_image] Pillow writes no files of the format {kind!r}") from None
    return file.getvalue()


def _images(tensor: Tensor | Sequence[Tensor]) -> np.ndarray:
    """N×3×H×W on the host."""
    if isinstance(tensor, Tensor):
        images = tensor.detach().numpy()
    elif isinstance(tensor, (list, tuple)) and all(isinstance(x, Tensor) for x in tensor):
        images = np.stack([x.detach().numpy() for x in tensor])
    else:
        raise TypeError(
            f"[make_grid] tensor must be a Tensor or a list of them, got {type(tensor).__name__}"
        )
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or not len(images):
        raise ValueError(
            "[make_grid] needs images N×C×H×W of 1, 3 or 4 channels, got shape "
            f"{tensor.shape if isinstance(tensor, Tensor) else images.shape}"
        )
    return np.repeat(images, 3, 1) if images.shape[1] == 1 else images


def _normalized(images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    low, high = (images.min(), images.max()) if value_range is None else value_range
    clipped: np.ndarray = np.clip(images, low, high)
    return (clipped - low) / max(float(high - low), 1e-5)


def _tensor(array: np.ndarray) -> Tensor:
    return Tensor(np.ascontiguousarray(array), dtype=array.dtype, requires_grad=False)


__all__ = ["make_grid", "save_image"]
