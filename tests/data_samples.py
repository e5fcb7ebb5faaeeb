"""Data sets that spawned workers can import: `tests` is on their path."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy as np

from needle import data


class Noisy(data.Dataset):
    """Pairs of an array and its index, with random numbers of each kind that a loader seeds."""

    def __init__(self, n=12):
        super().__init__()
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return np.full((3, 2), i, "float32") + data.random_state().rand(), i


class Structured(Noisy):
    """Samples with strings and nested structure."""

    def __getitem__(self, i):
        return {"x": np.full(4, i), "name": f"n{i}", "pair": (i, [np.float32(i), b"b"])}


class Broken(Noisy):
    """Raises at sample 5."""

    def __getitem__(self, i):
        if i == 5:
            raise KeyError("sample 5")
        return super().__getitem__(i)


class Unpicklable(Noisy):
    """Raises what cannot be pickled."""

    def __getitem__(self, i):
        class Local(Exception):
            pass

        raise Local("of this function")


class Dying(Noisy):
    """Sample 5 ends the process as the kernel does when memory is short."""

    def __getitem__(self, i):
        if i == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)


class Slow(Noisy):
    """A sample takes longer than anybody waits."""

    def __getitem__(self, i):
        time.sleep(60)


class Numbers(data.IterableDataset):
    """0 … n - 1, divided among the workers."""

    def __init__(self, n=10):
        self.n = n

    def __iter__(self):
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.n, step))


class Seeds(Noisy):
    """What a worker has been seeded with, and its process."""

    def __getitem__(self, i):
        info = data.get_worker_info()
        return info.id, info.seed, random.random(), np.random.rand(), os.getpid()


class Ragged(Noisy):
    """Arrays that grow from sample to sample; an empty one first."""

    def __getitem__(self, i):
        return np.arange(i * 1000)


def fail(worker):
    """A worker_init_fn that raises."""
    raise RuntimeError(f"init of {worker}")


INITIALIZED: list[int] = []


def note(worker):
    """A worker_init_fn that is seen by `Initialized`."""
    INITIALIZED.append(worker)


class Initialized(Noisy):
    """What `note` has noted in this process, and its own worker."""

    def __getitem__(self, i):
        return data.get_worker_info().id, len(INITIALIZED), INITIALIZED[-1]
