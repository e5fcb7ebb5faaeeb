"""Recomputation within a budget: values are computed again where they would have to wait too long.

An activation waits in memory from the forward pass for its gradient. Where the memory of a step
exceeds its budget, some values that wait there are dropped and computed again, from values that are
in memory anyway, right before they are read. Chen et al. ("Training deep nets with sublinear memory
cost", 2016) choose them by the structure of the network, Jain et al. ("Checkmate", 2020) by an
integer program on the costs of all nodes. Here the choice is greedy, by the bytes that are freed
for each repeated operation, on the memory plan. Every choice is planned anew, and is taken back
unless the steps come closer to a peak that is a tenth lower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from ..ir.cost import flops_of
from ..ir.graph import Graph, Node, Value, View, replace_values
from .planned import Budget, Planned, plan_graph
from .target import Target

# Nodes that are repeated to compute one value again, at most.
LONGEST = 64
# Plans that are tried in turn without coming closer, at most.
PATIENCE = 8
# The part of the present peak that the next choice aims at.
STEP = 0.9
# What moving one element costs beside its computation, in floating-point operations.
MOVING = 8


def plan_within(graph: Graph, target: Target, limit: int) -> Planned:
    """The schedule of a graph whose memory, see `Budget`, is at most `limit` bytes.

    Raises ValueError with the least memory that the search finds where the limit is lower.
    """
    flops, outside = sum(map(flops_of, graph.nodes)), outside_bytes(graph)
    least = outside
    for recomputed, changed, planned in _ever_smaller(graph, target):
        peak = outside + planned.plan.arena_bytes
        least = min(least, peak) if recomputed else peak
        if peak <= limit:
            extra = sum(map(flops_of, changed.nodes)) - flops
            return replace(planned, budget=Budget(limit, peak, recomputed, extra, flops))
    raise ValueError(
        f"[jit] memory: the step needs at least {least:,} bytes, {outside:,} of them for "
        f"parameters, moments, arguments and results; expected at most {limit:,}: give it that "
        "much, or a smaller batch"
    )


def _ever_smaller(graph: Graph, target: Target) -> Iterator[tuple[int, Graph, Planned]]:
    """Ever more values recomputed: (how many, the graph, its plan).

    The search does not depend on the limit, so that its least memory is one that can be had.
    """
    best, recomputed = plan_graph(graph, target), 0
    yield recomputed, graph, best
    banned: set[int] = set()
    portion, runs = 1.0, count(max((node.run for node in graph.nodes), default=0) + 1)
    failures = 0
    while failures < PATIENCE:
        aim = int(STEP * best.plan.live_bytes())
        search = _Search(graph, best, aim)
        chosen = search.choice(banned, portion)
        if not chosen:
            return
        changed = _with_recomputed(graph, chosen, runs)
        attempt = plan_graph(changed, target)
        failures += 1
        if _excess(attempt, aim) < search.excess:
            graph, best, recomputed = changed, attempt, recomputed + len(chosen)
            portion, failures = min(1.0, 2 * portion), 0
            yield recomputed, graph, best
        elif len(chosen) == 1:
            banned.add(id(chosen[0].value))
        else:
            portion /= 4


def outside_bytes(graph: Graph) -> int:
    """The bytes of a graph's arguments, states, constants and results."""
    views = (*graph.arguments, *graph.states, *graph.results)
    constants = sum(value.nbytes for value, _ in graph.constants)
    return constants + sum(view.value.nbytes for view in views)


def _excess(planned: Planned, allowed: int) -> int:
    """By how many bytes the steps together exceed what is allowed."""
    return sum(max(0, live - allowed) for live in planned.plan.live())


@dataclass
class _Choice:
    """A value to drop: what computes it again, and the positions of the nodes that read it then."""

    value: Value
    readers: list[int]
    chain: list[Node] = field(default_factory=list)
    leaves: list[Value] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The bytes that are freed for each operation."""
        moved = sum(view.size for node in self.chain for view in node.outputs)
        return self.value.nbytes / (sum(map(flops_of, self.chain)) + MOVING * moved)


class _Search:
    """The values of a plan that wait at the step that needs the most memory."""

    def __init__(self, graph: Graph, planned: Planned, allowed: int) -> None:
        self.graph, self.plan = graph, planned.plan
        live = planned.plan.live()
        self.excess = _excess(planned, allowed)
        self.needed = max(live, default=0) - allowed
        self.peak = live.index(max(live)) if live else 0
        self.maker = {id(v.value): i for i, node in enumerate(graph.nodes) for v in node.outputs}
        self.bases = {id(v.value.base) for node in graph.nodes for v in node.outputs}
        self.outputs = {id(view.value) for view in graph.outputs()}
        self.filled = graph.filled()
        self.graph_readers: dict[int, list[int]] = {}
        for i, node in enumerate(graph.nodes):
            for value in node.needed():
                self.graph_readers.setdefault(id(value), []).append(i)
        self.made: dict[int, int] = {}  # steps, by ids of values
        self.read: dict[int, set[int]] = {}
        for step, unit in zip(planned.steps, planned.units, strict=True):
            for node in unit.nodes:
                self.made.update((id(view.value), step) for view in node.outputs)
                for value in node.needed():
                    self.read.setdefault(id(value), set()).add(step)
        replaced = ((graph.states[i], view) for i, view in graph.updates.items())
        self.until = {id(s.value): self.made.get(id(new.value), 0) for s, new in replaced}
        self.spans: dict[int, tuple[int, int]] = {}

    def choice(self, banned: set[int], portion: float) -> list[_Choice]:
        """Values to drop, the best first, that free a portion of what is needed at the peak."""
        found = [
            c for value in self._waiting() if id(value) not in banned and (c := self._at(value))
        ]
        chosen: list[_Choice] = []
        used: set[int] = set()  # values that the chosen ones drop or compute again
        freed = 0
        for candidate in sorted(found, key=lambda c: -c.score):
            if chosen and freed >= portion * self.needed:
                break
            made = {id(view.value) for node in candidate.chain for view in node.outputs}
            if used.isdisjoint(made | set(map(id, candidate.leaves))):
                chosen.append(candidate)
                used |= made
                freed += candidate.value.nbytes
        return chosen

    def _waiting(self) -> Iterator[Value]:
        """The values of the arena that the peak does not read, but a later step does."""
        for node in self.graph.nodes:
            for view in node.outputs:
                value, key = view.value, id(view.value)
                steps = self.read.get(key, set())
                if key in self.outputs or key in self.bases or value.base is not None:
                    continue
                if self.plan.place.get(key, ("", 0))[0] != "arena" or self.peak in steps:
                    continue
                if self.made.get(key, self.peak) < self.peak < max(steps, default=-1):
                    yield value

    def _at(self, value: Value) -> _Choice | None:
        """How to compute a value again after the peak, if that is possible."""
        readers = []
        for i in self.graph_readers.get(id(value), ()):
            first, last = self._span(i)
            if first <= self.peak < last:
                return None
            if first > self.peak:
                readers.append(i)
        if not readers:
            return None
        choice = _Choice(value, readers)
        when = min(step for step in self.read[id(value)] if step > self.peak)
        return choice if self._trace(value, choice, when) else None

    def _span(self, position: int) -> tuple[int, int]:
        """The first and last step that computes a node; its readers' where they compute it."""
        (own, *_) = self.graph.nodes[position].outputs
        if (step := self.made.get(id(own.value))) is not None:
            return step, step
        if position not in self.spans:
            spans = [self._span(i) for i in self.graph_readers.get(id(own.value), ())]
            firsts, lasts = zip(*spans, strict=True) if spans else ((0,), (0,))
            self.spans[position] = min(firsts), max(lasts)
        return self.spans[position]

    def _trace(self, value: Value, choice: _Choice, when: int) -> bool:
        """Add what computes a value from values that are in memory at step `when`."""
        position = self.maker.get(id(value))
        if position is None:
            return self.until.get(id(value), when) >= when
        node = self.graph.nodes[position]
        if node in choice.chain:
            return True
        if node.op == "scan" or len(choice.chain) >= LONGEST:
            return False
        if any(v.value.base is not None or id(v.value) in self.bases for v in node.outputs):
            return False
        for x in node.inputs:
            if self._is_there(x.value, when):
                choice.leaves.append(x.value)
            elif not self._trace(x.value, choice, when):
                return False
        choice.chain.append(node)
        return True

    def _is_there(self, value: Value, when: int) -> bool:
        """Whether a value is stored, and is read at this step or later."""
        key = id(value)
        if key in self.filled or key in self.bases or key not in self.plan.place:
            return False
        return self.made.get(key, when) < when <= max(self.read.get(key, ()), default=-1)


def _with_recomputed(graph: Graph, choices: Sequence[_Choice], runs: Iterator[int]) -> Graph:
    """The graph in which the chosen values are computed again before they are read."""
    before: dict[int, list[Node]] = {}
    instead: dict[int, dict[int, Value]] = {}
    for choice in choices:
        run, new = next(runs), dict[int, Value]()
        nodes = before.setdefault(min(choice.readers), [])
        for old in choice.chain:
            nodes.append(_copy(old, run, new))
        for reader in choice.readers:
            instead.setdefault(reader, {})[id(choice.value)] = new[id(choice.value)]
    nodes = []
    for i, node in enumerate(graph.nodes):
        nodes += before.get(i, ())
        nodes.append(replace_values(node, instead[i]) if i in instead else node)
    return graph.with_nodes(nodes)


def _copy(old: Node, run: int, new: dict[int, Value]) -> Node:
    """The node with values of its own; `new` has them by the ids of the old ones."""
    made = {id(view.value): Value(view.value.size, view.dtype) for view in old.outputs}
    written = {id(view) for view in old.outputs}
    operands = tuple(
        View(made[id(x.value)], x.shape, x.strides, x.offset) if id(x) in written else x
        for x in old.operands
    )
    node = replace_values(Node(old.op, operands, run), new)
    new.update(made)
    return node
