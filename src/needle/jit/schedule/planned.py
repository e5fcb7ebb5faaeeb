"""The schedule of a graph for a target: its units in order, and the memory of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Loop, Node, Value, whole
from .memory_plan import Plan, aligned, make_plan, steps_of
from .rematerialize import units_of
from .target import Target
from .units import Unit


@dataclass(frozen=True)
class Planned:
    """A graph that code can be written for: its units in order, and where its values are."""

    graph: Graph
    units: list[Unit]
    plan: Plan


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
    steps = steps_of(graph, units) if target.few_launches else None
    return Planned(graph, units, make_plan(graph, units, steps))


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
