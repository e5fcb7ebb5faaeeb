"""Data sets, transforms, samplers and the loader that makes batches of them."""

from .dataset import Dataset, NDArrayDataset, Subset
from .datasets import (
    DatasetEntry,
    DigitsDataset,
    MNISTDataset,
    default_folder,
    get,
    list_datasets,
    mnist,
    parse_mnist,
    verify,
)
from .loader import DataLoader, default_collate
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomFlipHorizontal,
    Transform,
    random_state,
)

__all__ = [
    "BatchSampler",
    "Compose",
    "DataLoader",
    "Dataset",
    "DatasetEntry",
    "DigitsDataset",
    "MNISTDataset",
    "NDArrayDataset",
    "Normalize",
    "RandomCrop",
    "RandomFlipHorizontal",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "Transform",
    "WeightedRandomSampler",
    "default_collate",
    "default_folder",
    "get",
    "list_datasets",
    "mnist",
    "parse_mnist",
    "random_state",
    "verify",
]
