"""Processes of a loader are killed or stopped in mid-epoch: a clear error, no hang, nothing left.

python benchmarks/soak/workers_killed.py [--short]
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from soak import main, samples

from needle import data

SHARED = Path("/dev/shm")
PATIENCE = 10.0  # seconds in which the error must come


class Slow:
    """A data set in Python: some milliseconds a batch."""

    def __init__(self) -> None:
        self.samples = samples(4_000)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> object:
        time.sleep(0.0002)
        return self.samples[index]


def segments() -> set[str]:
    """Shared memory of this process's loaders."""
    ours = f"ndl_{os.getpid():x}_"
    return {path.name for path in SHARED.iterdir() if path.name.startswith(ours)}


def interrupted(method: str, signal_number: int, delay: float, persistent: bool) -> float:
    """An epoch whose worker gets a signal after a delay; the seconds until the error came."""
    loader = data.DataLoader(
        Slow(), 32, num_workers=2, multiprocessing_context=method, timeout=1.0,
        persistent_workers=persistent,
    )  # fmt: skip
    batches = iter(loader)
    next(batches)
    victim = random.choice(multiprocessing.active_children())
    sent = []

    def send() -> None:
        os.kill(victim.pid, signal_number)
        sent.append(time.monotonic())

    timer = threading.Timer(delay, send)
    timer.start()
    expected = (
        rf"worker \d has no batch after 1.0 s|worker \d \(pid {victim.pid}\) was killed by signal "
    )
    error: Exception | None = None
    try:
        for _ in batches:
            pass
    except (RuntimeError, TimeoutError) as caught:
        error = caught.with_traceback(None)  # which would keep the loader
    took = time.monotonic() - (sent or [time.monotonic()])[0]
    timer.cancel()
    assert error is not None, "the epoch ended although a worker was gone"
    assert re.search(expected, str(error)), f"the error does not say what happened: {error}"
    del batches, loader
    left = multiprocessing.active_children()
    assert not left, f"processes were left: {left}"
    assert not segments(), f"shared memory was left: {segments()}"
    return took


def test(short: bool) -> Iterator[str]:
    """Signals at random moments; afterwards the same process trains on."""
    random.seed(0)
    signals = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
    rounds = 2 if short else 25
    for name, number in [*signals.items()][: 1 if short else 2]:
        for method in ("fork",) if short else ("fork", "spawn"):
            longest = 0.0
            for i in range(rounds):
                took = interrupted(method, number, random.uniform(0, 0.3), bool(i % 2))
                longest = max(longest, took)
            assert longest < PATIENCE, f"the error came after {longest:.1f} s"
            yield f"{rounds} {method} workers {name}: the error came within {longest:.2f} s"
    loader = data.DataLoader(samples(320), 32, num_workers=2, multiprocessing_context="fork")
    assert len(list(loader)) == 10, "the next loader has other batches"
    yield "the next epoch is whole"


if __name__ == "__main__":
    main("workers killed", test)
