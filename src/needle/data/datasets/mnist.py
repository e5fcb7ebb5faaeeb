"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28×28 pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Dataset, Transforms
from .idx import read_idx

SIDE = 28
FILES = {
    True: ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    False: ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_mnist(
    image_filename: str | os.PathLike[str], label_filename: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (n, 28, 28), labels uint8 (n,)). Raises ValueError for others."""
    images, labels = read_idx(image_filename, 3), read_idx(label_filename, 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise ValueError(
            f"[mnist] {os.fspath(image_filename)!r}: expected images of {SIDE}×{SIDE}, found "
            f"{images.shape[1]}×{images.shape[2]}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"[mnist] {os.fspath(image_filename)!r} has {len(images)} images, "
            f"{os.fspath(label_filename)!r} {len(labels)} labels"
        )
    if labels.size and labels.max() > 9:
        raise ValueError(
            f"[mnist] {os.fspath(label_filename)!r}: labels must be 0 to 9, found {labels.max()}"
        )
    return images, labels


def parse_mnist(
    image_filename: str | os.PathLike[str], label_filename: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST's two files as arrays.

    Parameters
    ----------
    image_filename : str or path
        The images, a gzip-compressed IDX file.
    label_filename : str or path
        The labels, a gzip-compressed IDX file.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Images (n, 784) float32 in [0, 1], and labels (n,) uint8.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is not what was expected; the error names it.
    """
    images, labels = read_mnist(image_filename, label_filename)
    return _as_float(images.reshape(len(images), SIDE * SIDE)), labels


class MNISTDataset(Dataset):
    """MNIST from two IDX files.

    An item is (28×28×1 float32 in [0, 1] after transforms, label). A slice or an array of n indices
    gives (n×28×28×1, n labels), with the transforms applied to each image.

    Parameters
    ----------
    image_filename : str or path
        The images, a gzip-compressed IDX file.
    label_filename : str or path
        The labels, a gzip-compressed IDX file.
    transforms : sequence of callable, optional
        Functions of one sample's array, applied in order.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is not what was expected; the error names it.
    """

    takes_index_arrays = True

    def __init__(
        self,
        image_filename: str | os.PathLike[str],
        label_filename: str | os.PathLike[str],
        transforms: Transforms | None = None,
    ) -> None:
        super().__init__(transforms)
        images, self.labels = read_mnist(image_filename, label_filename)
        self.images = images[..., np.newaxis]  # kept as bytes: a quarter of the memory

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        images, labels = _as_float(self.images[index]), self.labels[index]
        if images.ndim == 3:
            return self.apply_transforms(images), labels
        return self.apply_transforms_to_each(images), labels


def mnist(
    folder: str | os.PathLike[str], train: bool = True, transforms: Transforms | None = None
) -> MNISTDataset:
    """MNIST's training or test set from a folder.

    Parameters
    ----------
    folder : str or path
        The folder of the files.
    train : bool, default True
        Whether the training set is wanted; False gives the test set.
    transforms : sequence of callable, optional
        Functions of one sample's array, applied in order.

    Returns
    -------
    MNISTDataset

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is not what was expected; the error names it.
    """
    images, labels = (Path(folder) / name for name in FILES[train])
    return MNISTDataset(images, labels, transforms)


def _as_float(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)
