"""Contenders in processes of their own, which take turns: what `steps` and `growth` share.

A `Contender` is a process that trains one case with one framework. It reads orders, a line of JSON
each, and answers each with a line of JSON. Between orders it sleeps, so that the contender whose
turn it is has the machine for itself, and its memory is its own.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 0.15  # thread pools keep their idle workers spinning for up to 0.1 s
NEEDLE = ("needle jit", "needle eager")
PEERS = {"PyTorch": "torch", "torch.compile": "torch", "JAX": "jax"}


class ContenderError(Exception):
    """What a contender raised, or that it was killed or did not answer in time."""


# ---- the side that gives orders -----------------------------------------------------------------


class Contender:
    """A process that runs one framework on at most `threads` cores (all by default)."""

    def __init__(
        self, who: str, threads: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.who = who
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self._process = subprocess.Popen(
            [sys.executable, __file__, who],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip

    def send(self, do: str, **order: Any) -> None:
        """Give an order; `answer` waits for what comes of it."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": do, **order}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise ContenderError(f"{self.who} ended: {self._process.wait()}") from None

    def answer(self, limit: float = 120.0) -> Any:
        """The answer to the order given last, within `limit` seconds."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            self.close()
            raise ContenderError(f"{self.who} did not answer within {limit:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"{self.who} ended: {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self.who}: {answer['error']}")
        return answer["result"]

    def ask(self, do: str, limit: float = 120.0, **order: Any) -> Any:
        """An order and its answer."""
        self.send(do, **order)
        return self.answer(limit)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def contenders(names: Sequence[str], threads: int | None = None) -> Iterator[dict[str, Contender]]:
    """Started contenders by name, which end with the block."""
    started = {who: Contender(who, threads) for who in names}
    try:
        yield started
    finally:
        for contender in started.values():
            contender.close()


def installed(names: Sequence[str]) -> list[str]:
    """The contenders of these names whose framework is there."""
    return [
        who for who in names if who in NEEDLE or importlib.util.find_spec(PEERS[who.split(",")[0]])
    ]


def take_turns(functions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each function returns in each round; the order turns from round to round."""
    names = list(functions)
    found: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(SETTLE_SECONDS)
            found[name].append(functions[name]())
    return found


# ---- the side that takes them -------------------------------------------------------------------


class Worker:
    """What a contender's process can do; each method is an order."""

    def __init__(self, who: str) -> None:
        import contenders

        self._build = contenders.CONTENDERS[who]
        for module in contenders.IMPORTS[who]:
            importlib.import_module(module)
        self._step: Callable[[], float] = float
        self._before = _status("VmRSS")

    def load(self, case: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare a step of `cases.<case>(**sizes)`, in place of the one before."""
        import cases
        import roofline

        from needle.native import core

        self._step = float
        gc.collect()
        made = getattr(cases, case)(**sizes)
        facts = {
            "flops": made.work.flops,
            "bytes": roofline.bytes_moved(made),
            "tolerance": 1e-3 if "Adam" in made.optimizer else 1e-4,
        }
        self._step = self._build(made)
        del made  # a peer trains a copy of the weights; needle's arrays would count as its memory
        gc.collect()
        if core is not None:
            core.empty_cache()
        return facts

    def losses(self, count: int) -> dict[str, Any]:
        """The losses of the next steps, and the seconds that the first of them took."""
        start = time.perf_counter()
        losses = [self._step()]
        first = time.perf_counter() - start
        return {"losses": losses + [self._step() for _ in range(count - 1)], "first": first}

    def turn(self, seconds: float) -> float:
        """Seconds a step, over steps that take about this long, after as many that wake threads."""
        start = time.perf_counter()
        self._step()
        once = time.perf_counter() - start
        calls = max(1, round(seconds / max(once, 1e-7)))
        if once < seconds:
            self._repeat(calls)
        return self._repeat(calls)

    def _repeat(self, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self._step()
        return (time.perf_counter() - start) / calls

    def memory(self) -> float:
        """MiB of the largest resident size in two steps, over that before any data was there."""
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
        self._repeat(2)
        return (_status("VmHWM") - self._before) / 1024


def _status(name: str) -> int:
    """A number of KiB of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def serve(who: str) -> None:
    """Take orders until there are no more; what the frameworks print does not get in between."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            worker = worker or Worker(who)
            answer = {"result": getattr(worker, order.pop("do"))(**order)}
        except Exception as error:  # whatever a compiler may raise
            first_line = (str(error).strip().splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {first_line[:200]}"}
        print(json.dumps(answer), file=out, flush=True)


def median_by_name(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    serve(sys.argv[1])
