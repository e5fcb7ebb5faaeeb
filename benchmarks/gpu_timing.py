"""Times on a GPU: between two events on the contender's own stream, the contenders in turns."""

from __future__ import annotations

import ctypes
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import needle as ndl

Run = Callable[[], Any]
Timer = Callable[[Run, int], float]
BLOCK_MS = 20.0  # a block repeats a function until it takes about this long
MOST_CALLS = 200


class Budget:
    """The seconds that all of it may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Those that are left."""
        return self._end - time.monotonic()


def needle_timer(device: Any) -> Timer:
    """The milliseconds a call, for some calls in a row, on this thread's stream of needle."""
    context = device.context
    start, stop = ctypes.c_void_p(), ctypes.c_void_p()
    for event in (start, stop):
        context.call("cuEventCreate", ctypes.byref(event), 0)

    def timed(run: Run, calls: int) -> float:
        context.call("cuEventRecord", start, context.stream)
        for _ in range(calls):
            run()
        context.call("cuEventRecord", stop, context.stream)
        context.call("cuEventSynchronize", stop)
        elapsed = ctypes.c_float()
        context.call("cuEventElapsedTime", ctypes.byref(elapsed), start, stop)
        return max(elapsed.value / calls, 1e-6)

    return timed


def torch_timer(torch: Any) -> Timer:
    """As `needle_timer`, by PyTorch's events."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed(run: Run, calls: int) -> float:
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / calls

    return timed


def torch_on_gpu() -> Any:
    """PyTorch, or None where it is not there or sees no GPU."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch


def in_turns(
    contenders: Mapping[str, tuple[Run, Timer]], rounds: int, budget: Budget
) -> dict[str, float]:
    """The median milliseconds of a call of each; fewer rounds where the time runs out."""
    calls = {}
    for who, (run, timer) in contenders.items():
        timer(run, 1)
        calls[who] = min(max(round(BLOCK_MS / timer(run, 1)), 1), MOST_CALLS)
    times: dict[str, list[float]] = {who: [] for who in contenders}
    names = list(contenders)
    for turn in range(rounds):
        if turn and budget.left < 0:
            break
        for who in names[turn % len(names) :] + names[: turn % len(names)]:
            run, timer = contenders[who]
            times[who].append(timer(run, calls[who]))
    return {who: statistics.median(values) for who, values in times.items()}


@contextmanager
def tf32_in_convolutions(device: Any, torch: Any, allowed: bool) -> Iterator[None]:
    """Inside, cuDNN may round what convolutions multiply to TF32 if `allowed`, and needle what
    convolutions and products do: it has one switch for both."""
    device.allow_tf32 = allowed
    if torch:
        torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        device.allow_tf32 = False
        if torch:
            torch.backends.cudnn.allow_tf32 = False


def device() -> Any:
    """The GPU that is measured."""
    return ndl.cuda()
