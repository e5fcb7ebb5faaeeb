"""From samples to a batch: stacked arrays first, then Tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import cuda, from_numpy, is_float
from ..backend_selection import Device
from ..typing import DTypeLike


class _ComparedByIdentity:
    """Two batches are equal if they are one object: comparing Tensors gives no truth value."""

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class Batch(_ComparedByIdentity, tuple[Any, ...]):
    """The fields of a batch; `==` and `!=` between batches compare by identity."""


class DictBatch(_ComparedByIdentity, dict[Any, Any]):  # type: ignore[misc]
    """The named fields of a batch; `==` and `!=` between batches compare by identity."""


def default_collate(samples: Sequence[Any]) -> Any:
    """Stack the samples of a batch on a new first axis.

    Tuples, named tuples, lists and dicts are stacked field by field, at any depth. Strings and
    bytes are not stacked; a field of them becomes a list.

    Parameters
    ----------
    samples : sequence
        At least one sample, all of one structure: arrays, numbers, Tensors, Pillow images, strings,
        or tuples, lists and dicts of them.

    Returns
    -------
    array, list, tuple or dict
        The structure of a sample, with arrays for its numbers. A list becomes a tuple.

    Raises
    ------
    ValueError
        If there are no samples, or the shapes, lengths or keys of a field differ.
    TypeError
        If a field is of a type that has no array.

    Examples
    --------
    >>> from needle.data import default_collate
    >>> default_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
    {'x': array([1, 2]), 'name': ['a', 'b']}
    """
    if not samples:
        raise ValueError("[DataLoader] a batch has no samples")
    first = samples[0]
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, dict):
        if any(s.keys() != first.keys() for s in samples):
            raise ValueError("[DataLoader] the samples of a batch are dicts with different keys")
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(s) != len(first) for s in samples):
            lengths = sorted({len(s) for s in samples})
            raise ValueError(
                f"[DataLoader] the samples of a batch have different lengths {lengths}; make them "
                "equal with a transform or pass a collate_fn"
            )
        return like(first, map(default_collate, zip(*samples, strict=True)))
    return _stacked([np.asarray(s) for s in samples], type(first))


def _stacked(arrays: list[np.ndarray], kind: type) -> np.ndarray:
    if any(a.shape != arrays[0].shape for a in arrays):
        shapes = sorted({a.shape for a in arrays})
        raise ValueError(
            f"[DataLoader] the samples of a batch have different shapes {shapes}; make them equal "
            "with a transform or pass a collate_fn"
        )
    if arrays[0].dtype == object:
        raise TypeError(
            f"[DataLoader] samples of type {kind.__name__} cannot be stacked; return arrays, "
            "numbers, strings or tuples, lists and dicts of them, or pass a collate_fn"
        )
    return np.stack(arrays)


def like(
    sample: object, fields: Iterable[object], otherwise: type[tuple[object, ...]] = tuple
) -> tuple[object, ...]:
    """The fields as the sample's own type where that has names for them, or a tuple."""
    make = getattr(type(sample), "_make", None)
    return otherwise(fields) if make is None else make(fields)


class ToTensors:
    """Makes Tensors that need no gradient of all arrays and numbers of a batch.

    `dtype` is that of floating fields. Strings and objects of unknown types stay as they are.
    """

    def __init__(self, device: Device | None, dtype: DTypeLike | None, pin_memory: bool) -> None:
        self.device, self.dtype, self.pin_memory = device, dtype, pin_memory

    def __call__(self, batch: object) -> object:
        if isinstance(batch, dict):
            return DictBatch((key, self(field)) for key, field in batch.items())
        if isinstance(batch, list) and batch and all(isinstance(s, (str, bytes)) for s in batch):
            return batch
        if isinstance(batch, (tuple, list)):
            return like(batch, map(self, batch), Batch)
        if isinstance(batch, Tensor):
            return self._converted(batch if self.device is None else batch.to(self.device))
        host = None if isinstance(batch, (str, bytes)) else np.asarray(batch)
        if host is None or host.dtype == object:
            return batch
        return self._converted(Tensor(host, device=self.device, requires_grad=False))

    def _converted(self, tensor: Tensor) -> Tensor:
        if self.dtype is not None and is_float(tensor.dtype):
            tensor = tensor.astype(self.dtype)
        return _pinned(tensor) if self.pin_memory else tensor


def _pinned(tensor: Tensor) -> Tensor:
    """A tensor of the host in memory that a GPU copies from by itself, where there is a GPU."""
    gpu = cuda()
    if not tensor.device.shares_memory or not gpu.enabled():
        return tensor
    copy = gpu.pinned_copy(np.asarray(tensor))
    return Tensor.make_const(from_numpy(copy, tensor.device))
