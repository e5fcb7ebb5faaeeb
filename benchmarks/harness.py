"""Timing that is fair on a noisy machine: the contenders take turns, medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import needle as ndl

Step = Callable[[], float]

BLOCK_SECONDS = 0.05  # a block repeats a function until it takes about this long
# Thread pools (OpenBLAS, OpenMP) keep their idle workers spinning for up to 0.1 s, which would
# take a core away from the next contender.
SETTLE_SECONDS = 0.15


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int = 15, warmup: int = 2
) -> dict[str, float]:
    """The median seconds a call of each function takes, from `turns`."""
    times = turns(functions, rounds, warmup)
    return {name: statistics.median(values) for name, values in times.items()}


def turns(
    functions: Mapping[str, Callable[[], object]], rounds: int = 15, warmup: int = 2
) -> dict[str, list[float]]:
    """The seconds a call of each function takes, one number a round.

    In every round each function runs a block of calls, after a pause in which the workers of the
    one before go to sleep and a block that is not timed, in which its own wake up and spread over
    the cores; the order turns from round to round, so
    that what disturbs the machine hits all of them alike.
    """
    names = list(functions)
    calls = {name: _calls_a_block(functions[name], warmup) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(SETTLE_SECONDS)
            _block(functions[name], calls[name])
            times[name].append(_block(functions[name], calls[name]))
    return times


def _calls_a_block(function: Callable[[], object], warmup: int) -> int:
    for _ in range(warmup):
        function()
    return max(1, round(BLOCK_SECONDS / max(_block(function, 1), 1e-7)))


def _block(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need to be, in Markdown."""
    widths = [max(len(str(row[i])) for row in [headers, *rows]) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    print(line(headers))
    print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    for row in rows:
        print(line(row))
    print(flush=True)


def torch_or_none() -> Any:
    """PyTorch on as many threads as needle, where it is installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(ndl.get_num_threads())
    return torch


def jax_or_none() -> Any:
    """JAX on the CPU, where it is installed."""
    try:
        import jax
    except ImportError:
        return None
    jax.config.update("jax_platforms", "cpu")
    return jax
