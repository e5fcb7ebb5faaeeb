"""Tasks of images: digits, MNIST, CIFAR-10, and folders with one subfolder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import data, nn
from ...data import vision
from ...typing import Json
from ..metrics import Accuracy
from .task import Batches, Task, check_paths

DIGITS = tuple("0123456789")
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
VALIDATION_FOLDERS = ("val", "valid", "validation", "test")


def digits(folder: Path, state: Json | None) -> Task:
    """The digits that come with needle; a fifth of them, always the same, is for validation."""
    train = ChannelsFirst(data.DigitsDataset(train=True))
    held_out = ChannelsFirst(data.DigitsDataset(train=False))
    title = f"{len(train):,} + {len(held_out):,} handwritten digits of 8×8 pixels"
    return _classification("digits", title, train, held_out, DIGITS)


def mnist(folder: Path, state: Json | None, crop: int = 2) -> Task:
    """MNIST from its four files, shifted by up to `crop` pixels for training; tested on its own."""
    shifted = [data.RandomCrop(crop)] if crop else []
    train = ChannelsFirst(data.mnist(folder, train=True, transforms=shifted))
    test = ChannelsFirst(data.mnist(folder, train=False))
    title = f"MNIST: {_part(len(train), 60_000, 'training')} and {_part(len(test), 10_000, 'test')}"
    return _classification("mnist", f"{title} digits", train, test, DIGITS)


def cifar10(
    folder: Path, state: Json | None, crop: int = 4, flip: bool = True, erase: int = 8
) -> Task:
    """CIFAR-10 from its files; shifted, mirrored and with a hole for training.

    The shift is up to `crop` pixels, and the hole a square with a side of `erase` pixels.
    """
    if not 0 <= erase < 32:
        raise ValueError(f"[cifar10] erase must be 0 to 31 pixels, got {erase}")
    augmented: list[data.Transform] = [data.RandomCrop(crop)] if crop else []
    augmented += [data.RandomFlipHorizontal()] if flip else []
    if erase:
        area = (erase / 32) ** 2
        augmented.append(vision.RandomErasing(1.0, scale=(area, area), ratio=(1, 1)))
    train = data.cifar10(folder, train=True, transforms=augmented)
    test = data.cifar10(folder, train=False)
    parts = f"{_part(len(train), 50_000, 'training')} and {_part(len(test), 10_000, 'test')}"
    return _classification("cifar10", f"CIFAR-10: {parts} photographs", train, test, CIFAR10)


def images(
    paths: Sequence[Path], state: Json | None, size: int = 32, validation: float = 0.1
) -> Task:
    """Images of any sizes in a folder with one subfolder a class.

    They are scaled and cropped to `size`. Validation is on the images in `val`, where the folder
    holds `train` and `val`, or on a part of each class.
    """
    root = _one_folder(paths)
    if not 0 < validation < 1:
        raise ValueError(f"[images] validation must lie in (0, 1), got {validation}")
    if size < 1:
        raise ValueError(f"[images] size must be at least 1, got {size}")
    augmented = [vision.RandomResizedCrop(size, scale=(0.5, 1.0)), data.RandomFlipHorizontal()]
    plain = [vision.Resize(size), vision.CenterCrop(size)]
    train_root, validation_root = _parts_of(root)
    train: data.Dataset = data.ImageFolder(train_root, [*augmented, scaled])
    held_out: data.Dataset = data.ImageFolder(validation_root, [*plain, scaled])
    assert isinstance(train, data.ImageFolder)
    assert isinstance(held_out, data.ImageFolder)
    classes = tuple(train.classes)
    if len(classes) < 2:
        raise ValueError(
            f"[images] {str(train_root)!r} must hold a folder for each of two classes or more, "
            f"found only {classes[0]!r}"
        )
    if tuple(held_out.classes) != classes:
        differing = sorted(set(classes) ^ set(held_out.classes))
        raise ValueError(
            f"[images] {str(train_root)!r} and {str(validation_root)!r} must have the same "
            f"classes, but only one of them has {', '.join(differing[:5])}"
        )
    if train_root == validation_root:
        chosen = _held_out(train.labels, validation)
        train = data.Subset(train, np.flatnonzero(~chosen))
        held_out = data.Subset(held_out, np.flatnonzero(chosen))
    title = f"{len(train):,} + {len(held_out):,} images of {len(classes)} classes in {root.name}"
    return _classification(
        "images", title, train, held_out, classes, {"classes": list(classes), "size": size}
    )


def _classification(
    name: str,
    title: str,
    train: data.Dataset,
    validation: data.Dataset,
    classes: tuple[str, ...],
    state: Json | None = None,
) -> Task:
    def batches(batch_size: int, workers: int) -> Batches:
        return data.DataLoader(train, batch_size, shuffle=True, drop_last=True, num_workers=workers)

    return Task(
        name, title, batches, data.DataLoader(validation, 500), len(train), len(validation),
        "images", nn.SoftmaxLoss(), {"accuracy": Accuracy()}, "validation/accuracy", classes,
        state or {}, {"num_classes": len(classes)},
    )  # fmt: skip


def _part(found: int, whole: int, what: str) -> str:
    count = f"{found:,}" if found == whole else f"{found:,} of the {whole:,}"
    return f"{count} {what}"


def _one_folder(paths: Sequence[Path]) -> Path:
    if len(paths) != 1:
        raise ValueError(f"[images] give one folder, got {len(paths)}")
    check_paths(paths, "images")
    if not paths[0].is_dir():
        raise NotADirectoryError(f"[images] {str(paths[0])!r} must be a folder of folders")
    return paths[0]


def _parts_of(root: Path) -> tuple[Path, Path]:
    """The folders of the training and the validation images; the same where they are not apart."""
    found = [root / name for name in VALIDATION_FOLDERS if (root / name).is_dir()]
    if (root / "train").is_dir() and found:
        return root / "train", found[0]
    return root, root


def _held_out(labels: np.ndarray, part: float) -> np.ndarray:
    """Which samples are held out: of each class the same part, at least one, always the same."""
    chosen = np.zeros(len(labels), bool)
    draw = np.random.RandomState(0)
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError("[images] each class must have two images or more: one to measure on")
        chosen[members[: max(1, round(part * len(members)))]] = True
    return chosen


class ChannelsFirst(data.Dataset):
    """Images …×H×W×C of another data set as …×C×H×W, a batch at a time.

    Parameters
    ----------
    dataset : Dataset
        Its items are (image, label), and it takes arrays of indices.
    """

    takes_index_arrays = True

    def __init__(self, dataset: data.Dataset) -> None:
        super().__init__()
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, Any]:
        images, labels = self.dataset[index]
        return channels_first(images), labels


def channels_first(images: np.ndarray) -> np.ndarray:
    """…×H×W×C → …×C×H×W, as every model of images takes them."""
    return np.ascontiguousarray(np.moveaxis(images, -1, -3))


def scaled(image: np.ndarray) -> np.ndarray:
    """H×W×3 in [0, 1] → 3×H×W, of about mean 0 and deviation 1."""
    scaled = (image - np.float32(0.45)) / np.float32(0.25)
    return channels_first(scaled.astype(np.float32, copy=False))
