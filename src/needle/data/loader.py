"""DataLoader: batches of Tensors, fetched here or ahead of time by worker threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import cuda, from_numpy, is_float
from ..backend_ndarray.layout import whole
from ..backend_selection import Device, as_device
from ..random import host_generator
from ..typing import DTypeLike, HostGenerator
from .dataset import Dataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from .transforms import use_random_state

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

PREFETCH_FACTOR = 2
WORKER = "needle-data"  # what the names of workers' threads begin with


# The indices of a batch.
Order: TypeAlias = Sequence[int] | np.ndarray


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
    """Samples stacked on a new first axis: tuples, lists and dicts field by field, as arrays.

    Raises ValueError when the shapes of a field differ between samples.
    """
    if not samples:
        raise ValueError("[DataLoader] a batch has no samples")
    first = samples[0]
    if isinstance(first, dict):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return _like(first, map(default_collate, zip(*samples, strict=True)))
    arrays = [np.asarray(s) for s in samples]
    if any(a.shape != arrays[0].shape for a in arrays):
        shapes = sorted({a.shape for a in arrays})
        raise ValueError(
            f"[DataLoader] the samples of a batch have different shapes {shapes}; make them equal "
            "with a transform or pass a collate_fn"
        )
    return np.stack(arrays)


def _like(
    sample: object, fields: Iterable[object], otherwise: type[tuple[object, ...]] = tuple
) -> tuple[object, ...]:
    """The fields as the sample's own type where that has names for them, or a tuple."""
    make = getattr(type(sample), "_make", None)
    return otherwise(fields) if make is None else make(fields)


class DataLoader:
    """Iterates over `dataset` in batches of Tensors that need no gradient.

    A batch has the form of a sample: a tuple with one Tensor a field (a named tuple, a dict, or one
    Tensor), each stacked on axis 0; the last short batch is kept unless `drop_last`. Two batches
    are compared by identity. With `shuffle` one permutation is drawn at each `iter()` from
    `generator`, a numpy.random.Generator or RandomState, by default NumPy's global one; a `sampler`
    gives the order instead, a `batch_sampler` whole batches of indices. Either may be endless; the
    loader has no length then.

    `num_workers` threads fetch ahead. Each batch's transforms then draw from a generator of their
    own, whose seed comes from `generator` or NumPy's global one: the timing does not matter. With
    `generator` the batches are the same for every number of workers, 0 as well. Without it and
    without workers, transforms draw from the global generator one after the other, as those of the
    course do. `device` and `dtype` are those of the Tensors (dtype: of float fields).

    For a GPU, give it as `device`, with a worker: that copies the next batches there while the GPU
    works on this one. Where batches are needed on the host first, `pin_memory` makes them there for
    `.to(device, non_blocking=True)`; without a GPU it does nothing.

    Raises TypeError or ValueError for arguments that contradict each other or are out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        generator: HostGenerator | None = None,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        pin_memory: bool = False,
    ) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise TypeError(
                "[DataLoader] dataset must have __getitem__ and __len__, got "
                f"{type(dataset).__name__}"
            )
        if sampler is not None and shuffle:
            raise ValueError("[DataLoader] give shuffle=True or a sampler, not both")
        if batch_sampler is not None and (
            shuffle or drop_last or sampler is not None or batch_size != 1
        ):
            raise ValueError(
                "[DataLoader] batch_sampler excludes batch_size, shuffle, sampler and drop_last"
            )
        num_workers = whole(num_workers, "DataLoader", "num_workers")
        if num_workers < 0:
            raise ValueError(f"[DataLoader] num_workers must not be negative, got {num_workers}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        if generator is not None:
            host_generator(generator, "DataLoader")
        self.generator = generator
        self.collate_fn = collate_fn
        self.device = None if device is None else as_device(device)
        self.dtype = dtype
        self.pin_memory = pin_memory
        if sampler is None:
            sampler = RandomSampler(dataset, generator) if shuffle else SequentialSampler(dataset)
        self.sampler: Iterable[int] | Sampler = sampler
        self.batch_sampler: Iterable[Order] = (
            BatchSampler(sampler, batch_size, drop_last) if batch_sampler is None else batch_sampler
        )
        self._batches: Iterator[object] | None = None

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        orders = iter(self.batch_sampler)  # here, so that the permutation is drawn now
        if self.num_workers:
            self._batches = ahead = _Ahead(
                self._fetch_seeded, orders, self._seeds(), self.num_workers
            )
            return _until_left(ahead)
        seeds = None if self.generator is None else self._seeds()
        self._batches = self._fetched(orders, seeds)
        return self._batches

    def __next__(self) -> Any:
        """The next batch of the latest `iter()` over this loader."""
        if self._batches is None:
            raise TypeError("[DataLoader] call iter() before next()")
        return next(self._batches)

    def _seeds(self) -> Iterator[int]:
        """A seed for each batch; one number is drawn from the generator now."""
        source = np.random if self.generator is None else self.generator
        draw = source.integers if isinstance(source, np.random.Generator) else source.randint
        seeds = np.random.RandomState(draw(2**31))
        return iter(lambda: seeds.randint(2**31), None)

    def _fetched(self, orders: Iterator[Order], seeds: Iterator[int] | None) -> Iterator[object]:
        for order in orders:
            if seeds is None:
                yield self._to_tensors(self._fetch(order))
            else:
                yield self._fetch_seeded(order, next(seeds))

    def _fetch_seeded(self, order: Order, seed: int) -> object:
        with use_random_state(np.random.RandomState(seed)):
            return self._to_tensors(self._fetch(order))

    def _fetch(self, order: Order) -> object:
        """The samples at these indices as arrays, stacked."""
        if self.collate_fn is None and getattr(self.dataset, "takes_index_arrays", False):
            indices = np.asarray(order)
            return self.dataset[indices if indices.size else indices.astype(np.int64)]
        samples = [self.dataset[whole(i, "DataLoader", "an index")] for i in order]
        return (self.collate_fn or default_collate)(samples)

    def _to_tensors(self, batch: object) -> object:
        if isinstance(batch, dict):
            return DictBatch((key, self._to_tensors(field)) for key, field in batch.items())
        if isinstance(batch, (tuple, list)):
            return _like(batch, map(self._to_tensors, batch), Batch)
        if isinstance(batch, Tensor):
            return batch
        tensor = Tensor(np.asarray(batch), device=self.device, requires_grad=False)
        wanted = self.dtype is not None and is_float(tensor.dtype)
        tensor = tensor.astype(self.dtype) if wanted else tensor
        return _pinned(tensor) if self.pin_memory else tensor


def _pinned(tensor: Tensor) -> Tensor:
    """A tensor of the host in memory that a GPU copies from by itself, where there is a GPU."""
    gpu = cuda()
    if not tensor.device.shares_memory or not gpu.enabled():
        return tensor
    copy = gpu.pinned_copy(np.asarray(tensor))
    return Tensor.make_const(from_numpy(copy, tensor.device))


class _Ahead:
    """The batches of `orders`, in order, fetched ahead by threads.

    `stop` ends the threads; a later `next` starts new ones and goes on where it was.
    """

    def __init__(
        self,
        fetch: Callable[[Order, int], object],
        orders: Iterator[Order],
        seeds: Iterator[int],
        num_workers: int,
    ) -> None:
        self._fetch, self._orders, self._seeds = fetch, orders, seeds
        self._num_workers = num_workers
        self._pending: deque[tuple[Order, int, Future[object]]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        if self._pool is None:
            self._start()
        try:
            while len(self._pending) <= PREFETCH_FACTOR * self._num_workers:
                order = next(self._orders)
                self._submit(order, next(self._seeds))
        except StopIteration:
            pass
        try:
            if not self._pending:
                raise StopIteration
            return self._pending.popleft()[2].result()
        except BaseException:  # the end, too
            self.stop()
            self._pending.clear()
            self._orders = iter(())
            raise

    def _start(self) -> None:
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and rarely needed

        self._pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix=WORKER)
        again = list(self._pending)
        self._pending.clear()
        for order, seed, future in again:
            if future.cancelled():
                self._submit(order, seed)
            else:
                self._pending.append((order, seed, future))

    def _submit(self, order: Order, seed: int) -> None:
        assert self._pool is not None
        self._pending.append((order, seed, self._pool.submit(self._fetch, order, seed)))

    def stop(self) -> None:
        """End the threads once they have fetched what they are at, and wait for that."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            in_a_worker = threading.current_thread().name.startswith(WORKER)  # garbage is anybody's
            pool.shutdown(wait=not in_a_worker, cancel_futures=True)


def _until_left(ahead: _Ahead) -> Iterator[object]:
    """What `iter(loader)` gives: where a loop is left early, the threads end with it."""
    try:
        yield from ahead
    finally:
        ahead.stop()
