"""What follows the functions that are being traced.

The package above, `needle.jit`, provides the tracer; values tell it when their data or gradient is
read or replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..backend_ndarray import HostNumber, NDArray
from ..forks import in_child

if TYPE_CHECKING:
    from .value import Value


# The tracers of the functions that are being traced, by thread id. The layer above, needle.jit,
# puts them here. Values tell them when their data or gradient is read or replaced.
_traces: dict[int, Tracer] = {}


class Tracer(Protocol):
    """The trace that this thread is making (see `needle.jit.frontend.trace`)."""

    def read(self, value: Value) -> Any:
        """The data of `value` inside the trace."""

    def write(self, value: Value, data: Any) -> bool:
        """`value` gets new data; True where it is from outside: they are for the trace to keep."""

    def new_value(self, value: Value) -> None:
        """`value` is new."""

    def read_grad(self, value: Value) -> Any:
        """The gradient of `value` inside the trace."""

    def write_grad(self, value: Value, grad: Any) -> bool:
        """As `write`, of the gradient."""

    def backward(self, values: Iterable[Value]) -> None:
        """Those of `values` that require a gradient are about to get one."""

    def used_up(self, value: Value) -> None:
        """`value` is a gradient that an optimizer has applied."""

    def paused(self) -> AbstractContextManager[None]:
        """Inside, nothing is recorded."""

    since: int  # the timestamp of its beginning

    def guard_items(self, holder: dict[Any, Any], keys: Iterable[Any]) -> None:
        """The trace holds only while these items are what they are at its end."""

    def guard_contents(self, container: list[Any] | dict[Any, Any]) -> None:
        """The trace holds only while the objects are in `container` that are there at its end."""

    def has_made(self, obj: Any) -> bool:
        """Whether `obj`, of a watched class, was made inside: each call makes it anew, so that its
        state is that of the trace, and nothing that calls read or change."""

    def calls(self, module: Any) -> None:
        """`module`, whose mode is `module.training`, is about to be called."""

    def leaves(self, value: Value, gradient: Value) -> None:
        """`value` was computed before the trace, and `gradient` goes on from it to what it was
        computed from."""

    def asked_for_gradients(self, inputs: Iterable[Value], values: Iterable[Value]) -> None:
        """Gradients for `inputs` that go through `values`, computed outside of the function."""

    def is_set(self, holder: dict[Any, Any], key: Any) -> bool:
        """Whether the function has made an item of a dict another."""

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that `read()` gives anew at every call; `read` may change state, as below."""

    def record_forward(self, inputs: Sequence[Value]) -> AbstractContextManager[Any]:
        """A context in which a function of `inputs` runs that will run again in the backward pass.

        Its value identifies this run for `recompute` and `replay`.
        """

    def recompute(self, run: Any) -> AbstractContextManager[None]:
        """A context in which the function of `run` is traced a second time.

        The second trace draws the random numbers of the first. The program will contain both
        computations. Raises TraceError where the mode of a Module differs from the first time.
        """

    def replay(self, run: Any, inputs: Sequence[Value]) -> AbstractContextManager[Any]:
        """A context in which the function of `run` is traced again on other `inputs`.

        Raises TraceError where the function reads values from outside that the first run did not
        read, or where the mode of a Module differs from the first run.
        """

    def loop(
        self,
        body: Callable[[list[NDArray], list[NDArray]], tuple[list[NDArray], list[NDArray]]],
        carries: list[NDArray],
        xs: list[NDArray],
        reverse: bool,
    ) -> tuple[list[NDArray], list[NDArray]] | None:
        """What `carries, ys = body(carries, slices)` gives, run over the first axis of `xs`.

        The body is called once, on arrays without data. (The last carries, the stacked ys), or None
        where it cannot be the body of a loop: it draws random numbers or changes a Tensor.
        """

    def host_action(self, action: Callable[[], Any]) -> None:
        """Run `action` at every call of the program: it changes Python state.

        `action` logs how to undo the change, by `log_undo`.
        """


# Classes whose objects' attributes a trace follows: what a function reads there is what its
# compiled program depends on.
watched_classes: list[type] = []

_Class = TypeVar("_Class", bound=type)


def watched(cls: _Class) -> _Class:
    """A decorator of such a class; what is derived from it is one, too."""
    watched_classes.append(cls)
    return cls


def unwatched(obj: Any, name: str) -> Any:
    """An attribute, for code that tells the trace itself what it depends on."""
    return object.__getattribute__(obj, name)


def current_trace() -> Tracer | None:
    """The trace that this thread is making; other threads go on as ever meanwhile."""
    return _traces.get(threading.get_ident()) if _traces else None


@contextmanager
def trace_with(trace: Tracer) -> Iterator[None]:
    """Inside, `trace` follows what this thread does."""
    thread = threading.get_ident()
    _traces[thread] = trace
    try:
        yield
    finally:
        del _traces[thread]


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread: the traces of the others ended with them."""
    thread = threading.get_ident()
    for other in [key for key in _traces if key != thread]:
        del _traces[other]


@contextmanager
def untraced() -> Iterator[None]:
    """Inside, arrays are made and computed at once, also while a function is being traced."""
    trace = current_trace()
    if trace is None:
        yield
        return
    with trace.paused():
        yield
