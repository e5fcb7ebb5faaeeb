"""What code in a loader's worker can know of that worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerInfo:
    """The worker `id` of `num_workers`, its `seed` and its `dataset`.

    In a worker process `dataset` is that process's own copy. The seed differs from worker to worker
    and from pass to pass. It follows from the loader's `generator`, or from NumPy's global one.
    """

    id: int
    num_workers: int
    seed: int
    dataset: object


_local = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """What the calling code can know of the DataLoader worker that it runs in.

    Returns
    -------
    WorkerInfo or None
        None outside of workers.

    Examples
    --------
    >>> from needle.data import get_worker_info
    >>> print(get_worker_info())
    None
    """
    return getattr(_local, "info", None)


def set_worker_info(info: WorkerInfo) -> None:
    """Make `info` what `get_worker_info` returns in this thread."""
    _local.info = info
