"""Data sets, text, transforms, samplers and the loader that makes batches of them."""

from typing import TYPE_CHECKING

from ..module_names import names_of
from . import vision
from .collate import default_collate
from .combined import ConcatDataset, StackDataset, TensorDataset, random_split
from .dataset import Dataset, NDArrayDataset, Subset
from .datasets import (
    CIFAR10Dataset,
    DatasetEntry,
    DigitsDataset,
    ImageFolder,
    MNISTDataset,
    cifar10,
    default_folder,
    get,
    list_datasets,
    mnist,
    parse_mnist,
    verify,
)
from .iterable import ChainDataset, IterableDataset
from .loader import DataLoader
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .text import (
    BytePairTokenizer,
    CharTokenizer,
    Corpus,
    Dictionary,
    TextDataset,
    batchify,
    get_batch,
    shakespeare,
)
from .transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomFlipHorizontal,
    Transform,
    random_state,
)
from .worker_info import WorkerInfo, get_worker_info

__all__ = [
    "BatchSampler",
    "BytePairTokenizer",
    "CIFAR10Dataset",
    "ChainDataset",
    "CharTokenizer",
    "Compose",
    "ConcatDataset",
    "Corpus",
    "DataLoader",
    "Dataset",
    "DatasetEntry",
    "Dictionary",
    "DigitsDataset",
    "ImageFolder",
    "IterableDataset",
    "MNISTDataset",
    "NDArrayDataset",
    "Normalize",
    "RandomCrop",
    "RandomFlipHorizontal",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "TextDataset",
    "Transform",
    "WeightedRandomSampler",
    "WorkerInfo",
    "batchify",
    "cifar10",
    "default_collate",
    "default_folder",
    "get",
    "get_batch",
    "get_worker_info",
    "list_datasets",
    "mnist",
    "parse_mnist",
    "random_split",
    "random_state",
    "shakespeare",
    "verify",
    "vision",
]

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.utils.data")
