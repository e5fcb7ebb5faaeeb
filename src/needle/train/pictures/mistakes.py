"""A grid of the images that a classifier gets most wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from .canvas import give_title, new_figure, plain, save

COLUMNS = 6


def save_mistakes(
    path: str | os.PathLike[str], images: np.ndarray, captions: Sequence[str], title: str
) -> None:
    """Write a grid of images, each under its caption, as PNG.

    Parameters
    ----------
    path : path
        The file to write.
    images : array, shape (n, H, W, 1 or 3)
        Any range of values: each image is stretched to its own.
    captions : sequence of str
        One for each image.
    title : str

    Raises
    ------
    ValueError
        If there are no images, they have another shape, or the captions are fewer or more.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> images = np.random.rand(2, 8, 8, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_mistakes(folder + "/worst.png", images, ["a 3, taken for 8"] * 2, "digits")
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) != len(captions):
        raise ValueError(
            f"[save_mistakes] needs images (n, H, W, 1 or 3) with a caption each, "
            f"got {images.shape} and {len(captions)} captions"
        )
    if not len(images):
        raise ValueError("[save_mistakes] got no images")
    rows = -(-len(images) // COLUMNS)
    figure = new_figure(1.9 * COLUMNS, 2.3 * rows + 0.5)
    give_title(figure, title)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, image, caption in zip(panels, images, captions, strict=False):
        axes.imshow(_stretched(image), cmap="gray", vmin=0, vmax=1)
        axes.set_title("\n".join(plain(line, 32) for line in caption.split("\n")), fontsize=8)
    save(figure, path)


def _stretched(image: np.ndarray) -> np.ndarray:
    """The image with values from 0 to 1, without its last axis where that has length 1."""
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    shown: np.ndarray = (np.nan_to_num(image) - low) / max(high - low, 1e-12)
    return shown[..., 0] if image.shape[-1] == 1 else shown
