"""How much memory the training steps take: needle compiled and eager against PyTorch eager.

    python benchmarks/memory.py [wide-mlp resnet9 lstm gpt gpt2-small …]

Each contender runs in a process of its own, in which only its own model lives. What counts is the
largest resident size in 5 steps, the first included, above the size after the imports: parameters,
moments, gradients, activations, and what the contender itself keeps, such as a compiled program.
Compilers run in processes of their own and do not count. Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cases
from contenders import needle_step, torch_step
from harness import Step, torch_or_none
from rows import Row, Target, print_rows

CASES: dict[str, Callable[[], cases.Case]] = {
    "two-layer": cases.two_layer,
    "wide-mlp": cases.wide_mlp,
    "mlp-resnet": cases.mlp_resnet,
    "resnet9": cases.resnet9,
    "lstm": cases.lstm,
    "lstm-large": cases.lstm_large,
    "gpt": cases.gpt,
    "gpt2-small": cases.gpt2_short,
}
TARGETS = (Target("<=", 0.8, "PyTorch"), Target("<=", 1.05, "needle eager"))
STEPS = 5
MIB = 1 << 20


def status(field: str) -> float:
    """A size of this process in MiB: VmRSS now, or VmHWM, its peak since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def forget_peak() -> None:
    """Let VmHWM start at the present size, after freed memory has gone back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def step_of(case: cases.Case, contender: str) -> Step:
    """The step of a contender."""
    if contender == "PyTorch":
        return torch_step(case)
    return needle_step(case, jit=contender == "needle jit")


def growth(name: str, contender: str) -> float:
    """MiB by which this process grows at most in the steps, its own model included."""
    if contender == "PyTorch":
        torch_or_none()
    step_of(cases.two_layer(1), contender)()  # imports, the threads and their stacks
    forget_peak()
    before = status("VmRSS")
    step = step_of(CASES[name](), contender)
    gc.collect()
    if contender == "PyTorch":  # only the copy of the weights that PyTorch trains
        from needle.native import core

        core.empty_cache()
    forget_peak()
    for _ in range(STEPS):
        step()
    return status("VmHWM") - before


def in_own_process(name: str, contender: str) -> float:
    """`growth`, measured by a fresh interpreter."""
    command = [sys.executable, __file__, "--one", name, contender]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(quick: bool = False, names: Sequence[str] = ()) -> list[Row]:
    """The peaks of the cases of these names; all by default, without the largest if `quick`."""
    chosen = names or [name for name in CASES if not quick or name != "gpt2-small"]
    with_torch = torch_or_none() is not None
    made = []
    for name in chosen:
        peers = {"needle eager": in_own_process(name, "needle eager")}
        if with_torch:
            peers["PyTorch"] = in_own_process(name, "PyTorch")
        value = in_own_process(name, "needle jit")
        made.append(Row("memory", name, value, "MiB", peers, targets=TARGETS))
    return made


def main(names: list[str]) -> None:
    """Print a table of the cases of these names (all by default)."""
    print_rows(rows(names=names))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one", action="store_true", help="print the MiB of one NAME CONTENDER")
    given = parser.parse_args()
    if given.one:
        print(growth(*given.names))
    else:
        main(given.names)
