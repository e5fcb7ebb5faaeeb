"""Whole training steps compiled by `ndl.jit` against PyTorch, torch.compile and jax.jit.

    python benchmarks/jit.py [two-layer mlp-resnet wide-mlp resnet9 lstm lstm-large gpt]
                             [--no-max-autotune] [--rounds N] [--json FILE]
    python benchmarks/jit.py --first-call [names]

The same weights and batches in one process; losses of the first 8 steps must agree to 1e-4 (1e-3
under Adam) before anything is timed. Then the contenders take turns; ratios are of medians, and the
best turn stands beside them, because what else runs on the machine only ever adds time. The last
table compares with the fastest peer and with the roofline (see `roofline.py`), whose peak and copy
take turns too.

`--first-call` measures something else: the seconds from the first call of a compiled step to its
loss in a fresh process, with an empty cache on disk and with the one that this left behind.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import cases
import roofline
from cases import Case
from contenders import jax_step, needle_step, torch_step
from harness import (
    TOLERANCE,
    Step,
    check_losses,
    first_losses,
    jax_or_none,
    print_table,
    torch_or_none,
    turns,
)

import needle as ndl

ADAM_TOLERANCE = 1e-3
OURS = ("needle", "needle jit")
HAS_JIT = callable(getattr(ndl, "jit", None))


@dataclass(frozen=True)
class Workload:
    """A case, and the most that needle's compiled step may take over the fastest peer's time.

    `over_roofline` is the most over the roofline, where that is a target.
    """

    make: Callable[[], Case]
    over_peer: float
    over_roofline: float | None = None


WORKLOADS = {
    "two-layer": Workload(cases.two_layer, 0.5),
    "mlp-resnet": Workload(cases.mlp_resnet, 0.5),
    "wide-mlp": Workload(cases.wide_mlp, 0.85, over_roofline=1.25),
    "resnet9": Workload(cases.resnet9, 0.6),
    "lstm": Workload(cases.lstm, 0.5),
    "lstm-large": Workload(cases.lstm_large, 0.6),
    "gpt": Workload(cases.gpt, 0.5),
}


@dataclass(frozen=True)
class Result:
    """What was measured: each contender's seconds a step in every turn; the machine's speeds."""

    name: str
    times: dict[str, list[float]]
    flops: int
    bytes_moved: int
    flops_per_second: float
    bytes_per_second: float
    notes: list[str] = field(default_factory=list)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Each contender's median."""
        return {who: median(times) for who, times in self.times.items()}

    @cached_property
    def best(self) -> dict[str, float]:
        """Each contender's shortest turn."""
        return {who: min(times) for who, times in self.times.items()}

    @property
    def ours(self) -> str:
        """The contender that counts: compiled needle, or eager needle where that did not run."""
        return OURS[1] if OURS[1] in self.times else OURS[0]

    @property
    def fastest_peer(self) -> str | None:
        """The peer of the lowest median, or None where none is installed."""
        peers = [who for who in self.times if who not in OURS]
        return min(peers, key=self.seconds.__getitem__) if peers else None

    @property
    def roofline(self) -> float:
        """The least seconds a step can take."""
        return max(self.flops / self.flops_per_second, self.bytes_moved / self.bytes_per_second)

    def over(self, seconds: float) -> float:
        """Our time over that many seconds."""
        return self.seconds[self.ours] / seconds


# ---- measuring ----------------------------------------------------------------------------------


def builders(make: Callable[[], Case], max_autotune: bool) -> dict[str, Callable[[], Step]]:
    """What makes each contender's step, needle's first."""
    found = {"needle": lambda: needle_step(make())}
    if HAS_JIT:
        found["needle jit"] = lambda: needle_step(make(), jit=True)
    if torch := torch_or_none():
        torch._dynamo.reset()  # the workload before left compiled code behind, and guards with it
        modes = {"PyTorch": None, "torch.compile": "default"}
        if max_autotune:
            modes["torch.compile max-autotune"] = "max-autotune"
        layouts = {"": False, " channels last": True} if make().x.ndim == 4 else {"": False}
        for who, mode in modes.items():
            for layout, channels_last in layouts.items():
                # A compiled update makes a kernel of its own; eager PyTorch's best one is fused.
                options = dict(mode=mode, channels_last=channels_last, fused=not mode or None)
                found[who + layout] = lambda o=options: torch_step(make(), **o)
    if jax_or_none() is not None:
        found["jax.jit"] = lambda: jax_step(make())
    return found


def ready(
    name: str, make: Callable[[], Case], max_autotune: bool
) -> tuple[dict[str, Step], list[str]]:
    """The contenders whose first losses were checked, and a note about each that did not run."""
    steps, losses, notes = {}, {}, []
    for who, build in builders(make, max_autotune).items():
        try:
            steps[who] = build()
            losses[who] = first_losses(steps[who])
        except Exception as error:  # whatever a compiler may raise
            if who == OURS[0]:
                raise
            steps.pop(who, None)
            notes.append(f"{who} failed: {_one_line(error)}")
    check_losses(name, losses, ADAM_TOLERANCE if "Adam" in make().optimizer else TOLERANCE)
    return steps, notes


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def measure(name: str, max_autotune: bool, rounds: int) -> Result:
    """Check and time every contender of a workload, and the machine in turns with them."""
    workload = WORKLOADS[name]
    steps, notes = ready(name, workload.make, max_autotune)
    case = workload.make()
    moved = roofline.bytes_moved(case)
    copy_rate = roofline.copier(moved)
    peaks: list[float] = []
    rates: list[float] = []
    machine = {
        "peak": lambda: peaks.append(roofline.peak_flops()),
        "copy": lambda: rates.append(copy_rate()),
    }
    times = turns({**steps, **machine}, rounds=rounds, warmup=2)
    times = {who: times[who] for who in steps}
    return Result(name, times, case.work.flops, moved, median(peaks), median(rates), notes)


# ---- first call ---------------------------------------------------------------------------------


def first_call(name: str, jit: bool) -> float:
    """Seconds from the first call of the step to its loss, in this process."""
    step = needle_step(WORKLOADS[name].make(), jit)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def first_call_in_own_process(name: str, who: str, cache: str) -> float:
    """`first_call`, measured by a fresh interpreter that keeps compiled code in `cache`.

    NaN where it fails; its standard error says why.
    """
    command = [sys.executable, __file__, name, "--one-first-call", who]
    environment = {**os.environ, "NEEDLE_CACHE": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    return float("nan") if done.returncode else float(done.stdout.splitlines()[-1])


def print_first_calls(names: list[str]) -> None:
    """Print the seconds of the first call: eager, uncached and cached."""
    if not HAS_JIT:
        sys.exit("this needle has no jit")
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            measured = [
                first_call_in_own_process(name, who, cache) for who in (OURS[0], OURS[1], OURS[1])
            ]
        rows.append([name, *(f"{seconds:.3f}" for seconds in measured)])
    print_table(["first call", "eager s", "jit s", "jit, cached on disk s"], rows)


# ---- reporting ----------------------------------------------------------------------------------


def print_contenders(r: Result) -> None:
    """Print a workload's contenders, and a note about each that did not run."""
    rows = [
        [
            r.name,
            who,
            f"{1e3 * s:.3f}",
            f"{1e3 * r.best[who]:.3f}",
            "" if who == r.ours else f"{r.over(s):.2f}",
        ]
        for who, s in r.seconds.items()
    ]
    print_table(["step", "who", "median ms", "best ms", f"{r.ours} / this"], rows)
    for note in r.notes:
        print(f"note: {r.name}: {note}")


def print_summary(results: list[Result]) -> None:
    """Print a row per workload: against the fastest peer and against the roofline."""
    print_table(
        ["step", "ours", "fastest peer", "ratio", "target", "roofline ms", "over it", "target"],
        [_summary(r) for r in results],
    )


def _summary(r: Result) -> list[str]:
    workload, peer = WORKLOADS[r.name], r.fastest_peer
    return [
        r.name,
        r.ours,
        peer or "none installed",
        f"{r.over(r.seconds[peer]):.2f}" if peer else "",
        f"<= {workload.over_peer}",
        f"{1e3 * r.roofline:.3f}",
        f"{r.over(r.roofline):.2f}",
        f"<= {workload.over_roofline}" if workload.over_roofline else "",
    ]


def report(results: list[Result]) -> dict[str, Any]:
    """The numbers and where they come from, as JSON can hold them."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "cpu": _cpu_name(),
        "threads": ndl.get_num_threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "workloads": {r.name: _numbers(r) for r in results},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    found = {"needle": ndl.__version__}
    for package in ("numpy", "torch", "jax"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _numbers(r: Result) -> dict[str, Any]:
    workload, peer = WORKLOADS[r.name], r.fastest_peer
    return {
        "ms": {who: 1e3 * s for who, s in r.seconds.items()},
        "best_ms": {who: 1e3 * s for who, s in r.best.items()},
        "ours": r.ours,
        "ratios": {who: r.over(s) for who, s in r.seconds.items() if who != r.ours},
        "fastest_peer": peer,
        "ratio": r.over(r.seconds[peer]) if peer else None,
        "target": workload.over_peer,
        "flops": r.flops,
        "bytes": r.bytes_moved,
        "peak_flops_per_second": r.flops_per_second,
        "copy_bytes_per_second": r.bytes_per_second,
        "roofline_ms": 1e3 * r.roofline,
        "over_roofline": r.over(r.roofline),
        "over_roofline_target": workload.over_roofline,
        "notes": r.notes,
    }


# ---- command line -------------------------------------------------------------------------------


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(WORKLOADS))
    parser.add_argument("--no-max-autotune", action="store_true", help="skip the slowest compiler")
    parser.add_argument("--rounds", type=int, default=15, help="turns that each contender takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    parser.add_argument("--first-call", action="store_true", help="time the first call instead")
    parser.add_argument("--one-first-call", choices=OURS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in WORKLOADS]
    if unknown:
        parser.error(f"unknown {unknown}; known are {list(WORKLOADS)}")
    options.names = options.names or list(WORKLOADS)
    return options


def main(arguments: list[str]) -> None:
    """Measure what the arguments ask for and print it."""
    options = _arguments(arguments)
    if options.one_first_call:
        print(first_call(options.names[0], jit=options.one_first_call == "needle jit"))
        return
    if options.first_call:
        print_first_calls(options.names)
        return
    results = []
    for name in options.names:
        results.append(measure(name, not options.no_max_autotune, options.rounds))
        print_contenders(results[-1])
    print_summary(results)
    if options.json:
        options.json.write_text(json.dumps(report(results), indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
