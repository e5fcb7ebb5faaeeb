"""The recorder: calls of a device's primitives become the nodes of a graph.

It works on arrays whose buffers have no memory, and knows nothing of Tensors. A buffer stands for
one value at a time: a primitive that writes into it gives it a new value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np

from ...backend_ndarray import (
    BackendDevice,
    NDArray,
    SymbolicBuffer,
    as_dtype,
    is_traced,
    made_devices,
    recording,
)
from ...backend_ndarray.layout import compact_strides
from ...backend_ndarray.primitives import PRIMITIVES
from ...typing import HostArray, Shape
from ..ir.graph import Graph, Node, Value, View, whole
from .constants import Constants
from .errors import NotALoop, TraceError, user_frame
from .recompute import Runs

# A primitive, a fused kernel or another function of a device; each has arguments of its own.
DeviceFunction: TypeAlias = Callable[..., Any]
# What answers in its place: it also gets the device and the device's own function, first.
Answer: TypeAlias = Callable[..., object]


class Recorder:
    """Records the primitives that this thread calls, as nodes of `graph`."""

    def __init__(self, runs: Runs) -> None:
        self.program = self.graph = Graph()  # `graph` may be the body of a loop of the program
        self.device: BackendDevice | None = None
        self.is_paused = False
        self._runs = runs
        self._constants = Constants(self.program)
        self._known: dict[int, tuple[object, Value]] = {}  # buffers with data and values, by id
        self._wrapped: dict[int, object] = {}  # buffers made of NumPy arrays inside, by id
        self._graphs: dict[int, Graph] = {}  # the graph that a value is of, by the value's id
        self._inputs: set[int] = set()  # ids of the values that no node writes
        self._overwritten: set[int] = set()  # ids of buffers with data that nodes write into
        self._bodies: list[Graph] = []  # of loops that are finished, kept alive for `_lost`
        self._lost: set[int] = set()  # ids of the values of finished bodies
        self._draw: Answer | None = None

    @contextmanager
    def active(self, draw: Answer) -> Iterator[None]:
        """A context in which this thread's primitives are recorded, on every device.

        `draw` replaces the devices' `draw`, which makes random numbers.
        """
        self._draw = draw
        try:
            with ExitStack() as stack:
                for device in made_devices():
                    if device.enabled():
                        stack.enter_context(recording(device, self))
                yield
        finally:
            self._draw = None  # no cycle of references may keep the arguments of the trace alive

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which primitives run eagerly."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    @contextmanager
    def body(self, graph: Graph) -> Iterator[None]:
        """A context in which the body of a loop is recorded; its values are lost afterwards."""
        outer, self.graph = self.graph, graph
        try:
            yield
        finally:
            self.graph = outer
            self._bodies.append(graph)
            self._lost.update(id(view.value) for node in graph.nodes for view in node.outputs)
            self._lost.update(id(view.value) for view in graph.arguments)

    def refuse_in_loop(self) -> None:
        """Raises NotALoop inside the body of a loop."""
        if self.graph is not self.program:
            raise NotALoop

    # ---- the device's functions -----------------------------------------------------------------

    def handler(
        self, device: BackendDevice, name: str, original: DeviceFunction
    ) -> Callable[..., object]:
        """The function that replaces `name` of `device` while the recorder is active."""
        answers: dict[str, Answer | None] = {
            "allocate": self._allocate,
            "wrap": self._wrap,
            "view": self._view,
            "fused": self._fused,
            "draw": self._draw,
            "binary_scalar": self._binary_scalar,
            "matmul": self._matmul,
        }
        answer = answers.get(name)

        def handle(*args: object, **options: object) -> object:
            if self.is_paused:
                return original(*args, **options)
            if answer is not None:
                return answer(device, original, *args, **options)
            self._record(device, name, args, options)
            return None

        return handle

    def _allocate(
        self, device: BackendDevice, original: DeviceFunction, size: int, dtype: np.dtype
    ) -> SymbolicBuffer:
        return SymbolicBuffer(int(size), as_dtype(dtype))

    def _wrap(self, device: BackendDevice, original: DeviceFunction, array: HostArray) -> object:
        buffer: object = original(array)
        self._wrapped[id(buffer)] = buffer
        self._runs.made(buffer)
        return buffer

    def _view(self, device: BackendDevice, original: DeviceFunction, x: NDArray) -> HostArray:
        if not self.has_no_data(x):
            data: HostArray = original(x)
            return data
        value = self.value_of(x)
        if value is not None and value in self._constants:
            with self.paused():
                return self._constants.contents(View(value, x._shape, x._strides, x._offset))
        raise TraceError(
            "[jit] a tensor's value is needed while the function is being compiled, when there "
            "is none yet. Outside of the function must happen: branching on it, printing it, "
            ".numpy(), .item() and the like; .to() another device, for a compiled function "
            "runs on one device; x[mask], whose shape depends on the values (that of "
            f"ndl.where does not).\n  {user_frame()}"
        )

    def _fused(
        self, device: BackendDevice, original: DeviceFunction, name: str
    ) -> Callable[..., None] | None:
        if not PRIMITIVES[name].is_node or original(name) is None:
            return None

        def record(*args: object, **options: object) -> None:
            self._record(device, name, args, options)

        return record

    def _binary_scalar(
        self, device: BackendDevice, original: DeviceFunction,
        op: str, x: NDArray, scalar: object, out: NDArray, reverse: bool = False,
    ) -> None:  # fmt: skip
        self._record(device, "binary_scalar", (op, x, scalar, out, reverse), {})

    def _matmul(
        self, device: BackendDevice, original: DeviceFunction,
        a: NDArray, b: NDArray, out: NDArray, bias: NDArray | None = None,
    ) -> None:  # fmt: skip
        self._record(device, "matmul", (a, b, out, bias), {})

    # ---- nodes ----------------------------------------------------------------------------------

    def _record(
        self, device: BackendDevice, name: str, args: Sequence[Any], options: dict[str, object]
    ) -> None:
        self.check_device(device, name)
        roles = PRIMITIVES[name].operands
        if options or len(args) != len(roles):
            raise TypeError(f"[jit] {name} was called with other arguments than {roles!r} names")
        read = [  # before anything is written
            self.view_of(x) if role in "i?" and x is not None else None
            for role, x in zip(roles, args, strict=True)
        ]
        operands = tuple(
            seen if role in "i?" else x if role == "a" else self._written(x, role == "u")
            for role, x, seen in zip(roles, args, read, strict=True)
        )
        self.add(Node(name, operands, self.run_number))

    def check_device(self, device: BackendDevice, name: str) -> None:
        """Raises TraceError where `device` is another one than that of the nodes before."""
        if self.device is None:
            self.device = device
        elif self.device != device:
            raise TraceError(
                f"[jit] a compiled function runs on one device, got {self.device} and {device} "
                f"in {name}.\n  {user_frame()}"
            )

    @property
    def run_number(self) -> int:
        """The present `Node.run`."""
        return self._runs.number

    def add(self, node: Node) -> None:
        """Append a node to the graph that is being recorded."""
        self.graph.nodes.append(node)
        self._constants.add(node)
        for view in node.outputs:
            self._belongs(view.value, self.graph)

    # ---- values ---------------------------------------------------------------------------------

    def input(self, graph: Graph, size: int, dtype: np.dtype) -> Value:
        """A value that no node of `graph` writes."""
        value = Value(size, dtype)
        self._inputs.add(id(value))
        self._belongs(value, graph)
        return value

    def _belongs(self, value: Value, graph: Graph) -> None:
        self._graphs[id(value)] = graph
        if graph is not self.program or id(value) not in self._inputs:
            self._runs.made(value)

    def symbolic(self, shape: Shape, device: BackendDevice, value: Value) -> NDArray:
        """A row-major array of a value, without memory."""
        buffer = SymbolicBuffer(value.size, value.dtype)
        buffer.value = value
        return NDArray._view(shape, compact_strides(shape), 0, buffer, device, value.dtype)

    def is_inside(self, data: NDArray) -> bool:
        """Whether the array was made during the trace."""
        return is_traced(data) or id(data._handle) in self._wrapped

    def has_no_data(self, data: NDArray) -> bool:
        """Whether the contents of an array are computed by the program only."""
        return is_traced(data) or id(data._handle) in self._overwritten

    def value_of(self, x: NDArray) -> Value | None:
        """The contents of an array's buffer at this point; None where nothing was written yet."""
        buffer = x._handle
        if isinstance(buffer, SymbolicBuffer):
            value: Value | None = buffer.value
            return value
        found = self._known.get(id(buffer))
        return None if found is None else found[1]

    def view_of(self, x: NDArray) -> View:
        """The view of the array's present contents, for a node that reads it."""
        value = self.value_of(x)
        if value is None and isinstance(x._handle, SymbolicBuffer):
            value = x._handle.value = Value(x._handle.size, x._dtype)
            self.add(Node("fill", (whole(value), 0)))  # uninitialized: anything will do
        elif value is None:
            value = self._constant(x)
        elif id(value) in self._lost:
            raise TraceError(
                "[jit] a tensor made inside the function of ndl.scan is used after it; return it "
                f"as a part of the carry or of y.\n  {user_frame()}"
            )
        self._runs.check_read(value, x._handle)
        return View(value, x._shape, x._strides, x._offset)

    def _constant(self, x: NDArray) -> Value:
        value = self.input(self.program, x._handle.size, x._dtype)
        flat = NDArray._view((value.size,), (1,), 0, x._handle, x._device, x._dtype)
        self._known[id(x._handle)] = (x._handle, value)
        self.program.constants.append((value, flat))
        if id(x._handle) in self._wrapped:
            self.program.literals.add(id(value))
        return value

    def _written(self, x: NDArray, in_place: bool) -> View:
        """A view of a new value, which a primitive writes into the array `x`."""
        buffer = x._handle
        old = self.value_of(x)
        if old is None and not isinstance(buffer, SymbolicBuffer):
            old = self._constant(x)
        if in_place and old is None:
            old = self.view_of(x).value
        if old is not None and self._graphs.get(id(old)) is not self.graph:
            self.refuse_in_loop()
        if old is not None and id(old) in self._inputs:
            copied = Value(old.size, old.dtype)  # a node may not overwrite an input
            self.add(Node("copy", (whole(old), whole(copied))))
            old = copied
        view = View(Value(buffer.size, x._dtype), x._shape, x._strides, x._offset)
        if in_place or not view.covers:
            view.value.base = old
        if isinstance(buffer, SymbolicBuffer):
            buffer.value = view.value
        else:
            self._known[id(buffer)] = (buffer, view.value)
            self._overwritten.add(id(buffer))
        return view

    # ---- results --------------------------------------------------------------------------------

    def result(self, data: NDArray) -> int:
        """Make an array a result of the graph; returns its index."""
        self.graph.results.append(self.own_view(data))
        return len(self.graph.results) - 1

    def own_view(self, data: NDArray) -> View:
        """A compact view of the data, of a value that a node writes and no other output uses."""
        view = self.view_of(data)
        if view.is_compact and self._is_written_here(view.value) and not self._leaves(view.value):
            return view
        own = whole(Value(view.size, view.dtype), view.shape)
        self.add(Node("copy", (view, own)))
        return own

    def _leaves(self, value: Value) -> bool:
        return any(value is view.value for view in self.graph.outputs())

    def _is_written_here(self, value: Value) -> bool:
        """Whether a node of this graph, which may be the body of a loop, writes the value."""
        return self._graphs.get(id(value)) is self.graph and id(value) not in self._inputs
