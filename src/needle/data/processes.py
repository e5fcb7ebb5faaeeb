"""Worker processes of a loader, for transforms in Python, which threads cannot run side by side.

Each worker has a pipe of its own. The parent asks for batches, the worker answers in the same
order, and the arrays go through shared memory (`shared_batch`). The parent waits for the pipe of
the worker whose batch is next. The pipe of a process that was killed ends, so that is an error and
the parent does not hang.
"""

from __future__ import annotations

import os
import pickle
import random
import secrets
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import NoReturn, TypeAlias

import numpy as np

from ..backend_ndarray import set_num_threads
from .ahead import WORKER
from .fetch import END, Fetch, Order
from .shared_batch import Packed, Reader, Writer
from .transforms import use_random_state
from .worker_info import WorkerInfo, set_worker_info

GRACE = 1.0  # seconds that a worker has to end by itself

Init: TypeAlias = Callable[[int], object]


@dataclass(frozen=True)
class _Begin:
    """Start a pass over the data."""

    seed: int


@dataclass(frozen=True)
class _Task:
    """Fetch a batch into a slot of shared memory."""

    order: Order
    seed: int
    slot: int


@dataclass(frozen=True)
class _Failed:
    """What fetching a batch has raised, and the worker's traceback."""

    error: BaseException
    trace: str


# ---- the worker's side --------------------------------------------------------------------------


@dataclass
class _Job:
    """All that a worker needs, pickled where it is spawned."""

    info: WorkerInfo
    fetch: Fetch
    worker_init_fn: Init | None
    segments: list[str]


def _work(connection: Connection, inherited: list[Connection], job: _Job) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    for other in inherited:  # a pipe ends only when all copies of an end are closed
        other.close()
    set_num_threads(1)
    tasks: SimpleQueue[_Begin | _Task | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    writer, failed = Writer(job.segments), None
    while (task := tasks.get()) is not None:
        try:
            if isinstance(task, _Begin):
                failed = None
                _begin(job, task.seed)
                continue
            answer = failed or _fetch(job.fetch, task, writer)
        except Exception as error:
            answer = _Failed(_picklable(error), traceback.format_exc())
            if isinstance(task, _Begin):  # the tasks that follow are answered so
                failed = answer
                continue
        try:
            connection.send(answer)
        except OSError:  # the parent has closed its end
            return


def _receive(connection: Connection, tasks: SimpleQueue[_Begin | _Task | None]) -> None:
    """Take tasks off the pipe at once, so that the parent never waits with sending one."""
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):  # the parent has died
            os._exit(1)
        tasks.put(task)
        if task is None:
            return


_begun = False


def _begin(job: _Job, seed: int) -> None:
    global _begun
    random.seed(seed)
    np.random.seed(seed % 2**32)
    info = WorkerInfo(job.info.id, job.info.num_workers, seed, job.info.dataset)
    set_worker_info(info)
    if not _begun and job.worker_init_fn is not None:
        job.worker_init_fn(info.id)
    _begun = True
    job.fetch.restart()


def _fetch(fetch: Fetch, task: _Task, writer: Writer) -> Packed | object:
    with use_random_state(np.random.RandomState(task.seed)):
        batch = fetch(task.order)
    return END if batch is END else writer.write(task.slot, batch)


def _picklable(error: BaseException) -> BaseException:
    """The error, or a RuntimeError with its text where another process cannot have it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


# ---- the parent's side --------------------------------------------------------------------------


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    reader: Reader
    asked: int = 0
    answered: int = 0
    has_ended: bool = False  # its part of a stream is at the end


class ProcessWorkers:
    """Worker processes; a ticket is the number of a worker, whose next answer it is."""

    def __init__(
        self,
        context: BaseContext,
        count: int,
        fetch: Fetch,
        dataset: object,
        finish: Callable[[object], object],
        worker_init_fn: Init | None,
        prefetch_factor: int,
    ) -> None:
        self._finish, self._slots = finish, prefetch_factor
        self._workers: list[_Worker] = []
        self._next = 0
        self._token = f"ndl_{os.getpid():x}_{secrets.token_hex(3)}"
        resource_tracker.ensure_running()  # one for all: it removes segments if this process dies
        self.stop = weakref.finalize(self, _stop, self._workers, os.getpid())
        try:
            for number in range(count):
                info = WorkerInfo(number, count, 0, dataset)
                self._start(context, info, fetch, worker_init_fn)
        except BaseException:
            self.stop()
            raise

    def _start(
        self, context: BaseContext, info: WorkerInfo, fetch: Fetch, worker_init_fn: Init | None
    ) -> None:
        ours, theirs = context.Pipe()
        segments = [f"{self._token}_{info.id}_{slot}" for slot in range(self._slots)]
        forked = context.get_start_method() == "fork"
        inherited = [ours, *(w.connection for w in self._workers)] if forked else []
        process = context.Process(  # type: ignore[attr-defined]
            target=_work,
            args=(theirs, inherited, _Job(info, fetch, worker_init_fn, segments)),
            name=f"{WORKER}-{info.id}",
            daemon=True,
        )
        try:
            process.start()
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            error.add_note(
                "[DataLoader] the data set, collate_fn and worker_init_fn are pickled for workers "
                "that are spawned: define them at the top level of a module"
            )
            raise
        finally:
            theirs.close()
        self._workers.append(_Worker(process, ours, Reader(segments)))

    def begin(self, seed: int) -> None:
        """Start a pass over the data; answers that nobody has taken are thrown away."""
        for number, worker in enumerate(self._workers):
            while worker.answered < worker.asked:
                self._receive(number, None)
            worker.has_ended = False
            self._send(number, _Begin(seed + number))
        self._next = 0

    def has_room(self) -> bool:
        """Whether the worker whose turn it is may be asked for another batch."""
        for _ in self._workers:
            worker = self._workers[self._next]
            if not worker.has_ended:
                return worker.asked - worker.answered < self._slots
            self._next = (self._next + 1) % len(self._workers)
        return False

    def submit(self, order: Order, seed: int) -> int:
        """Ask the worker whose turn it is for a batch; returns its number."""
        number = self._next
        worker = self._workers[number]
        self._send(number, _Task(order, seed, worker.asked % self._slots))
        worker.asked += 1
        self._next = (number + 1) % len(self._workers)
        return number

    def result(self, ticket: int, timeout: float | None) -> object:
        """The next batch of a worker, or END."""
        worker = self._workers[ticket]
        slot = worker.answered % self._slots
        answer = self._receive(ticket, timeout)
        if isinstance(answer, _Failed):
            answer.error.add_note(f"[DataLoader] in worker {ticket}:\n{answer.trace}")
            raise answer.error
        if answer is END:
            worker.has_ended = True
            return END
        assert isinstance(answer, Packed)
        return self._finish(worker.reader.read(slot, answer))

    def _send(self, number: int, message: _Begin | _Task) -> None:
        try:
            self._workers[number].connection.send(message)
        except OSError:
            self._has_died(number)

    def _receive(self, number: int, timeout: float | None) -> object:
        worker = self._workers[number]
        if not wait([worker.connection, worker.process.sentinel], timeout):
            raise TimeoutError(
                f"[DataLoader] worker {number} has no batch after {timeout} s (timeout={timeout})"
            )
        try:
            if not worker.connection.poll():
                raise EOFError
            answer = worker.connection.recv()
        except (EOFError, OSError):
            self._has_died(number)
        worker.answered += 1
        return answer

    def _has_died(self, number: int) -> NoReturn:
        process = self._workers[number].process
        process.join(GRACE)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
        hint = ""
        if code == -getattr(signal, "SIGBUS", 0):
            hint = "; the shared memory may be full (df /dev/shm)"
        if code == 1:
            hint = '; a program whose workers are spawned needs `if __name__ == "__main__":`'
        raise RuntimeError(f"[DataLoader] worker {number} (pid {process.pid}) {how}{hint}")

    def survives(self, ticket: int) -> bool:
        """Batches that a process has fetched end with it."""
        return False


def _stop(workers: list[_Worker], owner: int) -> None:
    """End the processes and remove their shared memory."""
    if os.getpid() != owner:  # a forked child has a copy of all this
        return
    try:
        for worker in workers:
            with suppress(OSError):
                worker.connection.send(None)
            worker.connection.close()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.terminate()
    finally:
        for worker in workers:
            worker.process.join(GRACE)
            worker.process.kill()
            worker.process.join()
            worker.reader.remove()
        workers.clear()
