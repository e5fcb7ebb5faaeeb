"""Tracing: a Python function run once on arrays without data, its primitives recorded as a graph.

The function runs through the very same ops, layers and optimizers as ever. What is different is
the device below (`Tracing` answers in its place and records) and what a Tensor gives as its data:
Tensors that were there before the trace become *states*, found by identity, and those whose data
the function replaces are updated by every later call.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import autograd
from ..autograd import Tensor, TensorTuple
from ..autograd import Value as AutogradValue
from ..backend_ndarray import (
    BackendDevice,
    HostNumber,
    NDArray,
    SymbolicBuffer,
    all_devices,
    as_dtype,
    default_device,
    is_traced,
    recording,
)
from ..backend_ndarray.layout import compact_strides
from .graph import ROLES, Graph, Node, Value, View, whole
from .tree import map_leaves

# Kernels with large loops of their own, which stay single nodes of the graph. All other fused ops
# are traced through their definition in simpler ops, so that passes can fuse them anew.
KERNELS = frozenset(
    ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "lstm", "lstm_grad", "rnn", "rnn_grad",
     "attention", "attention_grad")
)  # fmt: skip

_PACKAGE = str(Path(__file__).resolve().parent.parent)


class TraceError(RuntimeError):
    """A function does what cannot be compiled; the message names the line."""


@dataclass
class Source:
    """A Tensor from outside whose data the trace reads or replaces.

    Found again at every call as argument number `argument`, as the gradient of another source, or
    as the object itself.
    """

    tensor: Tensor
    before: Any  # its data before the trace
    grad_before: Tensor | None
    argument: int | None = None
    grad_of: Source | None = None
    value: Value | None = None  # of the graph, where the data is read
    view: NDArray | None = None  # what stands for the data inside the trace


@dataclass
class Output:
    """The place of result number `index` of the graph in what a function returns."""

    index: int
    kind: type  # Tensor or NDArray


@dataclass
class Effects:
    """What a call changes outside of the graph, in terms of the graph's results."""

    data: list[tuple[Source, int]] = field(default_factory=list)  # new data
    grads: list[tuple[Source, int | None]] = field(default_factory=list)  # new .grad, or None


@dataclass
class Trace:
    """A graph and what it means: where its inputs come from and where its outputs go."""

    graph: Graph
    device: BackendDevice
    states: list[Source]
    effects: Effects
    actions: list[Callable[[], Any]]  # run on the host at every call, in order
    host_inputs: list[tuple[Value, Callable[[], Any], np.dtype]]  # arguments that the host makes
    guards: list[tuple[Callable[[], Any], Any]]
    modules: list[tuple[Any, bool]]
    returned: Any  # what the function returned, with `Output`s and `Source`s for its Tensors


def user_frame() -> str:
    """`file:line: source` of the innermost frame outside of needle."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGE):
            line = linecache.getline(name, frame.f_lineno).strip()
            return f"{name}:{frame.f_lineno}: {line}"
        frame = frame.f_back  # type: ignore[assignment]
    return "an unknown line"


class Tracing:
    """One trace: the recorder of the devices and the tracer of Tensors."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.sources: dict[int, Source] = {}  # by the id of the Tensor
        self.grads: dict[int, Source] = {}  # by the id of a source's gradient: the source
        self.known: dict[int, tuple[Any, Value]] = {}  # buffers with data: constants, by id
        self.made: dict[int, Any] = {}  # buffers that the trace itself wrapped, kept alive
        self.overwritten: set[int] = set()
        self.consumed: list[AutogradValue] = []
        self.actions: list[Callable[[], Any]] = []
        self.host_inputs: list[tuple[Value, Callable[[], Any], np.dtype]] = []
        self.guards: list[tuple[Callable[[], Any], Any]] = []
        self.modules: dict[int, tuple[Any, bool]] = {}
        self.drawn: list[tuple[Any, Any, NDArray]] = []  # (what, shape and dtype, array)
        self.replayed: list[int] = []  # the next draw to give again, while a function runs again
        self.run_number = self.runs = 0  # of nodes, see `Node.run`
        self.scalars: dict[Any, tuple[HostNumber, NDArray]] = {}  # those made of host numbers
        self.device: BackendDevice | None = None
        self._thread = threading.get_ident()
        self._paused = 0

    # ---- running ----------------------------------------------------------------------------

    def run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        arguments: list[Tensor],
    ) -> Trace:  # fmt: skip
        """Trace `function(*args, **kwargs)`; `arguments` are the Tensors in them, in order.

        All Tensors have their data back afterwards, also where the function raises.
        """
        for i, tensor in enumerate(arguments):
            self._argument(tensor, i)
        lazy, autograd.LAZY_MODE = autograd.LAZY_MODE, False
        autograd.tracer = self
        try:
            with self._recording():
                returned = function(*args, **kwargs)
                return self._finish(returned)
        finally:
            autograd.tracer, autograd.LAZY_MODE = None, lazy
            self._restore()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for device in all_devices():
                if device.enabled():
                    stack.enter_context(recording(device, self))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, primitives run at once and Tensors give the data they have."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def _active(self) -> bool:
        return not self._paused and threading.get_ident() == self._thread

    def _restore(self) -> None:
        for source in self.sources.values():
            source.tensor.cached_data = source.before
            source.tensor.grad = source.grad_before

    # ---- Tensors ------------------------------------------------------------------------------

    def read(self, value: AutogradValue) -> Any:
        """The data of `value` inside the trace; a Tensor from outside becomes a source."""
        data = value.cached_data
        if not self._active() or (type(data) is not NDArray and not isinstance(data, NDArray)):
            return data
        if is_traced(data) or id(data._handle) in self.made:
            return data
        source = self._source(value)
        if source.view is None:
            source.value = Value(data.size, data._dtype)
            self.graph.states.append(whole(source.value, data._shape))
            source.view = self._symbolic(data._shape, data._device, source.value)
        value.cached_data = source.view
        return source.view

    def write(self, value: AutogradValue) -> None:
        """`value` gets new data: where it is from outside, every call must do the same."""
        if self._active() and isinstance(value, Tensor) and id(value) not in self.sources:
            data = value.cached_data
            if not is_traced(data) and id(data._handle) not in self.made:
                self._source(value)

    def used_up(self, value: AutogradValue) -> None:
        """An optimizer has applied the gradient `value`: it need not outlive the call."""
        self.consumed.append(value)

    def _source(self, tensor: Any) -> Source:
        source = self.sources.get(id(tensor))
        if source is None:
            source = Source(tensor, tensor.cached_data, tensor.grad)
            source.grad_of = self.grads.get(id(tensor))
            self.sources[id(tensor)] = source
            if tensor.grad is not None:
                self.grads[id(tensor.grad)] = source
        return source

    def _argument(self, tensor: Tensor, number: int) -> None:
        source = self._source(tensor)
        data = source.before
        value = Value(data.size, data._dtype)
        self.graph.arguments.append(whole(value, data._shape))
        if source.argument is not None:  # the same Tensor twice: one value serves both
            return
        source.argument, source.value = number, value
        source.view = self._symbolic(data._shape, data._device, source.value)

    def _symbolic(self, shape: Any, device: BackendDevice, value: Value) -> NDArray:
        buffer = SymbolicBuffer(value.size, value.dtype)
        buffer.value = value
        return NDArray._view(shape, compact_strides(shape), 0, buffer, device, value.dtype)

    # ---- the host -----------------------------------------------------------------------------

    def guard(self, read: Callable[[], Any]) -> None:
        """The trace holds only for the present value of `read()`."""
        self.guards.append((read, read()))

    def guard_mode(self, module: Any) -> None:
        """The trace holds only for the present `module.training`."""
        self.modules[id(module)] = (module, module.training)

    def host_action(self, action: Callable[[], Any]) -> None:
        """`action` changes Python state at every call; it does not run during the trace."""
        self.actions.append(action)

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that `read()`, a host action, gives anew at every call."""
        now: list[float] = [0.0]

        def action() -> None:
            now[0] = read()

        self.actions.append(action)
        return HostNumber(lambda: now[0], self._host_scalar)

    def _host_scalar(self, number: HostNumber, device: BackendDevice, dtype: np.dtype) -> NDArray:
        key = id(number), dtype
        if key not in self.scalars:
            self.scalars[key] = number, self._host_input((), number.read, device, dtype)
        return self.scalars[key][1]

    def _host_input(
        self, shape: Any, read: Callable[[], Any], device: BackendDevice, dtype: np.dtype
    ) -> NDArray:
        """An argument that the host makes at every call: a number, or an array of `shape`."""
        value = Value(int(np.prod(shape, dtype=np.int64)), dtype)
        self.host_inputs.append((value, read, dtype))
        return self._symbolic(shape, device, value)

    def _draw(self, device: BackendDevice, draw: Callable[..., Any], shape: Any, dtype: Any) -> Any:
        """Random numbers, drawn at every call in the order of the program."""
        kind = tuple(shape), as_dtype(dtype), device
        if self.replayed:
            drawn, drawn_kind, array = self.drawn[self.replayed[-1]]
            self.replayed[-1] += 1
            if (drawn, drawn_kind) != (draw, kind):
                raise TraceError(
                    "[jit] a checkpointed function draws other numbers the second time"
                )
            return array
        now: list[Any] = [None]

        def action() -> None:
            now[0] = draw(*shape)

        self.actions.append(action)
        array = self._host_input(shape, lambda: now[0], device, as_dtype(dtype))
        self.drawn.append((draw, kind, array))
        return array

    def draws(self) -> int:
        """How many draws there have been: the mark of a run that begins here."""
        return len(self.drawn)

    @contextmanager
    def again(self, mark: int) -> Iterator[None]:
        """Inside, what was recorded since `mark` is recorded again, with its random numbers."""
        before = self.run_number
        self.runs += 1
        self.run_number = self.runs
        self.replayed.append(mark)
        try:
            yield
        finally:
            self.replayed.pop()
            self.run_number = before

    # ---- the devices' side --------------------------------------------------------------------

    def handler(self, device: BackendDevice, name: str) -> Callable[..., Any]:
        """What answers for primitive `name` of `device`."""
        original = getattr(device, name)
        special = getattr(self, f"_{name}", None)

        def handle(*args: Any, **options: Any) -> Any:
            if self._paused:
                return original(*args, **options)
            if special is not None:
                return special(device, original, *args, **options)
            self._record(device, name, args, options)
            return None

        return handle

    def _allocate(self, device: Any, original: Any, size: int, dtype: np.dtype) -> SymbolicBuffer:
        return SymbolicBuffer(int(size), as_dtype(dtype))

    def _wrap(self, device: Any, original: Any, array: np.ndarray) -> Any:
        buffer = original(array)
        self.made[id(buffer)] = buffer
        return buffer

    def _view(self, device: Any, original: Any, x: NDArray) -> np.ndarray:
        if is_traced(x) or id(x._handle) in self.overwritten:
            raise TraceError(
                "[jit] a tensor's value is needed while the function is being compiled, when there "
                "is none yet: branching on it, printing it, .numpy(), .item() and the like must "
                f"happen outside of the function.\n  {user_frame()}"
            )
        return original(x)

    def _rand(self, device: Any, original: Any, *shape: int, dtype: Any = "float32") -> NDArray:
        return self._draw(device, np.random.rand, shape, dtype)

    def _randn(self, device: Any, original: Any, *shape: int, dtype: Any = "float32") -> NDArray:
        return self._draw(device, np.random.randn, shape, dtype)

    def _fused(self, device: Any, original: Any, name: str) -> Callable[..., None] | None:
        if name not in KERNELS or original(name) is None:
            return None
        return lambda *args, **options: self._record(device, name, args, options)

    def _binary_scalar(
        self, device: Any, original: Any, op: str, x: NDArray, scalar: Any, out: NDArray,
        reverse: bool = False,
    ) -> None:  # fmt: skip
        self._record(device, "binary_scalar", (op, x, scalar, out, reverse), {})

    def _matmul(
        self, device: Any, original: Any, a: NDArray, b: NDArray, out: NDArray,
        bias: NDArray | None = None,
    ) -> None:  # fmt: skip
        self._record(device, "matmul", (a, b, out, bias), {})

    def _record(self, device: Any, name: str, args: tuple[Any, ...], options: Any) -> None:
        self._check_device(device, name)
        roles = ROLES[name]
        if options or len(args) != len(roles):
            raise TypeError(f"[jit] {name} was called with other arguments than {roles!r} names")
        read = [
            self._view_of(x) if role in "i?" and x is not None else None
            for role, x in zip(roles, args, strict=True)
        ]
        operands = tuple(
            seen if role in "i?" else x if role == "a" else self._written(x, role == "u")
            for role, x, seen in zip(roles, args, read, strict=True)
        )
        self.graph.nodes.append(Node(name, operands, self.run_number))

    def _check_device(self, device: BackendDevice, name: str) -> None:
        if self.device is None:
            self.device = device
        elif self.device != device:
            raise TraceError(
                f"[jit] a compiled function runs on one device, got {self.device} and {device} "
                f"in {name}.\n  {user_frame()}"
            )

    def _current(self, buffer: Any) -> Value | None:
        """The contents of a buffer at this point; None where nothing has been written."""
        if type(buffer) is SymbolicBuffer:
            return buffer.value
        found = self.known.get(id(buffer))
        return None if found is None else found[1]

    def _view_of(self, x: NDArray) -> View:
        value = self._current(x._handle)
        if value is None and type(x._handle) is SymbolicBuffer:
            value = x._handle.value = Value(x._handle.size, x._dtype)
            self.graph.nodes.append(Node("fill", (whole(value), 0)))  # never written: anything
        elif value is None:
            value = self._constant(x)
        return View(value, x._shape, x._strides, x._offset)

    def _constant(self, x: NDArray) -> Value:
        value = Value(x._handle.size, x._dtype)
        flat = NDArray._view((value.size,), (1,), 0, x._handle, x._device, x._dtype)
        self.known[id(x._handle)] = (x._handle, value)
        self.graph.constants.append((value, flat))
        if id(x._handle) in self.made:
            self.graph.literals.add(id(value))
        return value

    def _written(self, x: NDArray, in_place: bool) -> View:
        """The view of a new value for the array that a primitive writes."""
        buffer = x._handle
        old = self._current(buffer)
        if old is None and type(buffer) is not SymbolicBuffer:
            old = self._constant(x)
        if in_place and old is None:
            old = self._view_of(x).value
        if old is not None and any(old is source for source in self.graph.sources()):
            mine = Value(old.size, old.dtype)  # inputs stay what they are
            self.graph.nodes.append(Node("copy", (whole(old), whole(mine))))
            old = mine
        view = View(Value(buffer.size, x._dtype), x._shape, x._strides, x._offset)
        if in_place or not view.covers:
            view.value.base = old
        if type(buffer) is SymbolicBuffer:
            buffer.value = view.value
        else:
            self.known[id(buffer)] = (buffer, view.value)
            self.overwritten.add(id(buffer))
        return view

    # ---- the end ------------------------------------------------------------------------------

    def _finish(self, returned: Any) -> Trace:
        graph, effects = self.graph, Effects()
        returned = map_leaves(self._returned, returned)
        states = [s for s in self.sources.values() if s.argument is None and s.value is not None]
        position = {id(s.tensor): i for i, s in enumerate(states)}
        consumed = set(map(id, self.consumed))
        for source in list(self.sources.values()):
            data = source.tensor.cached_data
            if (data is not source.view and data is not source.before) or self._changed(source):
                self._new_data(source, data, position, effects)
            grad = source.tensor.grad
            if grad is not source.grad_before:
                kept = grad is not None and id(grad) not in consumed
                effects.grads.append((source, self._output(grad.cached_data) if kept else None))
        graph.arguments.extend(whole(value) for value, _, _ in self.host_inputs)
        return Trace(
            graph, self.device or default_device(), states, effects, self.actions,
            self.host_inputs, self.guards, list(self.modules.values()), returned,
        )  # fmt: skip

    def _returned(self, leaf: Any) -> Any:
        """What stands in the template of the returned value for a leaf of it."""
        if isinstance(leaf, Tensor):
            if id(leaf) in self.sources:
                return self.sources[id(leaf)]
            return Output(self._output(leaf.cached_data), Tensor)
        if isinstance(leaf, NDArray):
            return Output(self._output(leaf), NDArray)
        if isinstance(leaf, TensorTuple):
            return tuple(Output(self._output(x), Tensor) for x in leaf.cached_data)
        return leaf

    def _changed(self, source: Source) -> bool:
        """Whether the data itself was written into, as by `t[0] = 1`."""
        view = source.view
        return view is not None and view._handle.value is not source.value

    def _new_data(
        self, source: Source, data: NDArray, position: dict[int, int], effects: Effects
    ) -> None:
        state = position.get(id(source.tensor))
        same = data._shape == source.before._shape and data._dtype is source.before._dtype
        if state is not None and same and source.grad_of is None:
            self.graph.updates[state] = self._own(data)
        else:
            effects.data.append((source, self._output(data)))

    def _output(self, data: NDArray) -> int:
        """The number of the graph's result for an array."""
        self.graph.results.append(self._own(data))
        return len(self.graph.results) - 1

    def _own(self, data: NDArray) -> View:
        """A compact view of a value that a node writes and that is no other output's."""
        view = self._view_of(data)
        if view.is_compact and not self._is_input_or_output(view.value):
            return view
        own = whole(Value(view.size, view.dtype), view.shape)
        self.graph.nodes.append(Node("copy", (view, own)))
        return own

    def _is_input_or_output(self, value: Value) -> bool:
        taken = (*self.graph.sources(), *(v.value for v in self.graph.outputs()))
        return any(value is x for x in taken)
