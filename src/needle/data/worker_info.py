"""What code in a loader's worker can know of that worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerInfo:
    """What code in a loader's worker knows of that worker.

    The seed differs from worker to worker and from pass to pass. It follows from the loader's
    `generator`, or from NumPy's global one.

    Parameters
    ----------
    id : int
        The number of the worker.
    num_workers : int
        The number of workers.
    seed : int
        The seed of the worker.
    dataset : Dataset
        The data set; in a worker process that process's own copy.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.data.WorkerInfo(0, 2, 7, None).num_workers
    2
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
