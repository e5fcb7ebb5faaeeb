"""The schedule of a graph for a target: its units in order, and the memory of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Loop, Node, Value, whole
from .memory_plan import Plan, aligned, make_plan, steps_of
from .order import with_lower_peak
from .rematerialize import units_of
from .target import Target
from .units import Unit


@dataclass(frozen=True)
class Budget:
    """How a program keeps to a limit of memory.

    The memory is that of arguments, states, constants, results and the arena, in bytes.
    """

    limit: int
    peak: int
    recomputed: int  # how many values are computed again
    extra: int  # the floating-point operations of that
    flops: int  # those of the program without


@dataclass(frozen=True)
class Planned:
    """A graph that code can be written for: its units in order, and where its values are."""

    graph: Graph
    units: list[Unit]
    plan: Plan
    steps: list[int]  # the step of the memory plan in which each unit runs
    budget: Budget | None = None


@dataclass(eq=False, slots=True)
class PlannedLoop(Loop):
    """A loop whose body is scheduled.

    Its node has one more output than that of a `Loop`: the memory that a step works in.
    """

    planned: Planned = field(kw_only=True)
    is_planned: ClassVar[bool] = True


def plan_graph(graph: Graph, target: Target) -> Planned:
    """Schedule a graph, and first the bodies of its loops."""
    if target.fuse_epilogues is not None:
        graph = target.fuse_epilogues(graph)
    graph = graph.with_nodes(
        _with_planned_body(node, target) if node.op == "scan" else node for node in graph.nodes
    )
    units = units_of(graph, target)
    steps = steps_of(graph, units) if target.few_launches else list(range(len(units)))
    plan = make_plan(graph, units, steps)
    if not target.few_launches:
        units, plan = with_lower_peak(graph, units, plan)
    kept = [
        (unit, step)
        for unit, step in zip(units, steps, strict=True)
        if not _copies_to_itself(unit, plan)
    ]
    return Planned(graph, [unit for unit, _ in kept], plan, [step for _, step in kept])


def _copies_to_itself(unit: Unit, plan: Plan) -> bool:
    """Whether a unit copies a value to the place that it is in, as where a state gets new parts."""
    return all(
        node.op == "copy"
        and node.inputs[0].is_compact
        and node.outputs[0].is_compact
        and node.inputs[0].dtype is node.outputs[0].dtype
        and id(node.outputs[0].value) in plan.place  # not kept in a register
        and plan.place.get(id(node.inputs[0].value)) == plan.where(node.outputs[0].value)
        for node in unit.nodes
    )


def _with_planned_body(node: Node, target: Target) -> Node:
    loop: Loop = node.operands[0]
    planned = plan_graph(loop.body, target)
    body, plan = planned.graph, planned.plan
    spare = sum(map(aligned, (view.value.nbytes for view in body.results[: loop.carries])))
    memory = whole(Value(plan.arena_bytes + spare, np.dtype("uint8")))
    scheduled = PlannedLoop(
        body, loop.length, loop.carries, loop.slices, loop.reverse, planned=planned
    )
    return Node(node.op, (scheduled, *node.operands[1:], memory), node.run)
