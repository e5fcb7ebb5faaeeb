"""Training steps while other programs keep every core busy, beside the same steps alone.

    python benchmarks/busy_cores.py [two_layer mlp_resnet ...]

With one busy process a core, a step can have half of each core: its time over that alone should be
about 2. What waits for a thread that does not run makes it more.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time

import cases
from contenders import needle_step
from harness import Step

SECONDS = 1.0
TARGET = 3.0


def _spin() -> None:
    while True:
        pass


def _median_ms(step: Step) -> float:
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main(names: list[str]) -> None:
    """Print a row for each of the cases of these names, eager and compiled."""
    print(f"{'step':<22}{'alone, ms':>10}{'busy, ms':>10}{'busy / alone':>14}   (target {TARGET})")
    for name in names or ["two_layer", "mlp_resnet"]:
        for compiled in (False, True):
            step = needle_step(getattr(cases, name)(), compiled)
            _median_ms(step)
            alone = _median_ms(step)
            others = [
                multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
                for _ in range(os.cpu_count() or 1)
            ]
            for process in others:
                process.start()
            time.sleep(1.0)
            busy = _median_ms(step)
            for process in others:
                process.kill()
                process.join()
            label = f"{name} {'jit' if compiled else 'eager'}"
            print(f"{label:<22}{alone:>10.2f}{busy:>10.2f}{busy / alone:>14.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
