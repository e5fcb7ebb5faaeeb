"""The generated loops of the models' training steps against what the machine can do.

    python benchmarks/loops.py [two-layer mlp-resnet wide-mlp resnet9 lstm lstm-large gpt] [--all]

A loop can be no faster than a copy of the bytes that it reads and writes, nor than its functions:
each exp, tanh, … takes the time that it takes in a loop of its own over numbers in the first
cache, other operations take one instruction of the peak's. The larger of the two times is the
loop's limit. The table lists the loops that take 0.5 % of their step or more and run below 60 % of
their limit; with `--all` every loop that takes so long. Each loop runs several times in a row, so
that its arrays are in the caches that they fit in, as the copy's are.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import roofline
import steps
from cases import Case
from harness import print_table
from rows import Row, Target

import needle as ndl
from needle import optim
from needle.jit.codegen.cpp import write_program
from needle.jit.ir.cost import COSTS, cost_of
from needle.jit.runtime import compiler
from needle.jit.runtime.explain import KernelInfo, kernel_infos, nest_name, read_times
from needle.jit.schedule.loop_nest import Nest

ENOUGH = 0.6  # of the limit
WORTH_LISTING = 0.005  # of the step's time
REPEATS = 4
ROUNDS = 20
QUICK = ("two-layer", "mlp-resnet", "gpt")
PROBED = 2**14  # the points of the array that a function's speed is measured on
LOOP_CALL = re.compile(
    r"\{ const Timer timer\((needle_times\[\d+\])\); (loop_\d+\(.*\);) \}$", re.M
)


@dataclass(frozen=True)
class Loop:
    """A kind of loop of a step: how many there are, what each takes and the least it could take."""

    name: str
    count: int
    seconds: float
    copied: float  # the seconds of a copy of as many bytes
    calculated: float  # the seconds of its functions

    @property
    def limit(self) -> float:
        """The larger of the two."""
        return max(self.copied, self.calculated)

    @property
    def bound(self) -> str:
        """What the limit is."""
        return "copy" if self.copied >= self.calculated else "functions"

    @property
    def reached(self) -> float:
        """The part of the machine's speed that the loop reaches."""
        return self.limit / self.seconds


def compiled_step(case: Case) -> Any:
    """The case's training step as a function under `ndl.jit`, which has run once."""
    optimizer = getattr(optim, case.optimizer)(case.model.parameters(), **case.options)

    def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        loss = ndl.cross_entropy(case.logits(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    compiled = ndl.jit(step)  # type: ignore[attr-defined]
    compiled(*(ndl.Tensor(array, requires_grad=False) for array in (case.x, case.y)))
    return compiled


def unit_times(native: Any, arguments: Any, states: Any) -> list[float]:
    """The median seconds of every unit of a program; those of its loops from runs in a row.

    The first of the runs is not timed: it brings the loop's arrays into the caches.
    """
    planned = native.planned
    code = write_program(planned.graph, planned.units, planned.plan, profile=True)
    in_a_row = " ".join([r"\2"] * REPEATS)
    source = LOOP_CALL.sub(rf"{{ \2 {{ const Timer timer(\1); {in_a_row} }} }}", code.source)
    program, library = native._load(source), str(compiler.built(source))
    copies = [ndl.Tensor.make_const(state.cached_data.copy()) for state in states]
    rounds = []
    for _ in range(ROUNDS):
        program.run(arguments, copies, 0)
        rounds.append(read_times(library, len(code.calls)))
    repeats = [REPEATS if call.startswith("loop_") else 1 for call in code.calls]
    return [
        statistics.median(t) / n for t, n in zip(zip(*rounds, strict=True), repeats, strict=True)
    ]


@cache
def seconds_of_function(name: str) -> float:
    """The seconds that a function takes a point, on all threads, with its input in the cache."""
    function = ndl.jit(lambda x: getattr(ndl, name)(x))  # type: ignore[attr-defined]
    x = ndl.Tensor(np.linspace(0.5, 2.0, PROBED, dtype=np.float32), requires_grad=False)
    function(x)
    program, native = function._latest_native()
    return min(unit_times(native, *program.last)) / PROBED


@cache
def bytes_per_second(size: int) -> float:
    """The speed of a copy that moves `size` bytes."""
    rate = roofline.copier(size)
    return max(rate() for _ in range(5))


@cache
def peak() -> float:
    """The machine's floating-point operations a second."""
    return max(roofline.peak_flops() for _ in range(5))


def calculated(nest: Nest) -> float:
    """The least seconds of a nest's functions and other operations."""
    seconds = 0.0
    for node in nest.nodes:
        size = (node.inputs[0] if node.op == "reduce" else node.outputs[0]).size
        name = str(node.attributes[0]) if node.op == "unary" else ""
        is_slow = name in COSTS and callable(getattr(ndl, name, None))
        each = seconds_of_function(name) if is_slow else 2 * cost_of(node) / peak()
        seconds += size * each if node.op not in ("fill", "copy") else 0.0
    return seconds


def loops_of(compiled: Any) -> tuple[list[Loop], float]:
    """The kinds of loops of a step, and the seconds of the whole step."""
    program, native = compiled._latest_native()
    units = native.planned.units
    infos: list[KernelInfo] = kernel_infos(native.planned.graph, units)
    times = unit_times(native, *program.last)
    kinds: dict[tuple[str, int], list[float]] = {}
    nests: dict[tuple[str, int], Nest] = {}
    for unit, info, seconds in zip(units, infos, times, strict=False):
        if unit.node is None:
            key = nest_name(unit.nest), info.bytes
            kinds.setdefault(key, []).append(seconds)
            nests[key] = unit.nest
    loops = [
        Loop(
            name.removeprefix("loop "), len(seconds), statistics.median(seconds),
            size / bytes_per_second(2 ** max(15, size.bit_length())), calculated(nests[name, size]),
        )
        for (name, size), seconds in kinds.items()
    ]  # fmt: skip
    return loops, sum(times)


def measured(make: Callable[[], Case]) -> tuple[list[Loop], float]:
    """The loops of a case that take long enough, the slowest first, and the step's time."""
    loops, step = loops_of(compiled_step(make()))
    long = [loop for loop in loops if loop.count * loop.seconds >= WORTH_LISTING * step]
    return sorted(long, key=lambda loop: loop.reached), step


def rows(quick: bool = False) -> list[Row]:
    """The loops of all steps (with `quick` of the small ones), as rows of the report."""
    names = QUICK if quick else tuple(steps.WORKLOADS)
    return [
        Row(
            "loops", f"{name}: {loop.count} x {loop.name}", 1e6 * loop.seconds, "µs",
            roofline=1e6 * loop.limit, targets=(Target("<=", 1 / ENOUGH, "roofline"),),
            note=f"limited by {loop.bound}",
        )
        for name in names
        for loop in measured(steps.WORKLOADS[name].make)[0]
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="step")
    parser.add_argument("--all", action="store_true", help="also the loops that are fast enough")
    options = parser.parse_args(arguments)
    table = []
    for name in options.names or steps.WORKLOADS:
        loops, step = measured(steps.WORKLOADS[name].make)
        for loop in loops:
            if options.all or loop.reached < ENOUGH:
                table.append([
                    name, f"{loop.count} x {loop.name}", f"{1e6 * loop.seconds:.1f}",
                    f"{1e6 * loop.limit:.1f} ({loop.bound})", f"{100 * loop.reached:.0f} %",
                    f"{100 * loop.count * loop.seconds / step:.1f} %",
                ])  # fmt: skip
    print_table(["step", "loop", "µs", "limit µs", "of the limit", "of the step"], table)


if __name__ == "__main__":
    main()
