"""CIFAR-10: 50,000 training and 10,000 test photographs of ten classes, 32×32 pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Dataset, Transforms

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
CLASSES = 10
FILES = {True: tuple(f"data_batch_{i}" for i in range(1, 6)), False: ("test_batch",)}
SUFFIXES = ("", ".bin")  # the pickled and the binary version
MAX_BYTES = 64 << 20  # the official files have 31 MB; nothing much larger is read


class CIFAR10Dataset(Dataset):
    """CIFAR-10 from its files, pickled or binary.

    An item is (3×32×32 float32 in [0, 1] after transforms, label). `X` are the images (n×3×32×32
    uint8) and `y` the labels (n int64). A slice or an array of n indices gives (n×3×32×32, n
    labels). Pickles are read without running anything that they name.

    Parameters
    ----------
    base_folder : str or path
        The folder of `data_batch_1` to `data_batch_5` and `test_batch`, pickled as on CIFAR-10's
        page, or of the binary version, with `.bin` after each name.
    train : bool
        Whether the training set is wanted; False gives the test set.
    p : float, default 0.5
        Kept for programs that pass it; give `RandomFlipHorizontal(p)` as a transform to flip
        images.
    transforms : sequence of callable, optional
        Functions of one image, H×W×C, applied in order.

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
        base_folder: str | os.PathLike[str],
        train: bool,
        p: float = 0.5,
        transforms: Transforms | None = None,
    ) -> None:
        super().__init__(transforms)
        self.p = p
        batches = [read_batch(_find(Path(base_folder), name)) for name in FILES[bool(train)]]
        self.X = np.concatenate([images for images, _ in batches])
        self.y = np.concatenate([labels for _, labels in batches])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, Any]:
        images = self.X[index].astype(np.float32) / np.float32(255)
        if images.ndim == 3:
            return self._transformed(images[np.newaxis])[0], int(self.y[index])
        return self._transformed(images), self.y[index]

    def _transformed(self, images: np.ndarray) -> np.ndarray:
        """N×C×H×W in and out; each transform is given, and gives, H×W×C."""
        if not self.transforms:
            return images
        result = self.apply_transforms_to_each(images.transpose(0, 2, 3, 1))
        if result.ndim != 4:
            raise ValueError(
                "[CIFAR10Dataset] transforms must give an image H×W×C, got an array of shape "
                f"{result.shape[1:]}"
            )
        return np.ascontiguousarray(result.transpose(0, 3, 1, 2))


def cifar10(
    folder: str | os.PathLike[str], train: bool = True, transforms: Transforms | None = None
) -> CIFAR10Dataset:
    """CIFAR-10's training or test set from a folder.

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
    CIFAR10Dataset

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is not what was expected; the error names it.
    """
    return CIFAR10Dataset(folder, train, transforms=transforms)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (n, 3, 32, 32), labels int64 (n,)) of one file, pickled or binary (`.bin`).

    Raises OSError, or ValueError naming the file and what was expected.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES:,} bytes, found more")
        parse = _parse_binary if path.suffix == ".bin" else _parse_pickle
        images, labels = parse(content)
        if not len(labels):
            raise ValueError("expected images, found none")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise ValueError(
                f"expected labels from 0 to {CLASSES - 1}, found {labels.min()} to {labels.max()}"
            )
    except ValueError as error:
        raise ValueError(f"[CIFAR10Dataset] {os.fspath(path)!r}: {error}") from None
    return images.reshape(-1, *SHAPE), labels.astype(np.int64)


def check_batch(path: Path) -> str | None:
    """What is wrong with the file, in one line; None when it can be read."""
    if not path.is_file():
        return f"{path} is missing"
    try:
        read_batch(path)
    except ValueError as error:
        return str(error)
    return None


def _find(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / (name + suffix)).is_file():
            return folder / (name + suffix)
    raise FileNotFoundError(
        f"[CIFAR10Dataset] base_folder {os.fspath(folder)!r} must hold CIFAR-10's file {name!r} "
        f"(or {name + '.bin'!r}), which is not there"
    )


def _parse_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one label byte and 3072 pixels."""
    if len(content) % (1 + PIXELS):
        raise ValueError(f"expected rows of {1 + PIXELS} bytes, found {len(content):,} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _parse_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dict with `data` (n×3072 uint8) and `labels` (n integers)."""
    from .batch_pickle import load_pickled_batch  # imports pickle

    try:
        batch = load_pickled_batch(content)
    except ValueError as error:
        raise ValueError(f"expected a pickled CIFAR-10 batch, but {error}") from None
    missing = [key for key in ("data", "labels") if key not in batch]
    if missing:
        found = str(sorted(batch))[:200]
        raise ValueError(f"expected the keys 'data' and 'labels', found {found}")
    images, labels = batch["data"], _as_labels(batch["labels"])
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = str(getattr(images, "dtype", type(images).__name__))
        raise ValueError(f"expected 'data' to be an array of uint8, found {found}")
    if images.shape != (len(labels), PIXELS):
        raise ValueError(
            f"expected 'data' of shape ({len(labels)}, {PIXELS}) for {len(labels)} labels, found "
            f"{images.shape}"
        )
    return images, labels


def _as_labels(labels: object) -> np.ndarray:
    """A list of integers, or an array of them, as an array (n,)."""
    if isinstance(labels, list) and all(type(n) is int and abs(n) < 2**31 for n in labels):
        labels = np.array(labels, dtype=np.int64)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1:
        raise ValueError("expected 'labels' to be a list of integers")
    return labels
