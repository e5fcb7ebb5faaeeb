"""Tracing: runs a Python function once on arrays without data and records its primitives.

The function runs through the same ops, layers and optimizers as in eager execution. `Tracing`
replaces two things: it intercepts the primitives of the devices and records them as a graph, and it
provides the data of Tensors. Tensors that existed before the trace become *states*, which are found
by identity. Every later call updates the states whose data the function replaces.
"""

from __future__ import annotations

import linecache
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import compress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ... import autograd
from ...autograd import Op, Tensor, TensorTuple, Untraceable, timestamp
from ...autograd import Value as AutogradValue
from ...backend_ndarray import (
    BackendDevice,
    HostNumber,
    NDArray,
    SymbolicBuffer,
    as_dtype,
    default_device,
    is_traced,
    made_devices,
    recording,
)
from ...backend_ndarray.layout import compact_strides
from ...backend_ndarray.primitives import PRIMITIVES
from ...tree import copied, like, map_leaves
from ..ir.evaluate import Memory, contents_of, run_node, seen
from ..ir.graph import Graph, Loop, Node, Value, View, replace_values, whole
from .guards import CONTAINERS, CONTENTS, Counters, Guards, Unrepeatable, Watch, is_same, snapshot
from .host_random import Draw

_PACKAGE = str(Path(autograd.__file__).resolve().parents[1])


class TraceError(Untraceable):
    """The function does something that cannot be compiled; the message names the line."""


class Reached(BaseException):
    """The function also reaches one of its arguments (a Tensor, list or dict) from outside.

    It derives from BaseException so that the traced function does not catch it.
    """

    def __init__(self, argument: Any) -> None:
        super().__init__()
        self.argument = argument


class Raised(Exception):
    """The function has raised `error` while it was traced."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Leaked(Op):
    """Replaces the op of a Tensor that was made inside of a compiled function but used outside."""

    def __init__(self, file: str, line: int) -> None:
        self.file, self.line = file, line

    def compute(self, *args: Any) -> Any:
        """Raises TraceError."""
        source = linecache.getline(self.file, self.line).strip()
        raise TraceError(
            "[jit] a tensor that was made inside of a compiled function did not leave it, and has "
            f"no value here: return it from the function.\n  made in {self.file}:{self.line}: "
            f"{source}\n  used in {user_frame()}"
        )


class _NotALoop(Exception):
    """The step of a scan does something that a loop node cannot: the loop must be unrolled."""


@dataclass(eq=False)
class Source:
    """A Tensor from outside whose data or gradient the trace reads or replaces.

    Every call finds the Tensor again in one of four ways: as argument number `argument`, as the
    gradient of the source `grad_of`, in the `place` where every call stores another Tensor (a dict,
    a key and the path in the nesting there), or as the object itself. The trace does not modify the
    Tensor, because other threads may use it.
    """

    tensor: Tensor
    before: Any  # its data and gradient before the trace
    grad_before: Tensor | None
    argument: int | None = None
    grad_of: Source | None = None
    place: tuple[Any, Any, tuple[Any, ...]] | None = None
    value: Value | None = None  # the value in the graph, if the trace reads the data
    view: NDArray | None = None  # the symbolic array of the original data
    # The present data (None: not read) and the present gradient inside the trace.
    data: NDArray | None = None
    grad: Tensor | None = None

    def __post_init__(self) -> None:
        self.grad = self.grad_before

    @property
    def is_fixed(self) -> bool:
        """Whether every call finds the Tensor as the object itself."""
        return self.argument is None and self.grad_of is None and self.place is None


@dataclass(eq=False)
class Output:
    """A placeholder in the returned value for result number `index` of the graph."""

    index: int
    kind: type  # Tensor, a class derived from it, or NDArray
    requires_grad: bool = False  # of a leaf


@dataclass
class Given:
    """A placeholder for a list or dict that is one of the arguments."""

    number: int


@dataclass(eq=False)
class Made:
    """A placeholder for a container that the function makes: every call makes a new one."""

    container: Any  # an empty one of its kind
    contents: Any = None  # as `guards.snapshot` gives them, of templates


@dataclass(eq=False)
class MadeObject:
    """A placeholder, like `Made`, for an object with attributes that the function makes."""

    kind: type
    attributes: dict[str, Any] = field(default_factory=dict)  # templates


@dataclass
class Kept:
    """A placeholder for an object among the arguments, which a program must not keep alive."""

    object: weakref.ref[Any]


@dataclass
class Effects:
    """The side effects of a call: what it changes outside of the graph, by the graph's results."""

    data: list[tuple[Source, int]] = field(default_factory=list)  # new data
    shared: list[tuple[Source, Source]] = field(default_factory=list)  # the data of another one
    grads: list[tuple[Source, int | None]] = field(default_factory=list)  # new .grad, or None
    written: list[tuple[Source, int]] = field(default_factory=list)  # new contents of the memory
    # Values stored in Python objects: (holder, key, value). The value is a template as in
    # `Trace.returned`; the holder may be a `Given`.
    places: list[tuple[Any, Any, Any]] = field(default_factory=list)
    reshaped: set[int] = field(default_factory=set)  # ids of containers that get other contents
    # Gradients that continue into the history of a Tensor from outside.
    continued: list[tuple[Source, int]] = field(default_factory=list)


@dataclass
class Trace:
    """A graph, the origin of its inputs and the destination of its outputs."""

    graph: Graph
    device: BackendDevice
    taken: list[int]  # the arguments that the graph takes, by their number
    # Arguments that the function also reaches from outside: the program is for these objects only.
    fixed: list[tuple[int, Source]]
    states: list[Source]
    fixed_containers: list[tuple[int, Any]]  # as `fixed`
    # Ids of the Tensors, and of the containers, that the function finds by identity.
    outside: set[int]
    outside_containers: set[int]
    empty: list[Source]  # the sources that must have no gradient
    effects: Effects
    actions: list[Callable[[], Any]]  # run on the host at every call, in order
    host_inputs: list[tuple[Value, Callable[[], Any], np.dtype]]  # arguments that the host makes
    guards: Guards
    modules: list[weakref.ref[Any]]  # the called modules, in the order of first calls
    returned: Any  # what the function returned, with `Output`s and `Source`s for its Tensors


@dataclass
class Run:
    """One run of a function that runs again in the backward pass, and what it reads."""

    drawn: int = 0  # how many draws there were before
    forward: Run | None = None  # the forward run that this one is compared with
    same_values: bool = False  # whether it may read only what that run read
    inside: set[int] = field(default_factory=set)  # ids of values and buffers of its own
    outside: set[int] = field(default_factory=set)  # ids of the values that it reads besides
    modes: dict[int, tuple[Any, set[bool]]] = field(default_factory=dict)  # by the module's id

    def reads(self, value: Value, buffer: Any) -> bool:
        """Record a read; False where this run may not read it: the forward run did not."""
        if id(value) in self.inside or id(buffer) in self.inside:
            return True
        self.outside.add(id(value))
        if self.forward is None or not self.same_values:
            return True
        return id(value) in self.forward.outside or id(buffer) in self.forward.inside

    def calls(self, module: Any) -> bool:
        """Record a module's mode; False where it differs from the mode in the forward run."""
        mode = autograd.unwatched(module, "training")
        self.modes.setdefault(id(module), (module, set()))[1].add(mode)
        known = None if self.forward is None else self.forward.modes.get(id(module))
        return known is None or mode in known[1]


def _user_line() -> tuple[str, int]:
    """The file and the line of the innermost frame outside of needle."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return ("an unknown file", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def user_frame() -> str:
    """`file:line: source` of the innermost frame outside of needle."""
    file, line = _user_line()
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"


def _close(graph: Graph) -> list[Value]:
    """Turn the outer values that a loop body reads into arguments of it; returns those values."""
    known = {id(view.value) for view in graph.arguments}
    fixed: dict[int, tuple[Value, Value]] = {}  # outside, inside
    for node in graph.nodes:
        for value in node.needed():
            if id(value) not in known:
                fixed.setdefault(id(value), (value, Value(value.size, value.dtype)))
        known.update(id(view.value) for view in node.outputs)
    instead = {key: inside for key, (_, inside) in fixed.items()}
    graph.nodes = [replace_values(node, instead) for node in graph.nodes]
    graph.arguments += [whole(inside) for _, inside in fixed.values()]
    return [outside for outside, _ in fixed.values()]


class Tracing:
    """One trace: records the primitives of the devices and follows Tensors (see `Tracer`)."""

    def __init__(
        self,
        fixed: Iterable[int] = (),
        counters: Counters | None = None,
        objects: Iterable[Any] = (),
        containers: Iterable[Any] = (),
    ) -> None:
        """`fixed` has the ids of the arguments that were `Reached` from outside.

        `counters` has the places of numbers that the function increments (see `Watch`). `objects`
        are the arguments that the trace must not keep alive, `containers` the lists and dicts among
        the arguments.
        """
        self.objects = {id(thing): weakref.ref(thing) for thing in objects}
        self.graph = self.program = Graph()  # `graph` may be the body of a loop of the program
        self.fixed = frozenset(fixed)
        self.taken: list[int] = []
        self.originals: dict[int, tuple[Tensor, int]] = {}  # arguments with a stand-in, by id
        self.sources: dict[int, Source] = {}  # by the id of the Tensor
        self.states: list[Source] = []  # in the order of `Graph.states`
        self.empty: list[Source] = []  # sources whose gradient was read as None
        self.grads: dict[int, Source] = {}  # by the id of a source's gradient: the source
        self.known: dict[int, tuple[Any, Value]] = {}  # buffers with data: constants, by id
        self.made: dict[int, Any] = {}  # buffers that the trace itself wrapped, kept alive
        # Nodes whose inputs are all constants made inside, by the ids of their outputs; and the
        # contents of such outputs, computed on demand.
        self.makers: dict[int, Node] = {}
        self.contents: Memory = {}
        self.homes: dict[int, Graph] = {}  # the graph that a value is of, by the value's id
        self.inputs: set[int] = set()  # ids of the values that no node writes
        self.overwritten: set[int] = set()
        self.began = 0  # the timestamp at which the trace of the present loop body began
        self.finished: list[Graph] = []  # bodies of loops, and the ids of their values
        self.lost: set[int] = set()
        self.consumed: list[AutogradValue] = []
        self.actions: list[Callable[[], Any]] = []
        self.host_inputs: list[tuple[Value, Callable[[], Any], np.dtype]] = []
        self.watch = Watch(counters, self._found)
        self.containers = list(containers)
        self.copies: dict[int, tuple[int, Any, Any]] = {}  # of containers: (number, copy, contents)
        self.templates: dict[int, Made | MadeObject] = {}  # by the ids of what was made
        self.replaced: list[Any] = []  # Tensors in places where every call puts others
        self.numbers: dict[int, tuple[Tensor, int]] = {}  # of results, by the Tensor's id
        self.last_guards: list[tuple[Any, Any]] = []  # for what is there at the end
        self.counted: Counters = {}  # the places of numbers that it counts on
        self.modules: dict[int, weakref.ref[Any]] = {}
        self.values: list[tuple[weakref.ref[AutogradValue], str, int]] = []  # that it has made
        self.beyond: set[int] = set()  # ids of what Tensors from outside were computed from
        self.continued: list[tuple[Source, AutogradValue]] = []
        self.drawn: list[tuple[Any, Any, NDArray]] = []  # (what, shape and dtype, array)
        self.watched: list[Run] = []  # those going on
        self.replayed: list[int] = []  # the next draw to give again, while a function runs again
        self.run_number = self.runs = 0  # of nodes, see `Node.run`
        self.scalars: dict[Any, tuple[HostNumber, NDArray]] = {}  # those made of host numbers
        self.device: BackendDevice | None = None
        self.since = 0  # the timestamp at which the trace began
        self._paused = 0

    # ---- running ----------------------------------------------------------------------------

    def run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        arguments: list[Tensor],
    ) -> Trace:  # fmt: skip
        """Trace `function(*args, **kwargs)`; `arguments` are the Tensors in them, in order.

        The function gets stand-ins of them, so that an argument that it also finds outside, as a
        parameter of a model may be, can be told: that raises `Reached`, unless it is `fixed`.
        The Tensors themselves stay as they are; objects have their attributes back afterwards.
        Raises `Raised` where the function raises an exception of its own.
        """
        stand_ins = self._stand_ins(arguments)
        args, kwargs = self._with_copies((args, kwargs), stand_ins)
        self.since = timestamp()
        try:
            with autograd.trace_with(self), self._recording(), self.watch:
                self.watch.place_counters()
                map_leaves(self.watch.reached, (function, args, kwargs))
                try:
                    returned = function(*args, **kwargs)
                except Untraceable:
                    raise
                except Exception as error:
                    raise Raised(error) from error
                self.watch.check_unseen()
                trace = self._finish(returned, arguments)
                self.counted = self.watch.counted()
            self.watch.restore()
            trace.guards = self._guards()
            return trace
        finally:
            self.watch.find_changed()
            self.watch.restore()
            self._release()

    def _stand_ins(self, arguments: list[Tensor]) -> dict[int, Tensor]:
        """The stand-in of each argument, by the argument's id."""
        stand_ins: dict[int, Tensor] = {}
        for i, tensor in enumerate(arguments):
            if id(tensor) in stand_ins:  # the same Tensor twice
                continue
            if id(tensor) in self.fixed:
                stand_ins[id(tensor)] = tensor
                continue
            stand_ins[id(tensor)] = twin = tensor._twin()
            self.originals[id(tensor)] = tensor, i
            self._argument(twin, i)
        for twin in stand_ins.values():
            gradient = twin._grad
            if id(gradient) in stand_ins:
                twin._grad = stand_ins[id(gradient)]
        return stand_ins

    def _with_copies(self, given: Any, stand_ins: dict[int, Tensor]) -> Any:
        """The arguments with stand-ins, in containers that the function may change."""
        instead: dict[int, Any] = dict(stand_ins)
        instead.update((id(c), c) for c in self.containers if id(c) in self.fixed)
        given = copied(given, instead)
        for i, container in enumerate(self.containers):
            twin = instead.get(id(container), container)
            if twin is not container and id(twin) not in self.copies:
                self.copies[id(twin)] = i, twin, snapshot(twin)
        return given

    def _found(self, thing: Any) -> None:
        """Called when the function finds a Tensor or container outside; raises Reached."""
        if id(thing) in self.originals or any(
            thing is c for c in self.containers if id(c) not in self.fixed
        ):
            raise Reached(thing)

    def _release(self) -> None:
        """Drop references that only the trace needed."""
        for source in self.sources.values():
            source.view = source.data = source.grad = source.grad_before = source.before = None
            if source.argument is not None:
                source.tensor = None  # type: ignore[assignment]
        for reference, file, line in self.values:
            value = reference()
            if value is not None and self._stays_inside(value.cached_data):
                value.op, value.inputs, value.cached_data = _Leaked(file, line), (), None

    def _stays_inside(self, data: Any) -> bool:
        """Whether data made by the trace has no value outside of it."""
        arrays = data if isinstance(data, tuple) else (data,)
        return any(is_traced(x) or id(x._handle) in self.overwritten for x in arrays)

    def _guards(self) -> Guards:
        tensors = {id(tensor): tensor for tensor in self.watch.tensors}
        for source in self.sources.values():
            if source.argument is None and source.grad_of is None:
                tensors[id(source.tensor)] = source.tensor
        stand_ins = {id(s.tensor) for s in self.sources.values() if s.argument is not None}
        differentiable = [
            (tensor, "requires_grad") for key, tensor in tensors.items() if key not in stand_ins
        ]
        return Guards(self.watch.guards(self.last_guards + differentiable))

    @contextmanager
    def _recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for device in made_devices():
                if device.enabled():
                    stack.enter_context(recording(device, self))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which primitives run eagerly and Tensors give their real data."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    # ---- Tensors ------------------------------------------------------------------------------

    def read(self, value: AutogradValue) -> Any:
        """The data of `value` inside the trace; a Tensor from outside becomes a source."""
        data = value.cached_data
        if type(data) is not NDArray and not isinstance(data, NDArray):
            return data
        if self._paused or self._is_inside(data):
            return data
        source = self._source(value)
        if source.view is None:
            source.value = self._input(self.program, data.size, data._dtype)
            self.program.states.append(whole(source.value, data._shape))
            self.states.append(source)
            source.view = self._symbolic(data._shape, data._device, source.value)
            source.view._handle.version = data._handle.version
        if source.data is None:
            source.data = source.view
        return source.data

    def write(self, value: AutogradValue, data: Any) -> bool:
        """Record that `value` gets new data; True where `value` is from outside (a side effect)."""
        if self._paused:
            return False
        self._refuse_in_loop()
        if not isinstance(value, Tensor):
            return False
        if id(value) not in self.sources and self._is_inside(value.cached_data):
            return False
        self._source(value).data = data
        return True

    def new_value(self, value: AutogradValue) -> None:
        """Record a Value that the function makes."""
        if not self._paused:
            self.values.append((weakref.ref(value), *_user_line()))

    def read_grad(self, value: AutogradValue) -> Any:
        """The gradient of `value` inside the trace."""
        if id(value) in self.beyond:
            raise TraceError(
                "[jit] backward() goes on from an argument, or another tensor that was computed "
                "outside of the function, to what that was computed from; those gradients are "
                f"there after the call, not inside of it: detach() it.\n  {user_frame()}"
            )
        if self._paused or value._created >= self.since:
            return value._grad
        source = self._source(value)
        if source.grad is None and source.grad_before is None and source not in self.empty:
            self.empty.append(source)
        return source.grad

    def write_grad(self, value: AutogradValue, grad: Any) -> bool:
        """Record that `value` gets a gradient; True where `value` is from outside."""
        if self._paused or value._created >= self.since:
            return False
        self._source(value).grad = grad
        return True

    def _is_inside(self, data: NDArray) -> bool:
        """Whether the trace has made the data."""
        return is_traced(data) or id(data._handle) in self.made

    def backward(self, values: Iterable[AutogradValue]) -> None:
        """Refuse gradients of outer values in a loop body: they would be lost after the step."""
        if any(v.requires_grad and v._created < self.began for v in values):
            self._refuse_in_loop()

    def leaves(self, value: AutogradValue, gradient: AutogradValue) -> None:
        """Record that `gradient` continues into the history of `value`, made before the trace."""
        self.continued.append((self._source(value), gradient))
        self.beyond.update(id(v) for v in autograd.find_topo_sort([value]) if v is not value)

    def asked_for_gradients(self, inputs: Iterable[Any], values: Iterable[AutogradValue]) -> None:
        """Check a request for gradients of `inputs` that pass through outer `values`.

        Raises TraceError if an outer value was computed from one of the inputs, and Reached if an
        input from outside is also an argument.
        """
        outside = [self._source(x) for x in inputs if x._created < self.since]
        before = [x for value in values for x in value.inputs]
        history = {id(v) for v in autograd.find_topo_sort(before)} if before else set()
        numbers = {self.originals[key][1] for key in history if key in self.originals}
        if any(id(s.tensor) in history or s.argument in numbers for s in outside):
            raise TraceError(
                "[jit] a gradient is asked for that goes through a tensor computed outside of the "
                f"function; compute it inside.\n  {user_frame()}"
            )

    def used_up(self, value: AutogradValue) -> None:
        """Record that an optimizer has applied the gradient `value`, which may then be dropped."""
        self.consumed.append(value)

    def _source(self, tensor: Any) -> Source:
        source = self.sources.get(id(tensor))
        if source is None:
            if id(tensor) in self.originals:
                raise Reached(tensor)
            if tensor.cached_data is None:  # lazy
                with self.paused():
                    tensor.realize_cached_data()
            grad = tensor._grad
            source = Source(tensor, tensor.cached_data, grad)
            source.grad_of = self.grads.get(id(tensor))
            self.sources[id(tensor)] = source
            if grad is not None:
                self.grads[id(grad)] = source
        return source

    def _argument(self, tensor: Tensor, number: int) -> None:
        self.taken.append(number)
        source = self._source(tensor)
        data = source.before
        value = self._input(self.program, data.size, data._dtype)
        self.graph.arguments.append(whole(value, data._shape))
        source.argument, source.value = number, value
        source.data = source.view = self._symbolic(data._shape, data._device, source.value)

    def _symbolic(self, shape: Any, device: BackendDevice, value: Value) -> NDArray:
        buffer = SymbolicBuffer(value.size, value.dtype)
        buffer.value = value
        return NDArray._view(shape, compact_strides(shape), 0, buffer, device, value.dtype)

    # ---- the host -----------------------------------------------------------------------------

    def guard_items(self, holder: dict[Any, Any], keys: Iterable[Any]) -> None:
        """The trace holds only while these items are what they are at its end."""
        self.last_guards += [(holder, key) for key in keys]
        self.watch.manage(holder)

    def guard_contents(self, container: list[Any] | dict[Any, Any]) -> None:
        """The trace holds only while the objects are in `container` that are there at its end."""
        self.last_guards.append((container, CONTENTS))
        self.watch.manage(container)

    def has_made(self, obj: Any) -> bool:
        """Whether the function has made an object, as every call does."""
        return self.watch.has_made(obj)

    def calls(self, module: Any) -> None:
        """Record the call of a module. Raises TraceError if a recomputation uses another mode."""
        if not all(run.calls(module) for run in self.watched):
            mode = "training" if autograd.unwatched(module, "training") else "eval"
            raise TraceError(
                f"[jit] {type(module).__name__} is in {mode} "
                "mode when a function of ndl.scan or ndl.checkpoint runs again for its gradient, "
                f"and was not in the forward pass.\n  {user_frame()}"
            )
        self.modules.setdefault(id(module), weakref.ref(module))

    def host_action(self, action: Callable[[], Any]) -> None:
        """Run `action`, which changes Python state, at every call but not during the trace."""
        self._refuse_in_loop()
        self.actions.append(self._weakly(action))

    def is_set(self, holder: dict[Any, Any], key: Any) -> bool:
        """Whether the function has replaced an item of a dict, or increments it."""
        self.watch.find_changed()
        return self.watch.is_written(holder, key) or isinstance(holder[key], HostNumber)

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that every call gets from `read()`, a host action."""
        self._refuse_in_loop()
        read = self._weakly(read)
        now: list[float] = [0.0]

        def action() -> None:
            now[0] = read()

        self.actions.append(action)
        return HostNumber(lambda: now[0], self._host_scalar)

    def _weakly(self, action: Callable[[], Any]) -> Callable[[], Any]:
        """The action, with a weak reference to its object if that must not be kept alive."""
        if id(getattr(action, "__self__", None)) not in self.objects:
            return action
        method = weakref.WeakMethod(action)

        def call() -> Any:
            bound = method()
            assert bound is not None, "the programs of an object die with it"
            return bound()

        return call

    def _host_scalar(self, number: HostNumber, device: BackendDevice, dtype: np.dtype) -> NDArray:
        key = id(number), dtype
        if key not in self.scalars:
            self.scalars[key] = number, self._host_input((), number.read, device, dtype)
        return self.scalars[key][1]

    def _host_input(
        self, shape: Any, read: Callable[[], Any], device: BackendDevice, dtype: np.dtype
    ) -> NDArray:
        """An argument that the host computes at every call: a number, or an array of `shape`."""
        value = self._input(self.program, prod(shape), dtype)
        self.host_inputs.append((value, read, dtype))
        return self._symbolic(shape, device, value)

    def _draw(
        self, device: BackendDevice, original: Any, draw: Callable[..., Any], shape: Any,
        dtype: Any, on_host: bool = True,
    ) -> NDArray:  # fmt: skip
        """Random numbers that every call draws, in the order of the program."""
        self._refuse_in_loop()
        kind = tuple(shape), as_dtype(dtype), device
        if self.replayed:
            drawn, drawn_kind, array = self.drawn[self.replayed[-1]]
            self.replayed[-1] += 1
            if (drawn, drawn_kind) != (draw, kind):
                raise TraceError(
                    "[jit] a checkpointed function draws other numbers the second time"
                )
            return array
        if on_host:
            drawing = Draw(draw, tuple(shape))
            self.actions.append(drawing)
            array = self._host_input(shape, drawing.read, device, as_dtype(dtype))
        else:
            array = original(draw, shape, dtype, on_host=False)
        self.drawn.append((draw, kind, array))
        return array

    # ---- functions that run again -------------------------------------------------------------

    @contextmanager
    def _watch(self, run: Run, inputs: Iterable[AutogradValue] = ()) -> Iterator[Run]:
        run.inside.update(id(self._current(x.realize_cached_data()._handle)) for x in inputs)
        self.watched.append(run)
        try:
            yield run
        finally:
            self.watched.pop()

    def record_forward(self, inputs: Iterable[AutogradValue]) -> AbstractContextManager[Run]:
        """See `Tracer.record_forward`."""
        return self._watch(Run(len(self.drawn)), inputs)

    def replay(self, run: Run, inputs: Iterable[AutogradValue]) -> AbstractContextManager[Run]:
        """See `Tracer.replay`."""
        return self._watch(Run(forward=run, same_values=True), inputs)

    @contextmanager
    def recompute(self, run: Run) -> Iterator[None]:
        """See `Tracer.recompute`."""
        before = self.run_number
        self.runs += 1
        self.run_number = self.runs
        self.replayed.append(run.drawn)
        try:
            with self._watch(Run(forward=run)):
                yield
        finally:
            self.replayed.pop()
            self.run_number = before

    # ---- loops --------------------------------------------------------------------------------

    def loop(
        self, body: Any, carries: list[NDArray], xs: list[NDArray], reverse: bool
    ) -> tuple[list[NDArray], list[NDArray]] | None:
        """Add a loop node that runs `body` for every step; see `Tracer.loop`."""
        if self._paused:
            return None
        self._check_device(xs[0]._device, "scan")
        carries, xs = [x.compact() for x in carries], [x.compact() for x in xs]
        first = [self._view_of(x) for x in (*carries, *xs)]
        traced = self._body(body, carries, xs)
        if traced is None:
            return None
        graph, fixed = traced
        loop = Loop(graph, xs[0]._shape[0], len(carries), len(xs), reverse)
        shapes = [
            view.shape if i < len(carries) else (loop.length, *view.shape)
            for i, view in enumerate(graph.results)
        ]
        results = [
            self._symbolic(shape, xs[0]._device, Value(prod(shape), view.dtype))
            for shape, view in zip(shapes, graph.results, strict=True)
        ]
        outputs = [whole(x._handle.value, x._shape) for x in results]
        operands = (loop, *first, *map(whole, fixed), *outputs)
        self._add(Node("scan", operands, self.run_number))
        return results[: len(carries)], results[len(carries) :]

    def _body(
        self, body: Any, carries: list[NDArray], xs: list[NDArray]
    ) -> tuple[Graph, list[Value]] | None:
        """The graph of one step, and the outer values that it also reads."""
        graph = Graph()
        outer = self.graph, self.began
        self.graph, self.began = graph, timestamp()
        shapes = [*(x._shape for x in carries), *(x._shape[1:] for x in xs)]
        inputs = []
        for shape, given in zip(shapes, (*carries, *xs), strict=True):
            value = self._input(graph, prod(shape), given._dtype)
            graph.arguments.append(whole(value, shape))
            inputs.append(self._symbolic(shape, given._device, value))
        before = {key: source.grad for key, source in self.sources.items()}
        try:
            new, ys = body(inputs[: len(carries)], inputs[len(carries) :])
            for array in (*new, *ys):
                self._output(array)
            self._refuse_new_gradients(before)
        except _NotALoop:
            return None
        finally:
            self.graph, self.began = outer
            for key, source in self.sources.items():
                source.grad = before.get(key, source.grad_before)
            self.finished.append(graph)
            self.lost.update(id(v.value) for node in graph.nodes for v in node.outputs)
            self.lost.update(id(view.value) for view in graph.arguments)
        return graph, _close(graph)

    def _refuse_in_loop(self) -> None:
        if self.graph is not self.program:
            raise _NotALoop

    def _refuse_new_gradients(self, before: dict[int, Tensor | None]) -> None:
        """Refuse a loop body that sets a gradient: later steps would see another gradient."""
        for key, source in self.sources.items():
            if source.grad is not before.get(key, source.grad_before):
                self._refuse_in_loop()

    # ---- the devices' side --------------------------------------------------------------------

    def handler(
        self, device: BackendDevice, name: str, original: Callable[..., Any]
    ) -> Callable[..., Any]:
        """The function that replaces primitive `name` of `device` during the trace."""
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
        for run in self.watched:
            run.inside.add(id(buffer))
        return buffer

    def _view(self, device: Any, original: Any, x: NDArray) -> np.ndarray:
        if is_traced(x) or id(x._handle) in self.overwritten:
            value = self._current(x._handle)
            if value is not None and self._is_known(value):
                return self._known(View(value, x._shape, x._strides, x._offset))
            raise TraceError(
                "[jit] a tensor's value is needed while the function is being compiled, when there "
                "is none yet. Outside of the function must happen: branching on it, printing it, "
                ".numpy(), .item() and the like; .to() another device, for a compiled function "
                "runs on one device; x[mask], whose shape depends on the values (that of "
                f"ndl.where does not).\n  {user_frame()}"
            )
        return original(x)

    def _is_known(self, value: Value) -> bool:
        """Whether the contents depend only on constants made inside: every call has the same."""
        return id(value) in self.makers or id(value) in self.program.literals

    def _known(self, view: View) -> np.ndarray:
        """The contents of a value for which `_is_known` is true."""
        needed, stack = set(), [view.value]
        while stack:
            node = self.makers.get(id(stack.pop()))
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                stack += node.needed()
        with self.paused():
            for value, array in self.program.constants:
                if id(value) in self.program.literals:
                    self.contents.setdefault(id(value), contents_of(array))
            for node in dict.fromkeys(self.makers.values()):  # in the order of the program
                if id(node) in needed and id(node.outputs[0].value) not in self.contents:
                    run_node(node, self.contents)
            return seen(view, self.contents).copy()

    def _fused(self, device: Any, original: Any, name: str) -> Callable[..., None] | None:
        if not PRIMITIVES[name].is_node or original(name) is None:
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
        roles = PRIMITIVES[name].operands
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
        self._add(Node(name, operands, self.run_number))

    def _check_device(self, device: BackendDevice, name: str) -> None:
        if self.device is None:
            self.device = device
        elif self.device != device:
            raise TraceError(
                f"[jit] a compiled function runs on one device, got {self.device} and {device} "
                f"in {name}.\n  {user_frame()}"
            )

    def _add(self, node: Node) -> None:
        """Append a node to the graph that is being traced."""
        self.graph.nodes.append(node)
        if node.op != "scan" and all(map(self._is_known, node.needed())):
            self.makers.update((id(view.value), node) for view in node.outputs)
        for view in node.outputs:
            self._belongs(view.value, self.graph)

    def _input(self, graph: Graph, size: int, dtype: np.dtype) -> Value:
        """A value that no node of `graph` writes."""
        value = Value(size, dtype)
        self.inputs.add(id(value))
        self._belongs(value, graph)
        return value

    def _belongs(self, value: Value, graph: Graph) -> None:
        self.homes[id(value)] = graph
        if graph is not self.program or id(value) not in self.inputs:
            for run in self.watched:
                run.inside.add(id(value))

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
            self._add(Node("fill", (whole(value), 0)))  # uninitialized: any contents will do
        elif value is None:
            value = self._constant(x)
        elif id(value) in self.lost:
            raise TraceError(
                "[jit] a tensor made inside the function of ndl.scan is used after it; return it "
                f"as a part of the carry or of y.\n  {user_frame()}"
            )
        if self.watched and not all(run.reads(value, x._handle) for run in self.watched):
            raise TraceError(
                "[jit] the function of ndl.scan runs again for its gradient, and a tensor that it "
                "reads is another, or has other data than in the forward pass; change it after "
                f"the gradient.\n  {user_frame()}"
            )
        return View(value, x._shape, x._strides, x._offset)

    def _constant(self, x: NDArray) -> Value:
        value = self._input(self.program, x._handle.size, x._dtype)
        flat = NDArray._view((value.size,), (1,), 0, x._handle, x._device, x._dtype)
        self.known[id(x._handle)] = (x._handle, value)
        self.program.constants.append((value, flat))
        if id(x._handle) in self.made:
            self.program.literals.add(id(value))
        return value

    def _written(self, x: NDArray, in_place: bool) -> View:
        """A view of a new value, which a primitive writes into the array `x`."""
        buffer = x._handle
        old = self._current(buffer)
        if old is None and type(buffer) is not SymbolicBuffer:
            old = self._constant(x)
        if in_place and old is None:
            old = self._view_of(x).value
        if old is not None and self.homes.get(id(old)) is not self.graph:
            self._refuse_in_loop()
        if old is not None and id(old) in self.inputs:
            mine = Value(old.size, old.dtype)  # a node may not overwrite an input
            self._add(Node("copy", (whole(old), whole(mine))))
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

    def _finish(self, returned: Any, arguments: list[Tensor]) -> Trace:
        self.watch.find_changed()
        graph, effects = self.graph, Effects()
        self.replaced = list(self.watch.replaced(Tensor))
        returned = self._template(returned)
        fixed = [(i, self._source(a)) for i, a in enumerate(arguments) if id(a) in self.fixed]
        states = self.states
        position = {id(s.tensor): i for i, s in enumerate(states)}
        consumed = set(map(id, self.consumed))
        for source in list(self.sources.values()):
            if self._changed(source):
                self._new_contents(source, position, effects)
            if source.data is not source.view:
                self._new_data(source, position, effects)
            grad = source.grad
            if grad is not source.grad_before:
                kept = None if grad is None or id(grad) in consumed else self._number(grad)
                effects.grads.append((source, kept))
        for holder, key, value in self.watch.writes():
            write = self._contents if key is CONTENTS else self._template
            effects.places.append((holder, key, write(value)))
        for number, twin, before in self.copies.values():
            if not is_same(snapshot(twin), before):
                effects.places.append((Given(number), CONTENTS, self._contents(snapshot(twin))))
        effects.reshaped = self.watch.reshaped()
        effects.continued = [(s, self._output(g.cached_data)) for s, g in self.continued]
        self._place_states()
        self._settle_device()
        graph.arguments.extend(whole(value) for value, _, _ in self.host_inputs)
        by_identity = [
            s for s in self.sources.values() if not (s.argument is not None or s.grad_of or s.place)
        ]
        apart = {id(s.tensor) for s in self.sources.values()} - {id(s.tensor) for s in by_identity}
        outside = {id(s.tensor) for s in by_identity} | set(map(id, self.watch.tensors)) - apart
        fixed_containers = [(i, c) for i, c in enumerate(self.containers) if id(c) in self.fixed]
        return Trace(
            graph, self.device or default_device(), self.taken, fixed, states, fixed_containers,
            outside, self.watch.containers(), self.empty, effects, self.actions, self.host_inputs,
            Guards([]), list(self.modules.values()), returned,
        )  # fmt: skip

    def _settle_device(self) -> None:
        """Determine the program's device: its nodes' or, without nodes, that of its outputs.

        Unused arguments on other devices are removed from the program.
        """
        graph, used = self.graph, self.graph.used()
        needed = [id(view.value) in used for view in graph.arguments]
        given = [s.before._device for s in self.sources.values() if s.argument is not None]
        taken = [d for d, is_needed in zip(given, needed, strict=True) if is_needed]
        states = [s.before._device for s in self.states]
        constants = [array._device for value, array in graph.constants if id(value) in used]
        for device in (*taken, *states, *constants):
            self._check_device(device, "what the function returns or keeps")
        kept = [
            is_needed or device is self.device
            for device, is_needed in zip(given, needed, strict=True)
        ]
        self.taken = list(compress(self.taken, kept))
        graph.arguments[:] = compress(graph.arguments, kept)

    def _place_states(self) -> None:
        """Let calls find a state in the place in which the function replaces it."""
        for holder, key, path, tensor in self.replaced:
            source = self.sources.get(id(tensor))
            if source is not None and source.argument is None and source.grad_of is None:
                source.place = holder, key, path

    def _template(self, value: Any) -> Any:
        """The template of a value that leaves the function: the value with placeholders.

        These are `Output` for a result of the graph; `Source`, `Given` and `Kept` for an object
        that every call finds; `Made` and `MadeObject` for one that every call makes.
        """
        if isinstance(value, tuple):
            items = [self._template(item) for item in value]
            same = all(x is y for x, y in zip(items, value, strict=True))
            return value if same else like(value, items)
        if not isinstance(value, (*CONTAINERS, np.ndarray)) or isinstance(value, frozenset):
            attributes = self.watch.attributes_made(value)
            return self._returned(value) if attributes is None else self._made(value, attributes)
        if id(value) in self.copies:
            return Given(self.copies[id(value)][0])
        if self.watch.is_outside(value):
            return value
        if id(value) not in self.templates:
            shell = copy(value)
            if hasattr(shell, "clear"):
                shell.clear()  # a program must not keep the user's objects alive
            made = self.templates[id(value)] = Made(shell)
            made.contents = self._contents(snapshot(value))
        return self.templates[id(value)]

    def _made(self, value: Any, attributes: dict[str, Any]) -> Any:
        """The template of an object that the function has made."""
        if id(value) not in self.templates:
            made = self.templates[id(value)] = MadeObject(type(value))
            made.attributes = self._contents(attributes)
        return self.templates[id(value)]

    def _contents(self, contents: Any) -> Any:
        """The template of the contents of a container."""
        if isinstance(contents, dict):
            return {
                self._returned(key) if isinstance(key, Tensor) else key: self._template(item)
                for key, item in contents.items()
            }
        return contents if isinstance(contents, np.ndarray) else self._template(contents)

    def _number(self, tensor: Tensor) -> int:
        """The index of a Tensor among the graph's results."""
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = tensor, self._output(tensor.cached_data)
        return self.numbers[id(tensor)][1]

    def _returned(self, leaf: Any) -> Any:
        """The placeholder of a leaf of the returned value."""
        if isinstance(leaf, Tensor):
            if leaf._created < self.since or not self._is_inside(leaf.cached_data):
                return self._source(leaf)
            is_trained = leaf.requires_grad and leaf.is_leaf()
            return Output(self._number(leaf), type(leaf) if is_trained else Tensor, is_trained)
        if isinstance(leaf, NDArray):
            return Output(self._output(leaf), NDArray)
        if isinstance(leaf, TensorTuple):
            return tuple(Output(self._output(x), Tensor) for x in leaf.cached_data)
        if isinstance(leaf, (Iterator, Coroutine)):
            kind = type(leaf).__name__
            raise Unrepeatable(f"it returns or keeps a {kind}, which runs after the call")
        return Kept(self.objects[id(leaf)]) if id(leaf) in self.objects else leaf

    def _changed(self, source: Source) -> bool:
        """Whether the data was written in place, as by `t[0] = 1`."""
        view = source.view
        return view is not None and view._handle.value is not source.value

    def _new_contents(self, source: Source, position: dict[int, int], effects: Effects) -> None:
        """Record an in-place write: every Tensor that shares the memory sees it."""
        assert source.view is not None
        state = position.get(id(source.tensor))
        if state is not None and source.grad_of is None:
            self.graph.updates[state] = self._own(source.view)
            self.graph.in_place.add(state)
        else:
            effects.written.append((source, self._output(source.view)))

    def _new_data(self, source: Source, position: dict[int, int], effects: Effects) -> None:
        data = source.data
        assert data is not None
        for other in self.sources.values():
            if data is other.view and other is not source:  # after `w.data = v` both share memory
                effects.shared.append((source, other))
                return
        state = position.get(id(source.tensor))
        same = data._shape == source.before._shape and data._dtype is source.before._dtype
        if state is not None and same and source.grad_of is None and not self._changed(source):
            self.graph.updates[state] = self._own(data)
        else:
            effects.data.append((source, self._output(data)))

    def _output(self, data: NDArray) -> int:
        """Make an array a result of the graph; returns its index."""
        self.graph.results.append(self._own(data))
        return len(self.graph.results) - 1

    def _own(self, data: NDArray) -> View:
        """A compact view of the data, of a value that a node writes and no other output uses."""
        view = self._view_of(data)
        if view.is_compact and self._is_made_here(view.value) and not self._leaves(view.value):
            return view
        own = whole(Value(view.size, view.dtype), view.shape)
        self._add(Node("copy", (view, own)))
        return own

    def _leaves(self, value: Value) -> bool:
        return any(value is view.value for view in self.graph.outputs())

    def _is_made_here(self, value: Value) -> bool:
        """Whether a node of this graph, which may be the body of a loop, writes the value."""
        return self.homes.get(id(value)) is self.graph and id(value) not in self.inputs
