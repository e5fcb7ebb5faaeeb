"""Data sets made of Tensors and of other data sets."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..random import host_generator
from ..typing import HostArray, HostGenerator
from .dataset import Dataset, Subset
from .iterable import IterableDataset

Samples: TypeAlias = Dataset | Sequence[Any]


class TensorDataset(Dataset):
    """Tensors of equal length side by side; an item is the tuple of their entries.

    Unlike `NDArrayDataset` it keeps the Tensors on their device, and a batch is gathered there.

    Parameters
    ----------
    *tensors : Tensor or array, shape (n, ...)
        One or more. No gradient flows to them.

    Raises
    ------
    ValueError
        If there is none or their lengths differ.

    Examples
    --------
    >>> import needle as ndl
    >>> dataset = ndl.data.TensorDataset(ndl.Tensor([[1, 2], [3, 4]]), ndl.Tensor([0, 1]))
    >>> dataset[1]
    (needle.Tensor([3. 4.]), needle.Tensor(1.0))
    """

    takes_index_arrays = True

    def __init__(self, *tensors: Tensor | HostArray) -> None:
        super().__init__()
        self.tensors = tuple(
            x.detach() if isinstance(x, Tensor) else Tensor(x, requires_grad=False) for x in tensors
        )
        lengths = {x.shape[0] if x.ndim else None for x in self.tensors}
        if len(lengths) != 1 or None in lengths:
            shapes = [x.shape for x in self.tensors]
            raise ValueError(
                f"[TensorDataset] needs one or more Tensors of equal length, got shapes {shapes}"
            )

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)


class StackDataset(Dataset):
    """Data sets of equal length side by side; an item has the samples of all at one index.

    Parameters
    ----------
    *datasets : Dataset or sequence
        The item is a tuple.
    **named : Dataset or sequence
        The item is a dict with these keys. Give either positions or names.

    Raises
    ------
    ValueError
        If there is none, the lengths differ, or both positions and names are given.

    Examples
    --------
    >>> from needle.data import StackDataset
    >>> StackDataset(image=[10, 11], label=["cat", "dog"])[1]
    {'image': 11, 'label': 'dog'}
    """

    def __init__(self, *datasets: Samples, **named: Samples) -> None:
        super().__init__()
        if bool(datasets) == bool(named):
            raise ValueError("[StackDataset] give data sets either by position or by name")
        self.datasets: tuple[Samples, ...] | dict[str, Samples] = datasets or named
        lengths = sorted({len(d) for d in (*datasets, *named.values())})
        if len(lengths) > 1:
            raise ValueError(f"[StackDataset] the lengths {lengths} differ")

    def __len__(self) -> int:
        datasets = self.datasets
        return len(next(iter(datasets.values())) if isinstance(datasets, dict) else datasets[0])

    def __getitem__(self, index: int) -> tuple[Any, ...] | dict[str, Any]:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)


class ConcatDataset(Dataset):
    """The samples of several data sets, one data set after the other.

    Parameters
    ----------
    datasets : iterable of Dataset or sequence
        One or more, with indices and lengths.

    Raises
    ------
    ValueError
        If there is none.
    TypeError
        If one is an IterableDataset.

    Examples
    --------
    >>> from needle.data import ConcatDataset
    >>> both = ConcatDataset([[1, 2], [3]])
    >>> len(both), both[2], both[-2]
    (3, 3, 2)
    """

    def __init__(self, datasets: Iterable[Samples]) -> None:
        super().__init__()
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("[ConcatDataset] needs at least one data set")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise TypeError("[ConcatDataset] takes no IterableDataset; ChainDataset joins those")
        self.cumulative_sizes = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"[ConcatDataset] index {index} of {len(self)} samples")
        number = bisect_right(self.cumulative_sizes, position)
        before = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][position - before]


def random_split(
    dataset: Dataset,
    lengths: Sequence[int] | Sequence[float],
    generator: HostGenerator | None = None,
) -> list[Subset]:
    """Divide a data set at random into parts that do not overlap.

    Parameters
    ----------
    dataset : Dataset or sequence
    lengths : sequence of int or float
        The lengths of the parts, or fractions that sum to 1. Fractions are rounded down, and the
        samples left over go to the first parts, one to each.
    generator : numpy.random.Generator or RandomState, optional
        Draws one permutation; NumPy's global generator by default.

    Returns
    -------
    list of Subset

    Raises
    ------
    ValueError
        If the lengths do not sum to that of the data set, or one is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from needle.data import random_split
    >>> train, test = random_split(range(10), [0.8, 0.2], np.random.default_rng(0))
    >>> len(train), len(test)
    (8, 2)
    """
    total = len(dataset)
    parts = _part_lengths(lengths, total)
    order = host_generator(generator, "random_split").permutation(total)
    ends = list(accumulate(parts))
    return [Subset(dataset, order[end - n : end]) for end, n in zip(ends, parts, strict=True)]


def _part_lengths(lengths: Sequence[int] | Sequence[float], total: int) -> list[int]:
    if any(n < 0 for n in lengths):
        raise ValueError(f"[random_split] lengths must not be negative, got {list(lengths)}")
    if any(isinstance(n, float) for n in lengths):
        if not math.isclose(sum(lengths), 1):
            raise ValueError(f"[random_split] fractions must sum to 1, got {list(lengths)}")
        parts = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(parts)):
            parts[i % len(parts)] += 1
        return parts
    parts = [whole(n, "random_split", "a length") for n in lengths]
    if sum(parts) != total:
        raise ValueError(
            f"[random_split] lengths {parts} sum to {sum(parts)}, the data set has {total} samples"
        )
    return parts
