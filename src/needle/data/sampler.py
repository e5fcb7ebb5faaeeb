"""Samplers: the order in which a loader visits a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np

from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ..random import host_generator
from ..typing import HostGenerator


def as_indices(indices: ArrayLike, what: str) -> np.ndarray:
    """A row of int64 indices. Raises TypeError for what are no integers."""
    array = np.asarray(indices).reshape(-1)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"[{what}] indices must be integers, got dtype {array.dtype}")
    return array.astype(np.int64)


class Sampler:
    """Indices in the order to visit; a fresh order at each `iter()`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")


class SequentialSampler(Sampler):
    """0, 1, … n - 1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """A permutation of all indices; draws one `permutation(n)` at each `iter()`.

    `generator` is a numpy.random.Generator or RandomState; NumPy's global one by default.
    """

    def __init__(self, data_source: Sized, generator: HostGenerator | None = None) -> None:
        self.data_source = data_source
        self.generator = host_generator(generator, "RandomSampler")

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class SubsetRandomSampler(Sampler):
    """The given indices in random order."""

    def __init__(self, indices: ArrayLike, generator: HostGenerator | None = None) -> None:
        self.indices = as_indices(indices, "SubsetRandomSampler")
        self.generator = host_generator(generator, "SubsetRandomSampler")

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(self.indices))

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """`num_samples` indices drawn with probabilities proportional to `weights`.

    Raises ValueError for weights that are negative, not finite or all zero, and for more samples
    than nonzero weights without replacement.
    """

    def __init__(
        self,
        weights: ArrayLike,
        num_samples: int,
        replacement: bool = True,
        generator: HostGenerator | None = None,
    ) -> None:
        w = np.asarray(weights, dtype=np.float64)
        usable = w.ndim == 1 and np.isfinite(w).all() and (w >= 0).all()
        if not usable or not w.sum() > 0:
            raise ValueError(
                "[WeightedRandomSampler] weights must be finite, not negative and not all zero"
            )
        num_samples = whole(num_samples, "WeightedRandomSampler", "num_samples")
        if not replacement and num_samples > np.count_nonzero(w):
            raise ValueError(
                f"[WeightedRandomSampler] num_samples={num_samples} without replacement exceeds "
                f"the {np.count_nonzero(w)} nonzero weights"
            )
        self.probabilities = w / w.sum()
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = host_generator(generator, "WeightedRandomSampler")

    def __iter__(self) -> Iterator[int]:
        n = len(self.probabilities)
        return iter(
            self.generator.choice(n, self.num_samples, self.replacement, self.probabilities)
        )

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Groups a sampler's indices into arrays of `batch_size`; the last one may be shorter.

    The sampler may be endless, or have no length; then this has none either.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        if isinstance(batch_size, bool):
            raise TypeError(f"[BatchSampler] batch_size must be an int, got {batch_size!r}")
        batch_size = whole(batch_size, "BatchSampler", "batch_size")
        if batch_size < 1:
            raise ValueError(f"[BatchSampler] batch_size must be at least 1, got {batch_size}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._grouped(iter(self.sampler))  # a permutation is drawn now

    def _grouped(self, indices: Iterator[int]) -> Iterator[np.ndarray]:
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield as_indices(batch, "BatchSampler")

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
