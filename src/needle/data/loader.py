"""DataLoader: batches of Tensors, fetched here or ahead of time by worker threads or processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend_ndarray.layout import whole
from ..backend_selection import Device, as_device
from ..random import checked_generator, host_generator, set_states, states_of
from ..typing import DTypeLike, HostGenerator, Json
from .ahead import Ahead, ThreadWorkers, Workers, until_left
from .collate import ToTensors
from .dataset import Dataset
from .fetch import END, Fetch, FetchByIndex, FetchInOrder, Order
from .iterable import IterableDataset
from .position import Position, Saved, generators_of, saved
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from .transforms import use_random_state

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

PREFETCH_FACTOR = 2


class DataLoader:
    """Iterates over `dataset` in batches of Tensors that need no gradient.

    A batch has the form of a sample: a tuple with one Tensor a field (a named tuple, a dict, or one
    Tensor; nested ones too), each stacked on axis 0. Fields of strings are lists. Two batches are
    compared by identity. Samplers may be endless; the loader has no length then.

    Workers fetch ahead: threads, or processes with `multiprocessing_context`. Threads share the
    data set and cost nothing to start; NumPy, Pillow and file reads run side by side in them.
    Processes are for transforms that spend their time in Python. Their arrays come back through
    shared memory, their errors with the traceback of the worker. They end with the loop, also where
    it is left early.

    With workers, each batch's transforms draw from a generator of their own, whose seed comes from
    `generator` or NumPy's global one: the timing does not matter. With `generator` the batches are
    the same for every number and kind of workers, 0 as well. Without it and without workers,
    transforms draw from the global generator one after the other, as those of the course do.

    For a GPU, give it as `device`, with a worker: that copies the next batches there while the GPU
    works on this one. Where batches are needed on the host first, `pin_memory` makes them there for
    `.to(device, non_blocking=True)`.

    Parameters
    ----------
    dataset : Dataset, IterableDataset or sequence
    batch_size : int or None
        None gives the samples one by one, as Tensors, without a batch axis.
    shuffle : bool
        Whether to draw one permutation at each `iter()`.
    sampler : iterable of int, optional
        The order of the indices, in place of `shuffle`.
    batch_sampler : iterable of sequences of int, optional
        The indices of whole batches, in place of `batch_size`, `shuffle`, `sampler`, `drop_last`.
    num_workers : int
        Threads or processes that fetch ahead; 0 fetches when a batch is asked for.
    collate_fn : callable, optional
        Makes a batch of a list of samples; `default_collate` by default. With `batch_size=None` it
        gets a single sample.
    drop_last : bool
        Whether a last short batch is left out.
    generator : numpy.random.Generator or RandomState, optional
        Draws the permutation and the seeds; NumPy's global one by default.
    device : Device or str, optional
        Where the Tensors are.
    dtype : dtype, optional
        That of floating fields.
    pin_memory : bool
        Whether the Tensors are in memory that a GPU copies from by itself; without a GPU it does
        nothing.
    timeout : float
        The most seconds to wait for a batch of a worker; 0 waits for ever.
    worker_init_fn : callable, optional
        Called with the number of each worker, in it, before its first batch.
    prefetch_factor : int, optional
        How many batches are asked for ahead, for each worker; 2 by default.
    persistent_workers : bool
        Whether workers live on between loops, with what their data set has cached.
    multiprocessing_context : {"fork", "spawn"} or context of multiprocessing, optional
        Makes the workers processes. Those that are spawned pickle the data set.

    Raises
    ------
    TypeError, ValueError
        For arguments that contradict each other or are out of range.

    Examples
    --------
    >>> from needle.data import DataLoader
    >>> [batch.tolist() for batch in DataLoader([3, 1, 4, 1, 5], batch_size=2)]
    [[3, 1], [4, 1], [5]]
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset | Sequence[Any],
        batch_size: int | None = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        generator: HostGenerator | None = None,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        pin_memory: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], object] | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        multiprocessing_context: str | BaseContext | None = None,
    ) -> None:
        is_stream = isinstance(dataset, IterableDataset)
        if not is_stream and not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise TypeError(
                "[DataLoader] dataset must have __getitem__ and __len__, or be an IterableDataset, "
                f"got {type(dataset).__name__}"
            )
        if is_stream and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "[DataLoader] an IterableDataset has no indices: shuffle, sampler and "
                "batch_sampler do not apply"
            )
        if sampler is not None and shuffle:
            raise ValueError("[DataLoader] give shuffle=True or a sampler, not both")
        if batch_sampler is not None and (
            shuffle or drop_last or sampler is not None or batch_size != 1
        ):
            raise ValueError(
                "[DataLoader] batch_sampler excludes batch_size, shuffle, sampler and drop_last"
            )
        if batch_size is None and drop_last:
            raise ValueError("[DataLoader] drop_last needs batches, and batch_size is None")
        if generator is not None:
            generator = checked_generator(generator, "DataLoader")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self.collate_fn = collate_fn
        self.device = None if device is None else as_device(device)
        self.dtype = dtype
        self.pin_memory = pin_memory
        self._set_workers(
            num_workers, timeout, worker_init_fn, prefetch_factor, persistent_workers,
            multiprocessing_context,
        )  # fmt: skip
        self._set_samplers(sampler, batch_sampler)
        self._position: Position | None = None  # of the latest pass
        self._saved: Saved | None = None  # where the next pass begins
        self._idle: Workers | None = None  # workers that live on between loops

    def _set_workers(
        self,
        num_workers: int,
        timeout: float,
        worker_init_fn: Callable[[int], object] | None,
        prefetch_factor: int | None,
        persistent_workers: bool,
        context: str | BaseContext | None,
    ) -> None:
        num_workers = whole(num_workers, "DataLoader", "num_workers")
        if num_workers < 0:
            raise ValueError(f"[DataLoader] num_workers must not be negative, got {num_workers}")
        if timeout < 0:
            raise ValueError(f"[DataLoader] timeout must not be negative, got {timeout}")
        for_workers = {
            "prefetch_factor": prefetch_factor, "persistent_workers": persistent_workers or None,
            "multiprocessing_context": context, "timeout": timeout or None,
        }  # fmt: skip
        for name, value in for_workers.items():
            if value is not None and not num_workers:
                raise ValueError(f"[DataLoader] {name}={value!r} needs num_workers of at least 1")
        if prefetch_factor is None:
            prefetch_factor = PREFETCH_FACTOR
        prefetch_factor = whole(prefetch_factor, "DataLoader", "prefetch_factor")
        if prefetch_factor < 1:
            raise ValueError(
                f"[DataLoader] prefetch_factor must be at least 1, got {prefetch_factor}"
            )
        self.num_workers, self.timeout = num_workers, timeout
        self.worker_init_fn, self.prefetch_factor = worker_init_fn, prefetch_factor
        self.persistent_workers = persistent_workers
        self.multiprocessing_context = _context(context) if isinstance(context, str) else context

    def _set_samplers(
        self, sampler: Iterable[int] | None, batch_sampler: Iterable[Sequence[int]] | None
    ) -> None:
        dataset = self.dataset
        self.sampler: Iterable[int] | Sampler | None = sampler
        self.batch_sampler: Iterable[Order] | None = batch_sampler
        if isinstance(dataset, IterableDataset):
            if self.batch_size is not None:
                BatchSampler((), self.batch_size)  # checks it
            return
        if sampler is None:
            shuffled = self.shuffle
            sampler = (
                RandomSampler(dataset, self.generator) if shuffled else SequentialSampler(dataset)
            )
        self.sampler = sampler
        if batch_sampler is None and self.batch_size is not None:
            self.batch_sampler = BatchSampler(sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        """The number of batches."""
        if not isinstance(self.dataset, IterableDataset):
            return len(self._order())  # type: ignore[arg-type]
        n, size = len(self.dataset), self.batch_size or 1  # type: ignore[arg-type]
        return n // size if self.drop_last else -(-n // size)

    def _order(self) -> Iterable[Order]:
        """What says which batch, or which sample, is next."""
        if isinstance(self.dataset, IterableDataset):
            return itertools.repeat(None)
        batches = self.sampler if self.batch_sampler is None else self.batch_sampler
        assert batches is not None
        return batches

    def __iter__(self) -> Iterator[Any]:
        place, self._saved = self._saved, None
        generators = generators_of(self)
        if place is not None:
            set_states(generators, place.start)
        start = states_of(generators)
        orders = iter(self._order())  # here, so that the permutation is drawn now
        base, seeds = self._seeds() if self.num_workers or self.generator is not None else (0, None)
        is_stream = isinstance(self.dataset, IterableDataset)
        given, asked = 0, list[tuple[Order, int]]()
        if place is not None and not is_stream:
            given, asked = place.given, place.asked
            for _ in range(given + len(asked)):
                next(orders, None)
                next(seeds or iter(()), None)
        if self.num_workers:
            assert seeds is not None
            ahead = Ahead(
                lambda: self._take_workers(base),
                self._give_back,
                orders,
                seeds,
                timeout=self.timeout or None,
                can_resume=not is_stream,
                asked=asked,
            )
            self._position = Position(start, ahead, given)
            batches = until_left(self._position, ahead)
        else:
            self._position = Position(start, self._fetched(orders, seeds), given)
            batches = self._position
        if place is not None:
            if is_stream:  # a stream has no index: its samples are read and dropped
                for _ in itertools.islice(batches, place.given):
                    pass
            set_states(generators, place.now)
        return batches

    def state_dict(self) -> Json:
        """Where the latest pass over this loader is, for `load_state_dict` in another process.

        Returns
        -------
        dict
            "given": the batches that were given out. "asked": what workers fetch ahead. "start",
            "now": where the loader's generators were at the beginning, and are.

        Examples
        --------
        >>> from needle.data import DataLoader
        >>> loader = DataLoader([3, 1, 4, 1, 5], batch_size=2)
        >>> next(iter(loader)).tolist(), loader.state_dict()["given"]
        ([3, 1], 1)
        """
        now, position = states_of(generators_of(self)), self._position
        if position is None or position.has_ended:
            return {"given": 0, "asked": [], "start": None, "now": now}
        return {
            "given": position.given, "asked": position.asked, "start": position.start, "now": now
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next `iter()` go on from a `state_dict`.

        The batches that were given out are passed over without loading them; an IterableDataset
        is read up to the place. The batches that follow are those of the other loader, bit for
        bit, for any kind of workers, where samplers and transforms draw from generators that the
        loader knows: its own, the samplers', NumPy's global one, `random_state()`.

        Parameters
        ----------
        state : dict
            What `state_dict` of a loader over the same data, of the same settings, has returned.

        Raises
        ------
        ValueError
            If it is something else.

        Examples
        --------
        >>> from needle.data import DataLoader
        >>> loaders = [DataLoader([3, 1, 4, 1, 5], batch_size=2) for _ in range(2)]
        >>> _ = next(iter(loaders[0]))
        >>> loaders[1].load_state_dict(loaders[0].state_dict())
        >>> [batch.tolist() for batch in loaders[1]]
        [[4, 1], [5]]
        """
        place = saved(state)
        if place.start is None:
            self._saved = None
            set_states(generators_of(self), place.now)
        else:
            self._saved = place

    def __next__(self) -> Any:
        """The next batch of the latest `iter()` over this loader."""
        if self._position is None:
            raise TypeError("[DataLoader] call iter() before next()")
        return next(self._position)

    def _seeds(self) -> tuple[int, Iterator[int]]:
        """A seed for the workers and one for each batch; one number is drawn now."""
        source = host_generator(self.generator, "DataLoader")
        draw = source.integers if isinstance(source, np.random.Generator) else source.randint
        base = int(draw(2**31))
        seeds = np.random.RandomState(base)
        return base, iter(lambda: seeds.randint(2**31), None)

    # ---- fetching -------------------------------------------------------------------------------

    def _fetch(self) -> Fetch:
        if isinstance(self.dataset, IterableDataset):
            return FetchInOrder(self.dataset, self.collate_fn, self.batch_size, self.drop_last)
        batched = self.batch_sampler is not None
        return FetchByIndex(self.dataset, self.collate_fn, batched)  # type: ignore[arg-type]

    def _fetched(self, orders: Iterator[Order], seeds: Iterator[int] | None) -> Iterator[object]:
        fetch, to_tensors = self._fetch(), self._to_tensors()
        for order in orders:
            if seeds is None:
                batch = fetch(order)
                batch = batch if batch is END else to_tensors(batch)
            else:
                batch = _fetch_seeded(fetch, to_tensors, order, next(seeds))
            if batch is END:
                return
            yield batch

    def _to_tensors(self) -> ToTensors:
        return ToTensors(self.device, self.dtype, self.pin_memory)

    # ---- workers --------------------------------------------------------------------------------

    def _take_workers(self, seed: int) -> Workers:
        """Workers that are at the beginning of the data: those that live on, or new ones."""
        workers, self._idle = self._idle, None
        if workers is None:
            workers = self._new_workers()
        workers.begin(seed)
        return workers

    def _new_workers(self) -> Workers:
        fetch, to_tensors = self._fetch(), self._to_tensors()
        if self.multiprocessing_context is None:
            is_stream = isinstance(self.dataset, IterableDataset)
            return ThreadWorkers(
                1 if is_stream else self.num_workers,  # one iterator is for one thread
                fetch,
                self.dataset,
                lambda fetch, order, seed: _fetch_seeded(fetch, to_tensors, order, seed),
                self.worker_init_fn,
                self.prefetch_factor,
            )
        from .processes import ProcessWorkers  # multiprocessing is slow to import

        return ProcessWorkers(
            self.multiprocessing_context, self.num_workers, fetch, self.dataset, to_tensors,
            self.worker_init_fn, self.prefetch_factor,
        )  # fmt: skip

    def _give_back(self, workers: Workers, failed: bool) -> None:
        if self.persistent_workers and not failed and self._idle is None:
            self._idle = workers
        else:
            workers.stop()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_idle": None, "_position": None}


def _fetch_seeded(fetch: Fetch, to_tensors: ToTensors, order: Order, seed: int) -> object:
    with use_random_state(np.random.RandomState(seed)):
        batch = fetch(order)
        return batch if batch is END else to_tensors(batch)


def _context(name: str) -> BaseContext:
    import multiprocessing

    if name not in (known := multiprocessing.get_all_start_methods()):
        raise ValueError(
            f"[DataLoader] multiprocessing_context must be one of {', '.join(known)}, got {name!r}"
        )
    return multiprocessing.get_context(name)
