"""The order of units: a unit that needs much memory of its own runs when there is least to keep.

The weight gradient of an output layer can be larger than all activations. In the order of the
program it is computed while every activation still waits for its own gradient. Nothing but the
update of a state needs it, so that it can wait until most activations are gone.
"""

from __future__ import annotations

from itertools import accumulate

from ..ir.graph import Graph, base_of
from .memory_plan import Block, Plan, make_plan
from .units import Unit

# Smaller peaks are left alone: what a unit reads is then still in cache.
LARGE = 16 << 20
# The part of the peak that a move must free.
WORTH = 0.02
MOVES = 16


def with_lower_peak(graph: Graph, units: list[Unit], plan: Plan) -> tuple[list[Unit], Plan]:
    """The units in an order that needs less memory at its peak, and the plan of that."""
    for _ in range(MOVES):
        live = plan.live()
        peak = max(live, default=0)
        if not live or peak < LARGE:
            break
        at = live.index(peak)
        to = _best_place(graph, units, plan, at)
        if to is None:
            break
        order = [*units[:at], *units[at + 1 : to + 1], units[at], *units[to + 1 :]]
        changed = make_plan(graph, order)
        if len(changed.copies) > len(plan.copies):
            break
        if changed.live_bytes() > (1 - WORTH) * peak or changed.arena_bytes >= plan.arena_bytes:
            break
        units, plan = order, changed
    return units, plan


def _best_place(graph: Graph, units: list[Unit], plan: Plan, at: int) -> int | None:
    """The later place at which unit `at` needs the least memory; None where no place is better."""
    if at >= len(units) or not any(b.first == b.last == at for b in plan.blocks):
        return None
    last = _last_place(graph, units, at)
    read = _blocks_read(units[at], plan, at)
    peaks = {to: _peak_with_move(plan, read, at, to) for to in range(at, last + 1)}
    best = min(peaks, key=lambda to: (peaks[to], to))
    return best if peaks[best] < (1 - WORTH) * peaks[at] else None


def _last_place(graph: Graph, units: list[Unit], at: int) -> int:
    """Up to where a unit can wait: until its values are read, or what it reads is overwritten."""
    made = {id(view.value) for node in units[at].nodes for view in node.outputs}
    read = {id(base_of(value)) for node in units[at].nodes for value in node.needed()}
    replaced = {id(view.value): id(graph.states[i].value) for i, view in graph.updates.items()}
    for i, unit in enumerate(units[at + 1 :], at + 1):
        for node in unit.nodes:
            if any(id(value) in made for value in node.needed()):
                return i - 1
            for view in node.outputs:
                is_part = view.value.base is not None and id(base_of(view.value)) in read
                if is_part or replaced.get(id(view.value)) in read:
                    return i - 1
    return len(units) - 1


def _blocks_read(unit: Unit, plan: Plan, at: int) -> list[Block]:
    """The blocks of the arena that a unit reads at step `at`."""
    offsets = set()
    for node in unit.nodes:
        for value in node.needed():
            kind, offset = plan.place.get(id(value), ("", 0))
            if kind == "arena":
                offsets.add(offset)
    return [b for b in plan.blocks if b.offset in offsets and b.first < at <= b.last]


def _peak_with_move(plan: Plan, read: list[Block], at: int, to: int) -> int:
    """The peak if unit `at` ran at `to`, which reads the blocks `read`."""
    size = max(block.last for block in plan.blocks) + 2
    changes = [0] * max(size, to + 2)

    def moved(step: int) -> int:
        return step - 1 if at < step <= to else step

    for block in plan.blocks:
        first, last = moved(block.first), moved(block.last)
        if block.first == at:
            first = to
            last = max(last, to)
        elif any(block is other for other in read):
            last = max(last, to)
        changes[first] += block.nbytes
        changes[last + 1] -= block.nbytes
    return max(accumulate(changes))
