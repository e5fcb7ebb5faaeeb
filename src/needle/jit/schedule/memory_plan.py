"""The memory plan: static addresses for all values, assigned before the first run.

A value and its base share memory: they are one block. A block that holds an output of the program
is in the caller's buffer. All other blocks share one arena, where the memory of a block is reused
after its last reader.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..ir.domain import FULL, Domain, is_linear
from ..ir.graph import Graph, Value, View, base_of
from .units import Unit, values_needed_outside
from .walk import phases_of

ALIGNMENT = 64
# An arena of so many times the bytes that are live at one time is small enough.
ENOUGH = 1.01


def aligned(nbytes: int) -> int:
    """Bytes rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass
class Block:
    """A range of the arena that is live from step `first` to step `last`, both included."""

    value: Value  # the first of the values that share the block
    first: int
    last: int
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """The size in bytes, rounded up to the alignment."""
        return aligned(max(self.value.nbytes, 1))


@dataclass
class Plan:
    """Where values are: `place[id]` is ("argument" | "state" | "constant" | "result" | "arena", n).

    `n` is the number of the buffer, or the offset in the arena in bytes. `copies` are made after
    the last unit: (the view that holds the data, what to fill: "result" or "state", its number).
    """

    place: dict[int, tuple[str, int]] = field(default_factory=dict)
    copies: list[tuple[View, str, int]] = field(default_factory=list)
    arena_bytes: int = 0
    blocks: list[Block] = field(default_factory=list)

    def where(self, value: Value) -> tuple[str, int]:
        """The place of a value."""
        return self.place[id(value)]

    def live(self) -> list[int]:
        """The bytes of blocks that are live at each step."""
        changes: Counter[int] = Counter()
        for block in self.blocks:
            changes[block.first] += block.nbytes
            changes[block.last + 1] -= block.nbytes
        steps = range(max(changes, default=0))
        return list(itertools.accumulate(changes[step] for step in steps))

    def live_bytes(self) -> int:
        """The most bytes of blocks that are live at one step: no arena can be smaller."""
        return max(self.live(), default=0)


def steps_of(graph: Graph, units: Sequence[Unit]) -> list[int]:
    """The step of each unit. Consecutive loops that do not depend on each other share a step.

    The memory plan gives values of one step disjoint memory, so that their kernels may share a
    launch.
    """
    steps: list[int] = []
    made: set[int] = set()  # ids of the values that the present step writes
    read: set[int] = set()  # ids of the values that it reads
    replaced = {id(view.value): id(graph.states[i].value) for i, view in graph.updates.items()}
    for unit in units:
        needed = {id(value) for node in unit.nodes for value in node.needed()}
        own = {id(view.value) for node in unit.nodes for view in node.outputs}
        overwritten = {replaced[key] for key in own & replaced.keys()}
        if unit.node is not None or needed & made or overwritten & read or not made:
            made, read = set(), set()
            steps.append(steps[-1] + 1 if steps else 0)
        else:
            steps.append(steps[-1])
        if unit.node is None:
            made |= own
            read |= needed
    return steps


def make_plan(graph: Graph, units: list[Unit], steps: Sequence[int] | None = None) -> Plan:
    """Assign places to all values that must be in memory.

    `steps` has the step in which each unit runs, in ascending order. Units of one step may run at
    the same time. By default each unit has a step of its own.
    """
    plan, steps = Plan(), range(len(units)) if steps is None else steps
    for kind, values in (
        ("argument", [view.value for view in graph.arguments]),
        ("state", [view.value for view in graph.states]),
        ("constant", [value for value, _ in graph.constants]),
    ):  # fmt: skip
        for i, value in enumerate(values):
            plan.place[id(value)] = kind, i
    blocks = _lifetimes(graph, units, steps)
    _place_outputs(plan, graph, units, steps, blocks)
    shared = _share_in_place(plan, graph, units, steps, blocks)
    plan.blocks = [b for b in blocks.values() if id(b.value) not in plan.place]
    plan.arena_bytes = _assign_offsets(plan.blocks, plan.live())
    for block in plan.blocks:
        plan.place[id(block.value)] = "arena", block.offset
    for first, second in shared:
        plan.place[id(second)] = plan.place[id(first)]
    for unit in units:
        for node in unit.nodes:
            for view in node.outputs:
                root = id(base_of(view.value))
                if root in plan.place:
                    plan.place[id(view.value)] = plan.place[root]
    return plan


def _share_in_place(
    plan: Plan, graph: Graph, units: list[Unit], steps: Sequence[int], blocks: dict[int, Block]
) -> list[tuple[Value, Value]]:
    """Let nests overwrite inputs that nothing reads later; returns pairs of values sharing memory.

    The first value of a pair has a block, or a place in `plan`. The block of the second is merged
    into that.
    """
    needed = values_needed_outside(units, graph)
    pairs: list[tuple[Value, Value]] = []
    home: dict[int, int] = {}  # the block that a block was merged into, by their ids
    readers = _readers(units, steps)
    for step, unit in zip(steps, units, strict=True):
        if unit.nest is None:
            continue
        last_read = _last_read(unit, step, blocks, home)
        free = [v for v in last_read if readers[step, id(v)] == {id(unit)}]
        for new in unit.nest.outputs():
            root = id(new)
            if id(new) not in needed or plan.place.get(root, ("result", 0))[0] != "result":
                continue
            fitting = (v for v in free if _same_kind(v, new) and may_overwrite(unit, v, new))
            old = next(fitting, None)
            if old is None:
                continue
            free.remove(old)
            kept = home.get(id(old), id(old))
            if root in plan.place:
                if kept in plan.place:
                    continue
                plan.place[kept] = plan.place[root]
            blocks[kept].last = blocks[root].last
            home[root] = kept
            del blocks[root]
            pairs.append((blocks[kept].value, new))
    return pairs


def _readers(units: list[Unit], steps: Sequence[int]) -> dict[tuple[int, int], set[int]]:
    """The ids of the units that read a value in a step, by the step and the value's id."""
    readers: dict[tuple[int, int], set[int]] = {}
    for step, unit in zip(steps, units, strict=True):
        for value in (value for node in unit.nodes for value in node.needed()):
            readers.setdefault((step, id(value)), set()).add(id(unit))
    return readers


def _last_read(
    unit: Unit, step: int, blocks: dict[int, Block], home: dict[int, int]
) -> Iterator[Value]:
    """Values of the arena that the unit is the last to read.

    The result of the unit's own product can be among them.
    """
    seen: set[int] = set()
    for node in unit.nodes:
        for x in node.inputs:
            block = blocks.get(home.get(id(x.value), id(x.value)))
            if id(x.value) in seen or block is None or x.value.base is not None:
                continue
            seen.add(id(x.value))
            if block.last == step:
                yield x.value


def _same_kind(a: Value, b: Value) -> bool:
    return (a.size, a.dtype) == (b.size, b.dtype)


def may_overwrite(unit: Unit, old: Value, new: Value) -> bool:
    """Whether the unit itself would compute the same if `new` overwrote `old`.

    Each point must read exactly the element that it writes, before it writes it (a loop body loads
    before it stores), and no later pass over the row may read that element again. Values per line
    are all loaded before a value per line is stored.
    """
    nest = unit.nest
    kind = None if nest is None else nest.produced.get(id(new))
    if nest is None or kind not in nest.in_place:
        return False
    if unit.node is not None and any(x.value is old for x in unit.node.inputs):
        return False
    phases, pairs = phases_of(nest), list(zip(nest.nodes, nest.domains, strict=True))
    walks = [phases[id(node)] for node, domain in pairs if domain.size == nest.size]
    maker = next(node for node in nest.nodes if node.outputs[0].value is new)
    if kind == FULL and phases[id(maker)] != max(walks):
        return False

    def is_read_first(domain: Domain, i: int) -> bool:
        if kind != FULL:
            return nest.reads_line(domain, i, nest.cols)
        return domain.size == nest.size and is_linear(domain.shape, domain.accesses[i])

    return all(
        x.value is not old or (x.offset == 0 and is_read_first(domain, i))
        for node, domain in pairs
        for i, x in enumerate(node.inputs)
    )


def _lifetimes(graph: Graph, units: list[Unit], steps: Sequence[int]) -> dict[int, Block]:
    """The blocks that units write, by the id of their first value."""
    needed = values_needed_outside(units, graph)
    blocks: dict[int, Block] = {}
    for step, unit in zip(steps, units, strict=True):
        for node in unit.nodes:
            for view in node.outputs:
                root = base_of(view.value)
                if id(view.value) in needed or root is not view.value or node is unit.node:
                    blocks.setdefault(id(root), Block(root, step, step))
            for value in (*node.needed(), *(view.value for view in node.outputs)):
                if block := blocks.get(id(base_of(value))):
                    block.last = max(block.last, step)
    for view in graph.outputs():
        blocks[id(base_of(view.value))].last = len(units)
    return blocks


def _place_outputs(
    plan: Plan, graph: Graph, units: list[Unit], steps: Sequence[int], blocks: dict[int, Block]
) -> None:
    """Compute outputs directly in their destinations where possible; note a copy for the others."""
    for i, view in enumerate(graph.results):
        root = id(base_of(view.value))
        if root in plan.place:
            plan.copies.append((view, "result", i))
        else:
            plan.place[root] = "result", i
    readers = _readers(units, steps)
    last_step = {value: step for step, value in sorted(readers)}
    maker = {id(view.value): unit for unit in units for n in unit.nodes for view in n.outputs}
    for i, view in graph.updates.items():
        first = base_of(view.value)
        root = id(first)
        made, unit = blocks[root].first, maker[root]
        state = graph.states[i].value
        # No unit may read the old contents later. The unit that writes the new ones may read the
        # old ones only where it may overwrite them in place.
        last = last_step.get(id(state), -1)
        alone = readers.get((made, id(state))) == {id(unit)}
        free = last < made or (last == made and alone and may_overwrite(unit, state, first))
        if root not in plan.place and free:
            plan.place[root] = "state", i
        else:
            plan.copies.append((view, "state", i))


def _assign_offsets(blocks: list[Block], live: Sequence[int]) -> int:
    """Assign offsets by first fit, in the best of several orders; returns the bytes of the arena.

    `live` has the bytes that are live at each step. To pack blocks in the least memory is NP-hard.
    Pisarchyk and Lee ("Efficient Memory Management for Deep Neural Net Inference", 2020) take the
    largest blocks first, or those of the fullest steps; where activations surround a larger block
    that lives late, the blocks that live longest or end last have to come first.
    """
    bound, best = max(live, default=0), -1
    for order in _orders(blocks, live):
        offsets, nbytes = _first_fit(order)
        if best < 0 or nbytes < best:
            best = nbytes
            for block, offset in zip(order, offsets, strict=True):
                block.offset = offset
        if best <= ENOUGH * bound:
            break
    return max(best, 0)


def _orders(blocks: list[Block], live: Sequence[int]) -> Iterator[list[Block]]:
    yield sorted(blocks, key=lambda b: (-b.nbytes, b.first))
    yield sorted(blocks, key=lambda b: (b.first - b.last, -b.nbytes))
    yield sorted(blocks, key=lambda b: (-b.last, -b.nbytes))
    fullest = sorted(range(len(live)), key=lambda step: -live[step])
    rank = {step: i for i, step in enumerate(fullest)}
    yield sorted(
        blocks, key=lambda b: (min(rank[i] for i in range(b.first, b.last + 1)), -b.nbytes)
    )


def _first_fit(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """The lowest free offset of each block in turn, and the bytes of all together."""
    placed: list[tuple[Block, int]] = []
    for block in blocks:
        taken = sorted(
            (start, start + b.nbytes)
            for b, start in placed
            if b.first <= block.last and block.first <= b.last
        )
        offset = 0
        for start, end in taken:
            if start - offset >= block.nbytes:
                break
            offset = max(offset, end)
        placed.append((block, offset))
    return [offset for _, offset in placed], max((o + b.nbytes for b, o in placed), default=0)
