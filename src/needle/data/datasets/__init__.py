"""Ready-made data sets: their file formats, and downloads checked by SHA-256."""

from .digits import DigitsDataset
from .mnist import MNISTDataset, mnist, parse_mnist
from .registry import DatasetEntry, default_folder, get, list_datasets, verify

__all__ = [
    "DatasetEntry",
    "DigitsDataset",
    "MNISTDataset",
    "default_folder",
    "get",
    "list_datasets",
    "mnist",
    "parse_mnist",
    "verify",
]
