"""Which steps a profiler records, and what becomes of them."""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import profile


class ProfilerActivity(enum.Enum):
    """What PyTorch's profiler is told to look at; needle's looks at everything in any case."""

    CPU = "cpu"
    CUDA = "cuda"


class ProfilerAction(enum.Enum):
    """What a profiler does in a step."""

    NONE = "none"
    WARMUP = "warmup"
    RECORD = "record"
    RECORD_AND_SAVE = "record and save"


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0
) -> Callable[[int], ProfilerAction]:
    """Record `active` steps after `wait` + `warmup` others, again and again.

    Parameters
    ----------
    wait, warmup : int
        Steps that are not recorded. A compiled function should be called in them, so that the
        compiler is not recorded.
    active : int
        Steps that are recorded.
    repeat : int, default 0
        How often; 0 is without end.
    skip_first : int, default 0
        Steps before the first time.

    Returns
    -------
    callable
        From the number of a step to a `ProfilerAction`, for `profile(schedule=…)`.

    Raises
    ------
    ValueError
        If `active` is not positive or another number is negative.

    Examples
    --------
    >>> from needle.profiler import schedule
    >>> [schedule(wait=1, warmup=0, active=2)(step).name for step in range(4)]
    ['NONE', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if active < 1 or min(wait, warmup, repeat, skip_first) < 0:
        raise ValueError(
            "[schedule] active must be positive and the others not negative, got "
            f"wait={wait}, warmup={warmup}, active={active}, repeat={repeat}, "
            f"skip_first={skip_first}"
        )
    length = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        done, place = divmod(step - skip_first, length)
        if step < skip_first or (repeat and done >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if place == length - 1 else ProfilerAction.RECORD

    return action


def tensorboard_trace_handler(
    dir_name: str | os.PathLike[str], worker_name: str | None = None
) -> Callable[[profile], None]:
    """Write each recording into a folder, for `profile(on_trace_ready=…)`.

    Parameters
    ----------
    dir_name : str or path
        The folder; it is made if it is missing.
    worker_name : str, optional
        What the files' names begin with; the host and the process by default.

    Returns
    -------
    callable
        Takes a `profile` and writes NAME.TIME.pt.trace.json.

    Examples
    --------
    >>> import tempfile, needle as ndl
    >>> from needle.profiler import profile, tensorboard_trace_handler
    >>> with profile(on_trace_ready=tensorboard_trace_handler(tempfile.mkdtemp())):
    ...     _ = ndl.ones(2) + 1
    """
    worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"

    def handle(prof: profile) -> None:
        prof.export_chrome_trace(Path(dir_name) / f"{worker}.{time.time_ns()}.pt.trace.json")

    return handle
