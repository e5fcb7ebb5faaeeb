"""How much memory the training steps take, needle against PyTorch.

    python benchmarks/memory.py [two-layer mlp-resnet resnet9 lstm gpt …]

Each contender runs 10 steps in a process of its own; what counts is by how much the process's
largest resident size grows.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import models
import steps
from harness import print_table

WORKLOADS = {**steps.WORKLOADS, **models.WORKLOADS}
CONTENDERS = ("needle", "PyTorch")


def growth(workload: str, contender: str) -> float:
    """MiB by which this process grows in 10 steps."""
    step = WORKLOADS[workload][0]()[contender]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def in_own_process(workload: str, contender: str) -> float:
    """`growth`, measured by a fresh interpreter."""
    command = [sys.executable, __file__, "--one", workload, contender]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(names: list[str]) -> None:
    """Print a table of the workloads of these names (the training steps by default)."""
    chosen = names or [name for name in WORKLOADS if name != "softmax-regression"]
    rows = []
    for name in chosen:
        ours, theirs = (in_own_process(name, contender) for contender in CONTENDERS)
        rows.append([name, f"{ours:.0f}", f"{theirs:.0f}", f"{ours / max(theirs, 1):.2f}"])
    print_table(["step", "needle MiB", "PyTorch MiB", "ratio"], rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(growth(*sys.argv[2:4]))
    else:
        main(sys.argv[1:])
