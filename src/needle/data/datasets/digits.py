"""The 1,797 handwritten digits of 8×8 pixels that come with the package."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Dataset, Transforms

HELD_OUT = 5  # one sample in this many is held out for testing


class DigitsDataset(Dataset):
    """Handwritten digits of 8×8 pixels, which come with needle.

    An item is (8×8×1 float32 in [0, 1] after transforms, label uint8).

    Parameters
    ----------
    train : bool, default True
        Whether four fifths are wanted, or the held-out fifth. The split is always the same, with
        the same share of each digit.
    transforms : sequence of callable, optional
        Functions of one sample's array, applied in order.

    References
    ----------
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, CC BY 4.0.

    Examples
    --------
    >>> import needle as ndl
    >>> image, label = ndl.data.DigitsDataset()[0]
    >>> image.shape, int(label)
    ((8, 8, 1), 0)
    """

    takes_index_arrays = True

    def __init__(self, train: bool = True, transforms: Transforms | None = None) -> None:
        super().__init__(transforms)
        images, labels = _load()
        chosen = np.flatnonzero(_held_out(labels) != train)
        self.images, self.labels = images[chosen], labels[chosen]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self.images[index], self.labels[index]
        if images.ndim == 3:
            return self.apply_transforms(images), labels
        return self.apply_transforms_to_each(images), labels


@cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(Path(__file__).parent / "files" / "digits.csv.gz", "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    images = table[:, :64].reshape(-1, 8, 8, 1).astype(np.float32) / 16
    return images, table[:, 64].copy()


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Which samples are held out. RandomState's streams never change between NumPy versions."""
    draw = np.random.RandomState(0)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        samples = draw.permutation(np.flatnonzero(labels == digit))
        held_out[samples[: round(len(samples) / HELD_OUT)]] = True
    return held_out
