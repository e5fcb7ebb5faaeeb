"""How a batch is fetched: by indices, or as the next samples of an iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

from ..backend_ndarray.layout import whole
from .collate import default_collate
from .dataset import Dataset
from .iterable import IterableDataset

# The indices of a batch, the index of a single sample, or None for the next ones of an iterator.
Order: TypeAlias = Sequence[int] | np.ndarray | int | None
Collate: TypeAlias = Callable[[Any], Any]


class _End:
    """What a fetcher returns where its iterator has no samples left; one object a process."""

    def __reduce__(self) -> str:
        return "END"


END: Final = _End()


class Fetch(Protocol):
    """Makes one batch of arrays; it is pickled to a spawned worker."""

    def restart(self) -> None:
        """Begin a pass over the data."""

    def __call__(self, order: Order) -> object:
        """The batch at these indices, or END."""


class FetchByIndex:
    """Batches of a data set with `__getitem__`; single samples where not `batched`."""

    def __init__(self, dataset: Dataset, collate_fn: Collate | None, batched: bool) -> None:
        self.dataset, self.collate_fn, self.batched = dataset, collate_fn, batched

    def restart(self) -> None:
        """Nothing is kept between batches."""

    def __call__(self, order: Order) -> object:
        takes_arrays = getattr(self.dataset, "takes_index_arrays", False)
        if not self.batched:
            is_array = takes_arrays and isinstance(order, np.ndarray)
            sample = self.dataset[order if is_array else whole(order, "DataLoader", "an index")]
            return sample if self.collate_fn is None else self.collate_fn(sample)
        if self.collate_fn is None and takes_arrays:
            indices = np.asarray(order)
            return self.dataset[indices if indices.size else indices.astype(np.int64)]
        assert order is not None
        samples = [self.dataset[whole(i, "DataLoader", "an index")] for i in order]  # type: ignore[union-attr]
        return (self.collate_fn or default_collate)(samples)


class FetchInOrder:
    """Batches of the next `batch_size` samples of an IterableDataset, single ones for None."""

    def __init__(
        self,
        dataset: IterableDataset,
        collate_fn: Collate | None,
        batch_size: int | None,
        drop_last: bool,
    ) -> None:
        self.dataset, self.collate_fn = dataset, collate_fn
        self.batch_size, self.drop_last = batch_size, drop_last
        self._samples: Iterator[object] | None = None

    def restart(self) -> None:
        """Begin with the first sample again."""
        self._samples = None

    def __call__(self, order: Order) -> object:
        if self._samples is None:
            self._samples = iter(self.dataset)
        samples = list(islice(self._samples, self.batch_size or 1))
        if not samples or (self.drop_last and len(samples) < (self.batch_size or 1)):
            return END
        if self.batch_size is None:
            return samples[0] if self.collate_fn is None else self.collate_fn(samples[0])
        return (self.collate_fn or default_collate)(samples)
