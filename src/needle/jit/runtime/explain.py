"""Reports on a compiled program: its kernels, their work and their time."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass

from ..ir.cost import flops_of
from ..ir.graph import Graph
from ..schedule.loop_nest import Nest
from ..schedule.planned import Planned, PlannedLoop
from ..schedule.units import Unit, values_needed_outside

MIB = 1 << 20


@dataclass(frozen=True)
class KernelInfo:
    """One kernel: its operations by name, its floating-point operations and the bytes it moves."""

    name: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Cost:
    """The work of a program: its floating-point operations, and the bytes of its states and values.

    The same for every back end, as it is counted in the graph.
    """

    flops: int
    bytes: int


def cost_of_graph(graph: Graph) -> Cost:
    """The work of a graph before any nodes are fused."""
    values = {id(v.value): v.value for node in graph.nodes for v in node.outputs}
    return Cost(sum(map(flops_of, graph.nodes)), sum(value.nbytes for value in values.values()))


def kernel_infos(graph: Graph, units: list[Unit]) -> list[KernelInfo]:
    """The kernels of a program in the order in which they run."""
    needed = values_needed_outside(units, graph)
    return [
        KernelInfo(_name(unit), sum(map(flops_of, unit.nodes)), _bytes(unit, needed))
        for unit in units
    ]


def _name(unit: Unit) -> str:
    parts = []
    if unit.node is not None and unit.node.op == "scan":
        loop: PlannedLoop = unit.node.operands[0]
        return f"{loop.length} x ({'; '.join(map(_name, loop.planned.units))})"
    if unit.node is not None:
        shapes = " ".join("x".join(map(str, view.shape)) for view in unit.node.inputs[:2])
        parts.append(f"{unit.node.op} {shapes}")
    if unit.nest is not None:
        parts.append(nest_name(unit.nest))
    return ", then ".join(parts)


def nest_name(nest: Nest) -> str:
    """The name of a nest: its shape and its operations."""
    plain = ("fill", "copy", "where", "gather_rows")
    counts = Counter(n.op if n.op in plain else str(n.attributes[0]) for n in nest.nodes)
    names = " ".join(name if n == 1 else f"{name}*{n}" for name, n in counts.items())
    rows = nest.size // (nest.cols or nest.size)
    size = f"{rows}x{nest.cols}" if nest.cols else str(nest.size)
    return f"loop {size}: {names}"


def _bytes(unit: Unit, needed: set[int]) -> int:
    made = {id(view.value) for node in unit.nodes for view in node.outputs}
    read = {
        id(v.value): v.value for node in unit.nodes for v in node.inputs if id(v.value) not in made
    }
    written = {
        id(v.value): v.value for node in unit.nodes for v in node.outputs
        if node is unit.node or id(v.value) in needed
    }  # fmt: skip
    return sum(value.nbytes for value in (*read.values(), *written.values()))


def table(planned: Planned, seconds: list[float] | None = None) -> str:
    """The kernels, their work and, with `seconds` a run of each, their time and rates."""
    infos, plan = kernel_infos(planned.graph, planned.units), planned.plan
    lines = []
    total = sum(seconds) if seconds else 0.0
    for i, info in enumerate(infos):
        line = f"{i:4d}  {info.flops / 1e6:10.3f} MFLOP  {info.bytes / MIB:9.3f} MiB  "
        if seconds:
            s = max(seconds[i], 1e-9)
            line += (
                f"{1e6 * s:9.1f} us {100 * s / total:5.1f} %  {info.flops / s / 1e9:7.1f} GFLOP/s "
                f"{info.bytes / s / 1e9:6.1f} GB/s  "
            )
        lines.append(line + info.name)
    flops, moved = sum(i.flops for i in infos), sum(i.bytes for i in infos)
    lines.append(
        f"{len(infos)} kernels, {flops / 1e6:.3f} MFLOP, {moved / MIB:.3f} MiB read and written"
        + (f", {1e3 * total:.3f} ms" if seconds else "")
    )
    values = sum(b.nbytes for b in plan.blocks)
    states, results = (
        sum(view.value.nbytes for view in views)
        for views in (planned.graph.states, planned.graph.results)
    )
    lines.append(
        f"memory: an arena of {plan.arena_bytes / MIB:.3f} MiB holds {len(plan.blocks)} arrays of "
        f"{values / MIB:.3f} MiB together, of which {plan.live_bytes() / MIB:.3f} MiB are needed "
        f"at one time; states {states / MIB:.3f} MiB, results {results / MIB:.3f} MiB; "
        f"{len(plan.copies)} outputs are copied"
    )
    if budget := planned.budget:
        lines.append(
            f"budget: {budget.limit / MIB:.3f} MiB, of which {budget.peak / MIB:.3f} MiB are used; "
            f"{budget.recomputed} values are computed again, which adds "
            f"{100 * budget.extra / max(budget.flops, 1):.1f} % of operations"
        )
    return "\n".join(lines)


def read_times(library: str, count: int) -> list[float]:
    """The seconds that each kernel of a profiling build has taken; resets the timers to 0."""
    times = (ctypes.c_double * count).in_dll(ctypes.CDLL(library), "needle_times")
    values = list(times)
    for i in range(count):
        times[i] = 0.0
    return values
