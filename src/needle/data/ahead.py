"""Batches fetched ahead, in order, by workers: threads here, processes in `processes`."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from .fetch import END, Fetch, Order
from .worker_info import WorkerInfo, get_worker_info, set_worker_info

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

WORKER = "needle-data"  # what the names of workers begin with


class Workers(Protocol):
    """Several workers that fetch batches. A ticket stands for a batch that has been asked for."""

    def begin(self, seed: int) -> None:
        """Start a pass over the data; what was asked for before is forgotten."""

    def has_room(self) -> bool:
        """Whether another batch should be asked for now."""

    def submit(self, order: Order, seed: int) -> Any:
        """Ask for a batch; returns its ticket."""

    def result(self, ticket: Any, timeout: float | None) -> object:
        """The batch, or END. Tickets come in the order in which they were given.

        Raises what fetching it has raised, and TimeoutError after `timeout` seconds.
        """

    def survives(self, ticket: Any) -> bool:
        """Whether `result` works after `stop`."""

    def stop(self) -> None:
        """End the workers."""


class Ahead:
    """The batches of `orders`, in order, fetched ahead by workers.

    `stop` gives the workers back; a later `next` takes others and goes on where it was.
    """

    def __init__(
        self,
        take: Callable[[], Workers],
        give_back: Callable[[Workers, bool], None],
        orders: Iterator[Order],
        seeds: Iterator[int],
        *,
        timeout: float | None,
        can_resume: bool,
        asked: Iterable[tuple[Order, int]] = (),
    ) -> None:
        """`asked` are orders, and their seeds, that come before all others."""
        self._take, self._give_back = take, give_back
        self._orders, self._seeds = orders, seeds
        self._timeout, self._can_resume = timeout, can_resume
        # Order, seed, ticket.
        self._pending: deque[tuple[Order, int, Any]] = deque((*pair, None) for pair in asked)
        self._workers: Workers | None = None
        self._last: Workers | None = None  # whose tickets are pending

    @property
    def asked(self) -> list[tuple[Order, int]]:
        """What was asked for and not given out, with the seeds."""
        return [(order, seed) for order, seed, _ in self._pending]

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        try:
            workers = self._begun()
            while True:
                self._ask_ahead(workers)
                if not self._pending:
                    raise StopIteration
                batch = workers.result(self._pending.popleft()[2], self._timeout)
                if batch is not END:
                    return batch
        except BaseException as error:  # the end, too
            self._pending.clear()
            self._orders = iter(())
            self._release(failed=not isinstance(error, StopIteration))
            raise

    def _begun(self) -> Workers:
        if self._workers is None:
            last, self._workers = self._last, self._take()
            pending = list(self._pending)
            self._pending.clear()
            for order, seed, ticket in pending:
                if last is None or not last.survives(ticket):
                    ticket = self._workers.submit(order, seed)
                self._pending.append((order, seed, ticket))
        return self._workers

    def _ask_ahead(self, workers: Workers) -> None:
        while workers.has_room():
            try:
                order = next(self._orders)
            except StopIteration:
                return
            seed = next(self._seeds)
            self._pending.append((order, seed, workers.submit(order, seed)))

    def stop(self) -> None:
        """Give the workers back; an iterator over a stream, which they hold, ends with that."""
        if not self._can_resume:
            self._pending.clear()
            self._orders = iter(())
        self._release(failed=False)

    def _release(self, failed: bool) -> None:
        if self._workers is not None:
            self._last, self._workers = self._workers, None
            self._give_back(self._last, failed)


def until_left(batches: Iterator[object], ahead: Ahead) -> Iterator[object]:
    """What `iter(loader)` gives: where a loop is left early, the workers are given back with it."""
    try:
        yield from batches
    finally:
        ahead.stop()


class ThreadWorkers:
    """Threads of this process. They share `fetch`, so a stream has one thread only."""

    def __init__(
        self,
        count: int,
        fetch: Fetch,
        dataset: object,
        run: Callable[[Fetch, Order, int], object],
        worker_init_fn: Callable[[int], object] | None,
        prefetch_factor: int,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and rarely needed

        self._count, self._fetch, self._dataset, self._run = count, fetch, dataset, run
        self._init, self._most = worker_init_fn, prefetch_factor * count
        self._ids = itertools.count()
        self._waiting: deque[Future[object]] = deque()
        self._ended = self._hang = False
        self._seed = 0
        self._pool: ThreadPoolExecutor = ThreadPoolExecutor(count, thread_name_prefix=WORKER)

    def begin(self, seed: int) -> None:
        """Start a pass over the data."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._fetch.restart()
        self._seed, self._ended = seed, False

    def has_room(self) -> bool:
        """Whether fewer batches are waited for than may be."""
        return not self._ended and len(self._waiting) <= self._most

    def submit(self, order: Order, seed: int) -> Future[object]:
        """Ask for a batch; returns its future."""
        future = self._pool.submit(self._work, order, seed)
        self._waiting.append(future)
        return future

    def _work(self, order: Order, seed: int) -> object:
        info = get_worker_info()
        number = next(self._ids) if info is None else info.id
        if info is None or info.seed != self._seed + number:
            set_worker_info(WorkerInfo(number, self._count, self._seed + number, self._dataset))
        if info is None and self._init is not None:
            self._init(number)
        return self._run(self._fetch, order, seed)

    def result(self, ticket: Future[object], timeout: float | None) -> object:
        """The future's result."""
        if self._waiting and self._waiting[0] is ticket:
            self._waiting.popleft()
        try:
            batch = ticket.result(timeout)
        except TimeoutError:
            if ticket.done():  # the data set has raised it
                raise
            self._hang = True
            raise TimeoutError(f"[DataLoader] there is no batch after {timeout} s") from None
        self._ended |= batch is END
        return batch

    def survives(self, ticket: Future[object]) -> bool:
        """Whether a batch is kept: one that a thread has fetched is."""
        return not ticket.cancelled()

    def stop(self) -> None:
        """End the threads once they have fetched what they are at, and wait for that.

        It does not wait where `result` has waited too long already.
        """
        in_a_worker = threading.current_thread().name.startswith(WORKER)  # garbage is anybody's
        self._pool.shutdown(wait=not (in_a_worker or self._hang), cancel_futures=True)
