"""Training steps and single operations on a GPU, beside PyTorch's where it sees the GPU.

    python benchmarks/gpu.py [--small] [--budget SECONDS] [--json FILE] [names]

Steps: the workloads of `cases.py`, eager and compiled, against PyTorch, eager and torch.compile.
The losses of the first steps are compared; the table says where they differ. ResNet9 may use TF32,
as PyTorch's convolutions do by default. Operations: bandwidth against the driver's copy, products
against cuBLAS, attention and convolutions against PyTorch's. Times are the GPU's, between events,
the contenders in turns, medians. What the budget has no time for is left out, with a note. The
numbers go to results/gpu-DATE-GPU.json, but not those of `--small`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cases
import gpu_kernels
import numpy as np
from cases import Case
from contenders import needle_training, torch_training
from gpu_kernels import Kernel
from gpu_timing import (
    Budget,
    Run,
    Timer,
    device,
    in_turns,
    needle_timer,
    tf32_in_convolutions,
    torch_on_gpu,
    torch_timer,
)
from harness import print_table

import needle as ndl

BUDGET = 480.0  # seconds
TOLERANCES = {"float32": 1e-3, "TF32": 2e-2, "bfloat16": 5e-2}
CAST = "bfloat16" if hasattr(ndl, "amp") else None
OURS = ("needle", "needle jit")


@dataclass(frozen=True)
class Workload:
    """A training step, a small one for the emulated GPU, and the most over the fastest peer.

    With `tf32` convolutions may round what they multiply to TF32, as PyTorch's do by default.
    """

    make: Callable[[], Case]
    small: Callable[[], Case]
    target: float
    cast: str | None = None
    tf32: bool = False

    @property
    def precision(self) -> str:
        """What its products are computed in."""
        return "TF32" if self.tf32 else self.cast or "float32"


_TINY_GPT = dict(vocabulary=17, length=8, width=16, layers=1, heads=2, batch=2)
# In the order in which the budget is spent.
WORKLOADS = {
    "two-layer": Workload(cases.two_layer, partial(cases.two_layer, 4), 0.5),
    f"gpt2 {CAST or 'float32'}": Workload(
        cases.gpt2, partial(cases.gpt, **_TINY_GPT), 1.1, CAST
    ),
    "resnet9": Workload(partial(cases.resnet9, 512), partial(cases.resnet9, 2), 0.8, tf32=True),
    "gpt": Workload(cases.gpt, partial(cases.gpt, **_TINY_GPT), 0.5),
    "mlp-resnet": Workload(cases.mlp_resnet, partial(cases.mlp_resnet, 4), 0.5),
    "wide-mlp": Workload(cases.wide_mlp, partial(cases.wide_mlp, 4, 32), 0.5),
    "lstm": Workload(cases.lstm, partial(cases.lstm, 20, 8, 8, 1, 3, 2), 0.5),
}  # fmt: skip


@dataclass
class Row:
    """What was measured of one workload or operation."""

    name: str
    ms: dict[str, float]
    target: str = ""
    ratio: float | None = None  # what the target speaks of
    met: bool | None = None
    rate: str = ""
    notes: list[str] = field(default_factory=list)


class Bench:
    """The GPU, its timers, the time that is left."""

    def __init__(self, small: bool, budget: Budget, rounds: int) -> None:
        self.small, self.budget, self.rounds = small, budget, rounds
        self.device, self.torch = device(), torch_on_gpu()
        self.timer = needle_timer(self.device)
        self.peer_timer = torch_timer(self.torch) if self.torch else None

    def timed(self, contenders: dict[str, tuple[Run, Timer]]) -> dict[str, float]:
        """The median milliseconds of each."""
        return in_turns(contenders, self.rounds, self.budget)

    # ---- training steps -------------------------------------------------------------------------

    def step(self, name: str) -> Row:
        """All contenders of a workload."""
        workload, row = WORKLOADS[name], Row(name, {})
        with tf32_in_convolutions(self.device, self.torch, workload.tf32):
            self._measure(workload, row)
        if workload.tf32:
            row.notes.append("convolutions in TF32, PyTorch's default; needle's products too")
        return _compared(row, workload.target)

    def _measure(self, workload: Workload, row: Row) -> None:
        contenders, losses = {}, {}
        for who, build, timer in self._contenders(workload):
            if contenders and self.budget.left < 0:
                row.notes.append(f"no time for {who}")
                continue
            try:
                run = build()
                losses[who] = [float(run().item()) for _ in range(2 if self.small else 8)]
                contenders[who] = run, timer
            except Exception as error:  # whatever a compiler may raise
                row.notes.append(f"{who} failed: {_one_line(error)}")
        row.notes += _differences(losses, TOLERANCES[workload.precision])
        row.ms = self.timed(contenders)

    def _contenders(self, workload: Workload) -> list[tuple[str, Callable[[], Run], Timer]]:
        make = workload.small if self.small else workload.make
        options: dict[str, Any] = {"cast": workload.cast}
        found: list[tuple[str, Callable[[], Run], Timer]] = [
            (who, partial(_ours, make, jit, device=self.device, **options), self.timer)
            for who, jit in zip(OURS, (False, True), strict=True)
        ]
        if self.torch and self.peer_timer:
            self.torch._dynamo.reset()
            layout = {"channels_last": make().x.ndim == 4}
            modes = {
                "PyTorch": None, "torch.compile": "default", "with graphs": "reduce-overhead",
            }  # fmt: skip
            for who, mode in modes.items():
                kind: dict[str, Any] = {"mode": mode, "fused": not mode or None, **layout}
                build = partial(_theirs, make, device="cuda", **kind, **options)
                found.append((who, build, self.peer_timer))
        return found

    # ---- operations -----------------------------------------------------------------------------

    def operations(self) -> list[Row]:
        """The driver's copy, and the operations against it or against PyTorch."""
        copy = gpu_kernels.copy_kernel(self.device, self.small)
        copied = self._operation(copy)
        speed = copy.work / copied.ms["needle"]
        rows = [copied]
        for make in (
            gpu_kernels.bandwidth, gpu_kernels.products, gpu_kernels.attention,
            gpu_kernels.convolutions,
        ):  # fmt: skip
            for kernel in make(self.device, self.torch, self.small):
                if self.budget.left < 0:
                    return rows
                rows.append(self._operation(kernel, speed if kernel.unit == "GB" else None))
        return rows

    def _operation(self, kernel: Kernel, full_speed: float | None = None) -> Row:
        contenders = {"needle": (kernel.ours, self.timer)}
        if kernel.theirs and self.peer_timer:
            contenders["PyTorch"] = kernel.theirs, self.peer_timer
        with tf32_in_convolutions(self.device, self.torch, kernel.tf32):
            row = Row(kernel.name, self.timed(contenders))
        speed = kernel.work / row.ms["needle"]
        row.rate = f"{1e3 * speed:.1f} {kernel.unit}/s"
        if full_speed is None and "PyTorch" in row.ms:
            full_speed = kernel.work / row.ms["PyTorch"]
        if kernel.share is not None:
            of = "the copy" if kernel.unit == "GB" else "PyTorch"
            row.target = f">= {100 * kernel.share:.0f} % of {of}"
        if full_speed is not None:
            row.ratio = speed / full_speed
            row.met = None if kernel.share is None else row.ratio >= kernel.share
        return row


def _ours(make: Callable[[], Case], jit: bool, **options: Any) -> Run:
    return needle_training(make(), jit, **options)


def _theirs(make: Callable[[], Case], **options: Any) -> Run:
    return torch_training(make(), **options)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _differences(losses: dict[str, list[float]], tolerance: float) -> list[str]:
    """A note about each contender whose losses are not those of eager needle."""
    notes = []
    for who, values in losses.items():
        gap = float(np.max(np.abs(np.subtract(values, losses.get(OURS[0], values)))))
        if not gap <= tolerance:
            notes.append(f"the losses of {who} differ by {gap:.1e}")
    return notes


def _compared(row: Row, target: float) -> Row:
    """The row with needle's best over the fastest peer."""
    row.target = f"<= {target} of the fastest peer"
    peers = [ms for who, ms in row.ms.items() if who not in OURS]
    ours = [ms for who, ms in row.ms.items() if who in OURS]
    if peers and ours:
        row.ratio = min(ours) / min(peers)
        row.met = row.ratio <= target
    return row


# ---- reporting ----------------------------------------------------------------------------------


def print_rows(rows: list[Row]) -> None:
    """A table, and the notes."""
    who = list(dict.fromkeys(name for row in rows for name in row.ms))
    print_table(
        ["what", *(f"{name} ms" for name in who), "rate", "ratio", "target", "met"],
        [
            [
                row.name, *(f"{row.ms[name]:.3f}" if name in row.ms else "" for name in who),
                row.rate, "" if row.ratio is None else f"{row.ratio:.2f}", row.target,
                {None: "", True: "yes", False: "no"}[row.met],
            ]
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        for note in row.notes:
            print(f"note: {row.name}: {note}")


def report(bench: Bench, rows: list[Row]) -> dict[str, Any]:
    """The numbers and where they come from, as JSON can hold them."""
    torch = bench.torch
    return {
        "gpu": bench.device.context.name,
        "capability": "{}.{}".format(*bench.device.context.capability),
        "date": datetime.date.today().isoformat(),
        "needle": ndl.__version__,
        "torch": torch.__version__ if torch else None,
        "cuda of torch": torch.version.cuda if torch else None,
        "rows": [vars(row) for row in rows],
    }


def default_file(name: str) -> Path:
    """Where the results of a GPU of that name go."""
    slug = re.sub(r"\W+", "-", name.lower()).strip("-")
    folder = Path(__file__).parent / "results"
    return folder / f"gpu-{datetime.date.today().isoformat()}-{slug}.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"operations, {[*WORKLOADS]}")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for the emulated GPU")
    parser.add_argument("--rounds", type=int, default=15, help="turns that each contender takes")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all of it")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where the numbers go")
    options = parser.parse_args()
    unknown = {*options.names} - {"operations", *WORKLOADS}
    if unknown:
        parser.error(f"unknown {sorted(unknown)}")
    rounds = 1 if options.small else options.rounds
    bench = Bench(options.small, Budget(options.budget), rounds)
    file = options.json or (None if options.small else default_file(bench.device.context.name))
    names = options.names or ["operations", *WORKLOADS]
    rows: list[Row] = []
    for name in names:
        if bench.budget.left < 0:
            print(f"no time for {name}")
            continue
        found = bench.operations() if name == "operations" else [bench.step(name)]
        rows += found
        print_rows(found)
        if file:  # what comes may take too long
            file.write_text(json.dumps(report(bench, rows), indent=1) + "\n")
    print(f"{bench.device.context.name}; PyTorch {getattr(bench.torch, '__version__', 'missing')}")
    if file:
        print(f"written to {file}")


if __name__ == "__main__":
    main()
