"""Samplers: the order in which a loader visits a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice
from typing import Any

import numpy as np

from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ..random import checked_generator, host_generator
from ..typing import HostGenerator


def as_indices(indices: ArrayLike, what: str) -> np.ndarray:
    """A row of int64 indices. Raises TypeError for what are no integers."""
    array = np.asarray(indices).reshape(-1)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"[{what}] indices must be integers, got dtype {array.dtype}")
    return array.astype(np.int64)


class Sampler:
    """Base class of samplers: indices in the order to visit, a fresh order at each `iter()`.

    A subclass defines `__iter__` and, unless it is endless, `__len__`.

    Examples
    --------
    >>> import needle as ndl
    >>> class Backwards(ndl.data.Sampler):
    ...     def __iter__(self): return iter([2, 1, 0])
    >>> [i for i in Backwards()]
    [2, 1, 0]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")


class SequentialSampler(Sampler):
    """The indices 0, 1, … n - 1.

    Parameters
    ----------
    data_source : Dataset or other object with a length
        What the indices are for.

    Examples
    --------
    >>> import needle as ndl
    >>> list(ndl.data.SequentialSampler([5, 6, 7]))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """A permutation of all indices, drawn anew at each `iter()`.

    It draws one `permutation(n)`, more where more indices are wanted, or with `replacement` one
    `randint(0, n, num_samples)`.

    Parameters
    ----------
    data_source : Dataset or other object with a length
        What the indices are for.
    generator : numpy.random.Generator or RandomState, optional
        What is drawn from; NumPy's global generator if it is None.
    replacement : bool, default False
        Whether an index may be drawn again at any time.
    num_samples : int, optional
        How many indices are drawn; as many as there are by default.

    Raises
    ------
    TypeError
        If `generator` is of another kind, or `num_samples` no integer.
    ValueError
        If `num_samples` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> sorted(int(i) for i in ndl.data.RandomSampler([5, 6, 7]))
    [0, 1, 2]
    """

    def __init__(
        self,
        data_source: Sized,
        generator: HostGenerator | None = None,
        *,
        replacement: bool = False,
        num_samples: int | None = None,
    ) -> None:
        self.data_source = data_source
        self.generator = checked_generator(generator, "RandomSampler")
        self.replacement = replacement
        if num_samples is not None and whole(num_samples, "RandomSampler", "num_samples") < 1:
            raise ValueError(f"[RandomSampler] num_samples must be positive, got {num_samples}")
        self._num_samples = num_samples

    def __iter__(self) -> Iterator[int]:
        n, wanted = len(self.data_source), len(self)
        generator = host_generator(self.generator, "RandomSampler")
        if self.replacement:
            draw = getattr(generator, "integers", None) or generator.randint
            return iter(draw(0, n, wanted))
        rounds = [generator.permutation(n) for _ in range(-(-wanted // n) if n else 0)]
        return islice(chain.from_iterable(rounds), wanted)

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples


class SubsetRandomSampler(Sampler):
    """Given indices in random order.

    Parameters
    ----------
    indices : sequence of int
        The indices.
    generator : numpy.random.Generator or RandomState, optional
        What is drawn from; NumPy's global generator if it is None.

    Raises
    ------
    TypeError
        If the indices are not integers or `generator` is of another kind.

    Examples
    --------
    >>> import needle as ndl
    >>> sorted(int(i) for i in ndl.data.SubsetRandomSampler([4, 9]))
    [4, 9]
    """

    def __init__(self, indices: ArrayLike, generator: HostGenerator | None = None) -> None:
        self.indices = as_indices(indices, "SubsetRandomSampler")
        self.generator = checked_generator(generator, "SubsetRandomSampler")

    def __iter__(self) -> Iterator[int]:
        generator = host_generator(self.generator, "SubsetRandomSampler")
        return iter(generator.permutation(self.indices))

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Indices drawn with probabilities proportional to weights.

    Parameters
    ----------
    weights : sequence of float
        The weights of the indices.
    num_samples : int
        How many indices to draw.
    replacement : bool, default True
        Whether an index may be drawn again.
    generator : numpy.random.Generator or RandomState, optional
        What is drawn from; NumPy's global generator if it is None.

    Raises
    ------
    ValueError
        If the weights are negative, not finite or all zero, or if without replacement there are
        fewer nonzero weights than samples.

    Examples
    --------
    >>> import needle as ndl
    >>> [int(i) for i in ndl.data.WeightedRandomSampler([0, 1, 0], 3)]
    [1, 1, 1]
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
        self.generator = checked_generator(generator, "WeightedRandomSampler")

    def __iter__(self) -> Iterator[int]:
        n = len(self.probabilities)
        generator = host_generator(self.generator, "WeightedRandomSampler")
        return iter(generator.choice(n, self.num_samples, self.replacement, self.probabilities))

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """A sampler's indices in arrays of `batch_size`.

    Parameters
    ----------
    sampler : iterable of int
        The indices. It may be endless; the BatchSampler has no length then.
    batch_size : int
        The length of an array; at least 1.
    drop_last : bool, default False
        Whether a last shorter array is left out.

    Raises
    ------
    TypeError
        If `batch_size` is not an int.
    ValueError
        If `batch_size` is below 1.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.data.BatchSampler(range(3), 2)]
    [[0, 1], [2]]
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
