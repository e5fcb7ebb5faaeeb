"""What the soak tests share: their command line, and how memory is measured.

python benchmarks/soak/NAME.py [--short]     exits with 1 where the test fails
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import needle as ndl
from needle import nn, optim
from needle.autograd import values_alive

KIB = 1 << 10


def main(title: str, test: Callable[[bool], Iterator[str]]) -> None:
    """Run a test, which yields lines and raises AssertionError; print and set the exit code."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--short", action="store_true", help="a few seconds, for the tests")
    short = parser.parse_args().short
    print(f"{title} ({'short' if short else 'long'})", flush=True)
    start = time.monotonic()
    try:
        for line in test(short):
            print(f"  {line}", flush=True)
    except AssertionError as error:
        print(f"FAILED after {time.monotonic() - start:.1f} s: {error}")
        sys.exit(1)
    print(f"passed in {time.monotonic() - start:.1f} s")


@dataclass(frozen=True)
class Memory:
    """What the process holds."""

    resident: int  # KiB of the process in main memory
    held: int  # bytes of needle's pool
    values: int  # Tensors alive
    objects: int  # Python objects that the collector of cycles knows

    @classmethod
    def now(cls) -> Memory:
        """Measure, after a collection of cycles."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE") // KIB,
            ndl.cpu().memory_stats()["held"],
            values_alive(),
            len(gc.get_objects()),
        )

    def check_flat(self, before: Memory, kib: int, objects: int) -> str:
        """Assert that no more than some KiB and objects came since `before`; the line says what."""
        grown = self.resident - before.resident
        line = (
            f"resident {before.resident:,} to {self.resident:,} KiB, pool {before.held / KIB:,.0f} "
            f"to {self.held / KIB:,.0f} KiB, Tensors {before.values} to {self.values}, objects "
            f"{before.objects:,} to {self.objects:,}"
        )
        assert grown <= kib, f"the process grew by {grown:,} KiB: {line}"
        assert self.held <= before.held + kib * KIB, f"the pool grew: {line}"
        assert self.values <= before.values, f"Tensors were kept: {line}"
        assert self.objects <= before.objects + objects, f"objects were kept: {line}"
        return line


class Trained:
    """A small model with all that a step has, and the step."""

    def __init__(self, width: int = 32) -> None:
        self.model = nn.Sequential(
            nn.Linear(16, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(width, 4),
        )  # fmt: skip
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.schedule = optim.CosineLR(self.optimizer, 100_000)
        self.loss = nn.CrossEntropyLoss()

    def step(self, x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        """One step of training; its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


def samples(count: int) -> list[tuple[np.ndarray, int]]:
    """Random data for `Trained`."""
    rng = np.random.default_rng(0)
    return [(rng.normal(size=16).astype("float32"), int(rng.integers(4))) for _ in range(count)]
