"""The tracer: what Tensors report while a function is traced.

A Tensor tells the tracer when its data or gradient is read or replaced. One that existed before the
trace becomes a `Source`: its data inside the trace is an array without memory, and it keeps its own
data until a program runs. See `needle.autograd.tracing.Tracer` for the interface.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

from ...autograd import Tensor, find_topo_sort
from ...autograd import Value as AutogradValue
from ...autograd.modes import timestamp
from ...autograd.unused import lost
from ...backend_ndarray import HostNumber, NDArray
from ...user_lines import user_line
from ..ir.graph import Value, whole
from .arguments import Action, Arguments
from .errors import AliasedArgument, LeakedValue, TraceError, user_frame
from .guards import Guards
from .host import Host
from .loops import Arrays, Body, record_loop
from .places import CONTENTS, Container, Holder, Key
from .recompute import Run, Runs
from .recorder import Recorder
from .templates import Source
from .watch import Watch

# The data of a Value: an NDArray, or a tuple of them.
Data: TypeAlias = Any


class Tracer:
    """Follows the Tensors of a traced function, and passes the rest of their reports on."""

    def __init__(
        self, recorder: Recorder, runs: Runs, host: Host, watch: Watch, arguments: Arguments
    ) -> None:
        self.since = 0  # the timestamp at which the trace began
        self.sources: dict[int, Source] = {}  # by the id of the Tensor
        self.states: list[Source] = []  # in the order of `Graph.states`
        self.empty: list[Source] = []  # sources whose gradient was read as None
        self.taken: list[int] = []  # the numbers of the arguments with a stand-in
        self.modules: dict[int, weakref.ref[Any]] = {}  # the called modules, by id
        self.continued: list[tuple[Source, AutogradValue]] = []  # see `leaves`
        self.unread_gradients: set[int] = set()  # see `autograd.tracing.Tracer`
        self.lost_gradients: set[int] = set()
        self._recorder, self._runs, self._host = recorder, runs, host
        self._watch, self._arguments = watch, arguments
        self._gradients: dict[int, Source] = {}  # by the id of a source's gradient: the source
        self._applied: dict[int, AutogradValue] = {}  # gradients that an optimizer used, by id
        self._made: list[tuple[weakref.ref[AutogradValue], str, int]] = []  # values, and the lines
        self._history: set[int] = set()  # ids of what Tensors from outside were computed from
        self._guarded: list[tuple[Holder, Key]] = []  # places whose final contents are guards
        self._body_since = 0  # the timestamp at which the trace of the present loop body began

    # ---- data -----------------------------------------------------------------------------------

    def read(self, value: AutogradValue) -> Data:
        """The data of `value` inside the trace; a Tensor from outside becomes a source."""
        data = value.cached_data
        if type(data) is not NDArray and not isinstance(data, NDArray):
            return data
        if self._recorder.is_paused or self._recorder.is_inside(data):
            return data
        source = self.source(value)
        if source.view is None:
            source.value = self._recorder.input(self._recorder.program, data.size, data._dtype)
            self._recorder.program.states.append(whole(source.value, data._shape))
            self.states.append(source)
            source.view = self._symbolic(data, source.value)
            source.view._handle.version = data._handle.version
        if source.data is None:
            source.data = source.view
        return source.data

    def write(self, value: AutogradValue, data: Data) -> bool:
        """Record that `value` gets new data; True where `value` is from outside (a side effect)."""
        if self._recorder.is_paused:
            return False
        self._recorder.refuse_in_loop()
        if not isinstance(value, Tensor):
            return False
        if id(value) not in self.sources and self._recorder.is_inside(value.cached_data):
            return False
        self.source(value).data = data
        return True

    def new_value(self, value: AutogradValue) -> None:
        """Record a Value that the function makes."""
        if not self._recorder.is_paused:
            self._made.append((weakref.ref(value), *user_line()))

    def source(self, tensor: Any) -> Source:
        """The source of a Tensor from outside. Raises AliasedArgument for one with a stand-in."""
        source = self.sources.get(id(tensor))
        if source is None:
            if self._arguments.number(id(tensor)) is not None:
                raise AliasedArgument(tensor)
            if tensor.cached_data is None:  # lazy
                with self.paused():
                    tensor.realize_cached_data()
            grad = tensor._grad
            source = Source(tensor, tensor.cached_data, grad)
            source.grad_of = self._gradients.get(id(tensor))
            self.sources[id(tensor)] = source
            if grad is not None:
                self._gradients[id(grad)] = source
        return source

    def add_argument(self, tensor: Tensor, number: int) -> None:
        """Make the stand-in of an argument an argument of the graph."""
        self.taken.append(number)
        source = self.source(tensor)
        program, data = self._recorder.program, source.before
        value = self._recorder.input(program, data.size, data._dtype)
        program.arguments.append(whole(value, data._shape))
        source.argument, source.value = number, value
        source.data = source.view = self._symbolic(data, value)

    def _symbolic(self, data: NDArray, value: Value) -> NDArray:
        return self._recorder.symbolic(data._shape, data._device, value)

    # ---- gradients ------------------------------------------------------------------------------

    def read_grad(self, value: AutogradValue) -> Tensor | None:
        """The gradient of `value` inside the trace."""
        if id(value) in self._history:
            raise TraceError(
                "[jit] backward() goes on from an argument, or another tensor that was computed "
                "outside of the function, to what that was computed from; those gradients are "
                f"there after the call, not inside of it: detach() it.\n  {user_frame()}"
            )
        if self._recorder.is_paused or value._created >= self.since:
            inner: Tensor | None = value._grad
            return inner
        source = self.source(value)
        if source.grad is None and source.grad_before is None and source not in self.empty:
            self.empty.append(source)
        self._uses_gradient(source)
        return source.grad

    def write_grad(self, value: AutogradValue, grad: Tensor | None) -> bool:
        """Record that `value` gets a gradient; True where `value` is from outside."""
        if self._recorder.is_paused or value._created >= self.since:
            return False
        source = self.source(value)
        self._uses_gradient(source, by_reading=grad is None)
        source.grad = grad
        if grad is None:
            self.lost_gradients.discard(id(value))
            lost.pop(id(value), None)  # what was lost before the call is no part of a sum either
        return True

    def _uses_gradient(self, source: Source, by_reading: bool = True) -> None:
        """Record that the present gradient of a source is read, or taken away."""
        self.unread_gradients.discard(id(source.tensor))
        if by_reading and source.grad is source.grad_before:
            source.uses_gradient = True

    def backward(self, values: Iterable[AutogradValue]) -> None:
        """Refuse gradients of outer values in a loop body: they would be lost after the step."""
        if any(v.requires_grad and v._created < self._body_since for v in values):
            self._recorder.refuse_in_loop()

    def leaves(self, value: AutogradValue, gradient: AutogradValue) -> None:
        """Record that `gradient` continues into the history of `value`, made before the trace."""
        self.continued.append((self.source(value), gradient))
        self._history.update(id(v) for v in find_topo_sort([value]) if v is not value)

    def asked_for_gradients(
        self, inputs: Iterable[AutogradValue], values: Iterable[AutogradValue]
    ) -> None:
        """Check a request for gradients of `inputs` that pass through outer `values`.

        Raises TraceError if an outer value was computed from one of the inputs, and AliasedArgument
        if an input from outside is also an argument.
        """
        outside = [self.source(x) for x in inputs if x._created < self.since]
        before = [x for value in values for x in value.inputs]
        history = {id(v) for v in find_topo_sort(before)} if before else set()
        numbers = {self._arguments.number(key) for key in history} - {None}
        if any(id(s.tensor) in history or s.argument in numbers for s in outside):
            raise TraceError(
                "[jit] a gradient is asked for that goes through a tensor computed outside of the "
                f"function; compute it inside.\n  {user_frame()}"
            )

    def used_up(self, value: AutogradValue) -> None:
        """Record that an optimizer has applied the gradient `value`, which may then be dropped."""
        self._applied[id(value)] = value

    def is_applied(self, gradient: AutogradValue) -> bool:
        """Whether an optimizer has applied the gradient."""
        return id(gradient) in self._applied

    # ---- other reports --------------------------------------------------------------------------

    def paused(self) -> AbstractContextManager[None]:
        """A context in which primitives run eagerly and Tensors give their real data."""
        return self._recorder.paused()

    def guard_items(self, holder: Container, keys: Iterable[object]) -> None:
        """The trace holds only while these items are what they are at its end."""
        self._guarded += [(holder, key) for key in keys]
        self._watch.journal.manage(holder)

    def guard_contents(self, container: Container) -> None:
        """The trace holds only while the objects are in `container` that are there at its end."""
        self._guarded.append((container, CONTENTS))
        self._watch.journal.manage(container)

    def has_made(self, obj: object) -> bool:
        """Whether the function has made an object, as every call does."""
        return self._watch.has_made(obj)

    def calls(self, module: object) -> None:
        """Record the call of a module. Raises TraceError if a recomputation uses another mode."""
        self._runs.check_mode(module)
        self.modules.setdefault(id(module), weakref.ref(module))

    def is_set(self, holder: Container, key: Key) -> bool:
        """Whether the function has replaced an item of a dict, or increments it."""
        self._watch.journal.find_changed()
        return self._watch.journal.is_written(holder, key) or isinstance(holder[key], HostNumber)

    def host_action(self, action: Action) -> None:
        """Run `action`, which changes Python state, at every call but not during the trace."""
        self._host.action(action)

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that every call gets from `read()`, a host action."""
        return self._host.number(read)

    # ---- functions that run again, and loops ----------------------------------------------------

    def record_forward(self, inputs: Iterable[AutogradValue]) -> AbstractContextManager[Run]:
        """A context for the first run of a function; see `autograd.tracing.Tracer`."""
        return self._runs.active(Run(self._host.draws), self._values(inputs))

    def replay(self, run: Run, inputs: Iterable[AutogradValue]) -> AbstractContextManager[Run]:
        """A context for another run, which reads only what the first run read."""
        return self._runs.active(Run(forward=run, same_values=True), self._values(inputs))

    @contextmanager
    def recompute(self, run: Run) -> Iterator[None]:
        """A context for the same run once more, with the same random numbers."""
        with self._host.repeated(run.draws_before), self._runs.recomputation(run):
            yield

    def _values(self, inputs: Iterable[AutogradValue]) -> list[Value | None]:
        return [self._recorder.value_of(x.realize_cached_data()) for x in inputs]

    def loop(
        self, body: Body, carries: Arrays, xs: Arrays, reverse: bool
    ) -> tuple[Arrays, Arrays] | None:
        """Add a loop node that runs `body` for every step; None where it must be unrolled."""
        if self._recorder.is_paused:
            return None

        def step(carries: Arrays, slices: Arrays) -> tuple[Arrays, Arrays]:
            with self._without_new_gradients():
                return body(carries, slices)

        return record_loop(self._recorder, step, carries, xs, reverse)

    @contextmanager
    def _without_new_gradients(self) -> Iterator[None]:
        """A context for a loop body, which is refused where it sets a gradient.

        Later steps would see another gradient.
        """
        outer, self._body_since = self._body_since, timestamp()
        before = {key: source.grad for key, source in self.sources.items()}
        try:
            yield
            for key, source in self.sources.items():
                if source.grad is not before.get(key, source.grad_before):
                    self._recorder.refuse_in_loop()
        finally:
            self._body_since = outer
            for key, source in self.sources.items():
                source.grad = before.get(key, source.grad_before)

    # ---- the end --------------------------------------------------------------------------------

    def guards(self) -> Guards:
        """The conditions that a later call must meet; `Journal.restore` must have run."""
        tensors = {id(tensor): tensor for tensor in self._watch.tensors}
        for source in self.sources.values():
            if source.argument is None and source.grad_of is None:
                tensors[id(source.tensor)] = source.tensor
        stand_ins = {id(s.tensor) for s in self.sources.values() if s.argument is not None}
        differentiable = [
            (tensor, "requires_grad") for key, tensor in tensors.items() if key not in stand_ins
        ]
        return Guards(self._watch.journal.guards(self._guarded + differentiable))

    def release(self) -> None:
        """Drop references that only the trace needed."""
        for source in self.sources.values():
            source.release()
        for reference, file, line in self._made:
            value = reference()
            if value is not None and self._stays_inside(value.cached_data):
                value.op, value.inputs, value.cached_data = LeakedValue(file, line), (), None

    def _stays_inside(self, data: Data) -> bool:
        """Whether data made by the trace has no value outside of it."""
        arrays = data if isinstance(data, tuple) else (data,)
        return any(map(self._recorder.has_no_data, arrays))
