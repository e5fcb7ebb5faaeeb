"""Ready-made data sets: their file formats, and downloads checked by SHA-256."""

from .cifar10 import CIFAR10Dataset, cifar10
from .digits import DigitsDataset
from .image_folder import ImageFolder
from .mnist import MNISTDataset, mnist, parse_mnist
from .registry import DatasetEntry, default_folder, get, list_datasets, verify

__all__ = [
    "CIFAR10Dataset",
    "DatasetEntry",
    "DigitsDataset",
    "ImageFolder",
    "MNISTDataset",
    "cifar10",
    "default_folder",
    "get",
    "list_datasets",
    "mnist",
    "parse_mnist",
    "verify",
]
