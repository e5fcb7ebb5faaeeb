"""The graph of a traced function: a flat list of primitives on strided views of values.

A *value* is the contents of a flat buffer. A *node* reads views of values and writes views of new
values. Each value is written by one node (static single assignment). A node that overwrites a part
of a buffer makes a new value whose `base` is the old value: its other elements are those of the
base, and the memory plan gives both the same memory. Reshapes, transposes, slices and broadcasts
are not nodes: they are expressed by the shapes and strides of the views.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np

from ...backend_ndarray import NDArray, Shape
from ...backend_ndarray.layout import compact_strides, is_compact, is_dense
from ...backend_ndarray.primitives import PRIMITIVES

Number = int | float  # a scalar operand

# ---- values, views, nodes -------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Value:
    """The contents of a flat buffer of `size` elements; see the module."""

    size: int
    dtype: np.dtype
    base: Value | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the buffer."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class View:
    """An array over a value; strides and offset count elements."""

    value: Value
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.value.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def covers(self) -> bool:
        """Whether the view has every element of its value exactly once."""
        return self.size == self.value.size and is_dense(self.shape, self.strides)

    @property
    def is_compact(self) -> bool:
        """Whether the view is its whole value in row-major order."""
        return self.size == self.value.size and is_compact(self.shape, self.strides)


def whole(value: Value, shape: Shape | None = None) -> View:
    """`value` as a row-major array of `shape` (flat by default)."""
    shape = (value.size,) if shape is None else shape
    return View(value, shape, compact_strides(shape))


@dataclass(eq=False, slots=True)
class Node:
    """One primitive, or a loop over a graph of them (`Loop`): `outputs` from `inputs`.

    `operands` are the device's arguments in its own order (see `PRIMITIVES`): views (of inputs and
    of outputs), Python values and None.
    """

    op: str
    operands: tuple[Any, ...]
    # Nodes of different runs of a checkpointed function are never shared or fused: the purpose of
    # the second run is that the values of the first need not be stored.
    run: int = 0

    # What the properties have found: passes and fusion ask for it again and again.
    _inputs: tuple[View, ...] | None = field(default=None, init=False, repr=False)
    _outputs: tuple[View, ...] | None = field(default=None, init=False, repr=False)

    @property
    def roles(self) -> str:
        """The roles of the operands; see `PRIMITIVES`."""
        if self.op != "scan":
            return PRIMITIVES[self.op].operands
        loop: Loop = self.operands[0]
        outputs = len(loop.body.results) + loop.is_planned
        return "a" + "i" * len(loop.body.arguments) + "o" * outputs

    @property
    def is_elementwise(self) -> bool:
        """Whether each element of the result depends on the same elements of the inputs only."""
        return self.op != "scan" and PRIMITIVES[self.op].is_elementwise

    @property
    def inputs(self) -> tuple[View, ...]:
        """The views that are read; the view of an in-place operand is of the contents before.

        Several parts of one buffer may be outputs of one node: each is the base of the next.
        """
        if self._inputs is None:
            self._inputs = tuple(
                View(x.value.base, x.shape, x.strides, x.offset) if role == "u" else x
                for role, x in zip(self.roles, self.operands, strict=True)
                if role in "iu?" and x is not None
            )
        return self._inputs

    @property
    def outputs(self) -> tuple[View, ...]:
        """The views that are written, each of a new value."""
        if self._outputs is None:
            pairs = zip(self.roles, self.operands, strict=True)
            self._outputs = tuple(x for role, x in pairs if role in "ou")
        return self._outputs

    @property
    def attributes(self) -> tuple[Any, ...]:
        """The operands that are Python values."""
        return tuple(x for role, x in zip(self.roles, self.operands, strict=True) if role == "a")

    def needed(self) -> Iterator[Value]:
        """The values whose contents this node needs: its inputs and the bases of its outputs."""
        for view in self.inputs:
            yield view.value
        own = [view.value for view in self.outputs]
        for value in own:
            if value.base is not None and not any(value.base is other for other in own):
                yield value.base


def replace_values(node: Node, instead: dict[int, Value]) -> Node:
    """The node with other inputs: `instead` maps ids of values to their replacements."""
    read = [id(view.value) for view in node.inputs]
    return move_values(node, {key: (instead[key], 0) for key in read if key in instead})


def move_values(node: Node, places: dict[int, tuple[Value, int]]) -> Node:
    """The node with inputs that are parts of other values.

    `places` maps the ids of values to (the other value, the offset in it). The values that the node
    overwrites in part are not replaced.
    """
    if not any(id(view.value) in places for view in node.inputs):
        return node
    written = {id(view.value) for view in node.outputs}

    def moved(x: object) -> object:
        if not isinstance(x, View) or id(x.value) in written:
            return x
        value, offset = places.get(id(x.value), (x.value, 0))
        return View(value, x.shape, x.strides, x.offset + offset)

    return Node(node.op, tuple(map(moved, node.operands)), node.run)


@dataclass
class Graph:
    """A traced function: its inputs, the nodes in the order of the program, and its outputs.

    `arguments` and `states` are row-major arrays that the caller provides. `constants` are pairs of
    a value and its array. `results` are returned. `updates[i]` is the new contents of state i, if
    the state changes. The states of `in_place` are updated in their own memory, because other
    arrays may share it; the other states may get new memory.
    """

    arguments: list[View] = field(default_factory=list)
    states: list[View] = field(default_factory=list)
    constants: list[tuple[Value, NDArray]] = field(default_factory=list)
    literals: set[int] = field(
        default_factory=set
    )  # ids of constants that no other code can change
    nodes: list[Node] = field(default_factory=list)
    results: list[View] = field(default_factory=list)
    updates: dict[int, View] = field(default_factory=dict)
    in_place: set[int] = field(default_factory=set)

    def outputs(self) -> Iterator[View]:
        """The views that leave the graph."""
        yield from self.results
        yield from self.updates.values()

    def sources(self) -> Iterator[Value]:
        """The values that no node writes."""
        yield from (view.value for view in self.arguments)
        yield from (view.value for view in self.states)
        yield from (value for value, _ in self.constants)

    def used(self) -> set[int]:
        """The ids of the values that a node or an output needs."""
        values = (value for node in self.nodes for value in node.needed())
        return set(map(id, values)) | {id(view.value) for view in self.outputs()}

    def filled(self) -> dict[int, Number]:
        """The number that fills a value, for those that are all one number, by the value's id."""
        return {
            id(node.outputs[0].value): node.attributes[0]
            for node in self.nodes
            if node.op == "fill" and node.outputs[0].covers and node.outputs[0].value.base is None
        }

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """The same graph with other nodes."""
        return Graph(
            self.arguments,
            self.states,
            self.constants,
            self.literals,
            list(nodes),
            list(self.results),
            dict(self.updates),
            set(self.in_place),
        )

    def check(self) -> None:
        """Raises AssertionError unless every value is written once, before it is read."""
        known = set(map(id, self.sources()))
        for node in self.nodes:
            for value in node.needed():
                assert id(value) in known, f"{node.op} reads a value that is not there yet"
            for view in node.outputs:
                assert id(view.value) not in known, f"{node.op} writes a value a second time"
                known.add(id(view.value))
        for view in self.outputs():
            assert id(view.value) in known, "an output is not computed"

    def __str__(self) -> str:
        return "\n".join(_lines(self))


@dataclass(eq=False, slots=True)
class Loop:
    """What a "scan" node repeats: a body that takes and makes a carry, once a step.

    The body's arguments are `carries` values that go from step to step, then `slices` values, each
    one step's part of an array whose first axis is time, then what is the same in all steps. Its
    results are the new carries, then each step's part of the node's other outputs. It has no states
    and no constants. The node's inputs are, in the same order, the first carries, the arrays with
    all steps and the values that stay; its outputs are the last carries and arrays with all steps.
    """

    body: Graph
    length: int
    carries: int
    slices: int
    reverse: bool = False  # from the last step to the first
    # Whether the body is scheduled. The node then has one more output; see `PlannedLoop`.
    is_planned: ClassVar[bool] = False

    @property
    def fixed(self) -> int:
        """How many arguments are the same in all steps."""
        return len(self.body.arguments) - self.carries - self.slices

    def steps(self) -> Sequence[int]:
        """The steps in the order in which they run."""
        forward = range(self.length)
        return forward[::-1] if self.reverse else forward

    def __repr__(self) -> str:
        return f"<loop {id(self):x}>"


def _lines(graph: Graph) -> Iterator[str]:
    names: dict[int, str] = {}

    def named(values: Iterable[Value], letter: str) -> str:
        numbered = list(values)
        names.update({id(value): f"{letter}{i}" for i, value in enumerate(numbered)})
        return ", ".join(f"{names[id(v)]} {v.dtype}[{v.size}]" for v in numbered)

    def shown(x: object) -> str:
        if not isinstance(x, View):
            return repr(x)
        name = names.setdefault(id(x.value), f"v{len(names)}")
        layout = "" if x.is_compact else f" strides {x.strides} at {x.offset}"
        return f"{name}{list(x.shape)}{layout}"

    yield f"arguments {named((x.value for x in graph.arguments), 'a')}"
    yield f"states {named((x.value for x in graph.states), 's')}"
    yield f"constants {named([v for v, _ in graph.constants], 'c')}"
    for node in graph.nodes:
        yield f"{node.op}({', '.join(map(shown, node.operands))})"
        if node.op == "scan":
            loop = node.operands[0]
            yield f"  {loop.length} times, {loop.carries} carries, {loop.slices} slices:"
            yield from (f"  {line}" for line in _lines(loop.body))
    yield f"results {', '.join(map(shown, graph.results))}"
    yield f"updates {', '.join(f's{i} = {shown(v)}' for i, v in graph.updates.items())}"


def base_of(value: Value) -> Value:
    """The first value of the chain that shares this one's memory."""
    while value.base is not None:
        value = value.base
    return value
