"""Data sets with the arguments, attributes and items of `torchvision.datasets`.

An item is (image, label). Where torchvision has a Pillow image, the image is an array H×W×C of
bytes, which all transforms take; `transforms.ToTensor()` makes a Tensor C×H×W of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..autograd import Tensor
from ..data.dataset import Dataset
from ..data.datasets import cifar10 as _cifar10
from ..data.datasets import default_folder, get
from ..data.datasets import mnist as _mnist
from ..data.datasets.image_folder import ImageFolder as _ImageFolder
from ..data.datasets.mnist import FILES

Function: TypeAlias = Callable[[Any], Any]
Root: TypeAlias = str | os.PathLike[str]


class VisionDataset(Dataset):
    """Base class: images and labels by index, each after its function.

    A subclass defines `_image` and `_label`, or `__getitem__`, and `__len__`.

    Parameters
    ----------
    root : str or path
        The folder of the files.
    transform : callable, optional
        A function of an image.
    target_transform : callable, optional
        A function of a label.
    """

    classes: Sequence[str]

    def __init__(
        self,
        root: Root,
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.transform, self.target_transform = transform, target_transform

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    def _image(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def _label(self, index: int) -> int:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        image: Any = self._image(index)
        label: Any = self._label(index)
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label


class MNIST(VisionDataset):
    """70,000 handwritten digits, 28×28.

    The files are looked for in `root`, in `root`/MNIST/raw as torchvision lays them out, and where
    `needle.data.get("mnist")` puts them. `data` are the images (n×28×28, uint8), `targets` the
    labels (n, int64), both Tensors.

    Parameters
    ----------
    root : str or path
        The folder of the files.
    train : bool, default True
        Whether the training set is wanted; False gives the test set.
    transform : callable, optional
        A function of an image, an array 28×28×1 of bytes.
    target_transform : callable, optional
        A function of a label.
    download : bool, default False
        Whether files that are nowhere are downloaded to `root`/MNIST/raw.

    Raises
    ------
    FileNotFoundError
        If a file is missing and `download` is False.
    ValueError
        If a file is not what was expected; the error names it.
    """

    classes = tuple(f"{i} - {name}" for i, name in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    ))  # fmt: skip
    _dataset: str | None = "mnist"

    def __init__(
        self,
        root: Root,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform, target_transform)
        self.train = train
        images = _mnist(self._folder(download), train)
        self._pixels = images.images
        self.data = Tensor(images.images[..., 0], dtype="uint8", requires_grad=False)
        self.targets = Tensor(images.labels, dtype="int64", requires_grad=False)

    def _folder(self, download: bool) -> Path:
        """Where the files lie."""
        name = type(self).__name__
        raw = Path(self.root) / name / "raw"
        places = [Path(self.root), raw]
        if self._dataset is not None:
            places.append(default_folder(self._dataset))
        for place in places:
            if all((place / file).is_file() for file in FILES[bool(self.train)]):
                return place
        if download and self._dataset is not None:
            return get(self._dataset, raw)
        way_out = "download=True downloads it" if self._dataset else "put its files there"
        raise FileNotFoundError(
            f"[{name}] found no {FILES[bool(self.train)][0]} in {', '.join(map(str, places))}; "
            + way_out
        )

    def __len__(self) -> int:
        return len(self._pixels)

    def _image(self, index: int) -> np.ndarray:
        image: np.ndarray = self._pixels[index]
        return image

    def _label(self, index: int) -> int:
        return int(self.targets[index])


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, 28×28, in MNIST's format.

    The files, which needle does not download, are looked for in `root` and `root`/FashionMNIST/raw.

    Parameters
    ----------
    root, train, transform, target_transform, download
        As for `MNIST`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """

    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    )  # fmt: skip
    _dataset = None


class CIFAR10(VisionDataset):
    """60,000 photographs of ten classes, 32×32.

    The files are looked for in `root`, in `root`/cifar-10-batches-py, and where
    `needle.data.default_folder("cifar10")` says. `data` are the images (n×32×32×3, uint8), an
    array, and `targets` a list of the labels.

    Parameters
    ----------
    root : str or path
        The folder of the files.
    train : bool, default True
        Whether the training set is wanted; False gives the test set.
    transform : callable, optional
        A function of an image, an array 32×32×3 of bytes.
    target_transform : callable, optional
        A function of a label.
    download : bool, default False
        The error for missing files says where they are had by hand.

    Raises
    ------
    OSError
        If a file is missing.
    ValueError
        If a file is not what was expected; the error names it.
    """

    classes = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def __init__(
        self,
        root: Root,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform, target_transform)
        self.train = train
        folder = Path(root) / "cifar-10-batches-py"
        places = [Path(root), folder, default_folder("cifar10")]
        first = "data_batch_1" if train else "test_batch"
        found = (p for p in places for end in ("", ".bin") if (p / (first + end)).is_file())
        images = _cifar10(next(found, None) or get("cifar10", folder), train)
        self.data = np.ascontiguousarray(images.X.transpose(0, 2, 3, 1))
        self.targets: list[int] = images.y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def _image(self, index: int) -> np.ndarray:
        image: np.ndarray = self.data[index]
        return image

    def _label(self, index: int) -> int:
        return self.targets[index]


class ImageFolder(VisionDataset):
    """The images in the subfolders of a folder; each subfolder is a class.

    `samples` lists (path, label), `targets` the labels. Pillow reads the images.

    Parameters
    ----------
    root : str or path
        The folder.
    transform : callable, optional
        A function of an image, an array H×W×3 of bytes.
    target_transform : callable, optional
        A function of a label.

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
        root: Root,
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        super().__init__(root, transform, target_transform)
        self._files = _ImageFolder(root)
        self.classes = self._files.classes
        self.targets: list[int] = self._files.labels.tolist()
        paths = map(str, self._files.paths)
        self.samples = self.imgs = list(zip(paths, self.targets, strict=True))

    def __len__(self) -> int:
        return len(self.samples)

    def _image(self, index: int) -> np.ndarray:
        return self._files.pixels(index)

    def _label(self, index: int) -> int:
        return self.targets[index]


class FakeData(VisionDataset):
    """Random images and labels, the same at every visit: data for trying a program.

    Parameters
    ----------
    size : int, default 1000
        How many.
    image_size : (int, int, int), default (3, 224, 224)
        Channels, height and width.
    num_classes : int, default 10
        The labels are below it.
    transform, target_transform : callable, optional
        Functions of an image, an array H×W×C of bytes, and of a label.
    random_offset : int, default 0
        Is added to the seed of an image, which is its index.

    Examples
    --------
    >>> from needle.vision import datasets, transforms
    >>> image, label = datasets.FakeData(10, (3, 4, 4), transform=transforms.ToTensor())[0]
    >>> image.shape, 0 <= label < 10
    ((3, 4, 4), True)
    """

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        num_classes: int = 10,
        transform: Function | None = None,
        target_transform: Function | None = None,
        random_offset: int = 0,
    ) -> None:
        super().__init__("", transform, target_transform)
        self.size, self.image_size, self.num_classes = size, image_size, num_classes
        self.random_offset = random_offset
        self.classes = [str(i) for i in range(num_classes)]

    def __len__(self) -> int:
        return self.size

    def _random(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.size:
            raise IndexError(f"[FakeData] index must be in 0 … {self.size - 1}, got {index}")
        return np.random.default_rng(index + self.random_offset)

    def _image(self, index: int) -> np.ndarray:
        channels, height, width = self.image_size
        return self._random(index).integers(0, 256, (height, width, channels), np.uint8)

    def _label(self, index: int) -> int:
        return int(self._random(index).integers(self.num_classes))


__all__ = ["CIFAR10", "MNIST", "FakeData", "FashionMNIST", "ImageFolder", "VisionDataset"]
