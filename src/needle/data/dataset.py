"""Dataset: samples by index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..operands import ArrayLike
from .sampler import as_indices

Transforms = Sequence[Callable[[np.ndarray], np.ndarray]]


class Dataset:
    """Base class of data sets: samples by index.

    A subclass defines `__getitem__` and `__len__`. With the class attribute `takes_index_arrays` it
    says that `__getitem__` also takes an array of indices and returns every field stacked; the
    DataLoader then fetches a batch in one call.

    Parameters
    ----------
    transforms : sequence of callable, optional
        Functions of one sample's array, applied in order.

    Examples
    --------
    >>> import needle as ndl
    >>> class Squares(ndl.data.Dataset):
    ...     def __getitem__(self, i): return i * i
    ...     def __len__(self): return 4
    >>> list(Squares())
    [0, 1, 4, 9]
    """

    takes_index_arrays = False

    def __init__(self, transforms: Transforms | None = None) -> None:
        self.transforms = transforms

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __add__(self, other: Dataset) -> Dataset:
        from .combined import ConcatDataset  # which is above

        return ConcatDataset([self, other])

    def apply_transforms(self, x: np.ndarray) -> np.ndarray:
        """`x` after all transforms."""
        for transform in self.transforms or ():
            x = transform(x)
        return x

    def apply_transforms_to_each(self, batch: np.ndarray) -> np.ndarray:
        """Every sample of a batch after all transforms, stacked again."""
        if not self.transforms or len(batch) == 0:
            return batch
        return np.stack([self.apply_transforms(x) for x in batch])


class NDArrayDataset(Dataset):
    """Arrays of equal length side by side; an item is the tuple of their entries.

    Parameters
    ----------
    *arrays : numpy.ndarray, NDArray or Tensor
        The fields, of one length.

    Raises
    ------
    ValueError
        If there are no arrays or their lengths differ.

    Examples
    --------
    >>> import needle as ndl
    >>> data = ndl.data.NDArrayDataset([[1, 2], [3, 4]], [0, 1])
    >>> len(data), data[1][0].tolist()
    (2, [3, 4])
    """

    takes_index_arrays = True

    def __init__(self, *arrays: ArrayLike) -> None:
        super().__init__()
        self.arrays = tuple(np.asarray(a) for a in arrays)
        lengths = {len(a) if a.ndim else None for a in self.arrays}
        if len(lengths) != 1 or None in lengths:
            shapes = [a.shape for a in self.arrays]
            raise ValueError(
                f"[NDArrayDataset] needs one or more arrays of equal length, got shapes {shapes}"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[np.ndarray, ...]:
        return tuple(a[index] for a in self.arrays)


class Subset(Dataset):
    """The samples of a data set at given indices, in that order.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    indices : sequence of int
        Which samples.

    Raises
    ------
    IndexError
        If an index is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> part = ndl.data.Subset(ndl.data.DigitsDataset(), [3, 5])
    >>> len(part)
    2
    """

    def __init__(self, dataset: Dataset, indices: ArrayLike) -> None:
        super().__init__()
        self.dataset = dataset
        self.indices = as_indices(indices, "Subset")
        self.takes_index_arrays = getattr(dataset, "takes_index_arrays", False)
        wrong = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if wrong.size:
            raise IndexError(
                f"[Subset] indices must lie in [0, {len(dataset)}), got {int(wrong[0])}"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        chosen = self.indices[index]
        return self.dataset[int(chosen) if np.ndim(chosen) == 0 else chosen]
