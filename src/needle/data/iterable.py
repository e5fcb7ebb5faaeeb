"""Data sets that are streams: samples one after the other, without an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class IterableDataset:
    """A stream of samples: subclasses define `__iter__`, and `__len__` if the length is known.

    A `DataLoader` takes batches of successive samples. One worker thread fetches ahead. Worker
    processes have a copy of the data set each: divide the samples among them with
    `get_worker_info()`, or each sample comes once from every process.

    Examples
    --------
    >>> from needle.data import DataLoader, IterableDataset
    >>> class Squares(IterableDataset):
    ...     def __iter__(self):
    ...         return (i * i for i in range(5))
    >>> [batch.tolist() for batch in DataLoader(Squares(), batch_size=2)]
    [[0, 1], [4, 9], [16]]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: IterableDataset) -> ChainDataset:
        return ChainDataset([self, other])


class ChainDataset(IterableDataset):
    """The streams of several data sets, one after the other.

    Parameters
    ----------
    datasets : iterable of IterableDataset

    Raises
    ------
    TypeError
        If one of them is no IterableDataset.

    Examples
    --------
    >>> from needle.data import ChainDataset, IterableDataset
    >>> class Letters(IterableDataset):
    ...     def __iter__(self):
    ...         return iter("ab")
    >>> list(ChainDataset([Letters(), Letters()]))
    ['a', 'b', 'a', 'b']
    """

    def __init__(self, datasets: Iterable[IterableDataset]) -> None:
        self.datasets = list(datasets)
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(
                    f"[ChainDataset] takes IterableDatasets, got {type(dataset).__name__}; "
                    "ConcatDataset joins data sets with indices"
                )

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from dataset

    def __len__(self) -> int:
        return sum(map(len, self.datasets))  # type: ignore[arg-type]
