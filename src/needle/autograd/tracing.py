"""The interface between values and the tracer of a compiled function.

The package above, `needle.jit`, implements the tracer. Values notify it when their data or gradient
is read or replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ..backend_ndarray import HostNumber, NDArray
from ..forks import in_child

if TYPE_CHECKING:
    from .tensor import Tensor
    from .value import Value


# What the attributes or items of an object are kept in.
Holder: TypeAlias = dict[Any, Any]

# The active tracer of each thread, by thread id.
_traces: dict[int, Tracer] = {}


class Untraceable(RuntimeError):
    """The program did something that a compiled function cannot contain.

    The message says what to do instead.
    """

    def saying(self, message: str) -> Untraceable:
        """The same error with another message, at the line that this one names."""
        line = str(self).rpartition("\n")[2].strip()
        return type(self)(f"{message}\n  {line}")


class Tracer(Protocol):
    """Follows the values of a function that a thread traces (see `needle.jit.frontend.trace`)."""

    def read(self, value: Value) -> Any:
        """The data of `value` inside the trace."""

    def write(self, value: Value, data: object) -> bool:
        """`value` is about to get new data.

        True where `value` is from outside: then the tracer keeps the data, and `value` must not
        change during the trace.
        """

    def new_value(self, value: Value) -> None:
        """`value` was made inside of the function."""

    def read_grad(self, value: Value) -> object:
        """The gradient of `value` inside the trace."""

    def write_grad(self, value: Value, grad: Tensor | None) -> bool:
        """`value` is about to get a new gradient; the result is as in `write`."""

    def backward(self, values: Iterable[Value]) -> None:
        """The `values` that require a gradient are about to get one."""

    def used_up(self, value: Value) -> None:
        """An optimizer has applied the gradient `value` and no longer needs it."""

    def paused(self) -> AbstractContextManager[None]:
        """A context in which nothing is recorded."""

    since: int  # the timestamp of its beginning
    # The ids of Values from outside whose gradient, by a backward pass of the function, it has not
    # read, and of those for which a second pass replaced such a gradient; see `unused`.
    unread_gradients: set[int]
    lost_gradients: set[int]

    def guard_items(self, holder: Holder, keys: Iterable[object]) -> None:
        """The program is valid only while these items are the same as at the end of the trace."""

    def guard_contents(self, container: list[Any] | Holder) -> None:
        """The program is valid only while `container` has the objects that it has at the end."""

    def has_made(self, obj: object) -> bool:
        """Whether `obj`, of a watched class, was made inside of the function.

        Each call makes such an object anew. Its state belongs to the trace: calls neither read nor
        change it.
        """

    def calls(self, module: object) -> None:
        """`module`, whose mode is `module.training`, is about to be called."""

    def leaves(self, value: Value, gradient: Value) -> None:
        """`gradient`, that of a `value` computed before the trace, must propagate into its history.

        The gradients of the values that `value` was computed from follow after the call.
        """

    def asked_for_gradients(self, inputs: Iterable[Value], values: Iterable[Value]) -> None:
        """Gradients of `inputs` are requested, through `values` computed outside."""

    def is_set(self, holder: Holder, key: object) -> bool:
        """Whether the function has replaced an item of a dict."""

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that every call gets from `read()`, which may change state as `host_action`."""

    def record_forward(self, inputs: Sequence[Value]) -> AbstractContextManager[object]:
        """A context in which a function of `inputs` runs that will run again in the backward pass.

        Its value identifies this run for `recompute` and `replay`.
        """

    def recompute(self, run: Any) -> AbstractContextManager[None]:
        """A context in which the function of `run` is traced a second time.

        The second trace draws the random numbers of the first. The program will contain both
        computations. Raises TraceError where the mode of a Module differs from the first time.
        """

    def replay(self, run: Any, inputs: Sequence[Value]) -> AbstractContextManager[object]:
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
        """Run `carries, ys = body(carries, slices)` over the first axis of `xs` as one node.

        The body is called once, on arrays without data. Returns (the last carries, the stacked ys),
        or None where the body cannot be a loop node: it draws random numbers or changes a Tensor.
        """

    def host_action(self, action: Callable[[], object]) -> None:
        """Run `action` at every call of the program: it changes Python state.

        `action` logs how to undo the change, by `log_undo`.
        """


# Classes whose attributes a trace watches: those that a function reads become guards.
watched_classes: list[type] = []

# What may be the `__new__` of a class whose objects consist of their attributes alone: a compiled
# function makes such objects again at every call.
plain_constructors: list[object] = [object.__new__]

_Class = TypeVar("_Class", bound=type)


def watched(cls: _Class) -> _Class:
    """A decorator that makes a class, and the classes derived from it, watched."""
    watched_classes.append(cls)
    return cls


def unwatched(obj: object, name: str) -> Any:
    """Read an attribute without a guard, for code that registers its guards itself."""
    return object.__getattribute__(obj, name)


def current_trace() -> Tracer | None:
    """The active tracer of this thread, or None. Other threads are not traced."""
    return _traces.get(threading.get_ident()) if _traces else None


@contextmanager
def trace_with(trace: Tracer) -> Iterator[None]:
    """A context in which `trace` is the active tracer of this thread."""
    thread = threading.get_ident()
    _traces[thread] = trace
    try:
        yield
    finally:
        del _traces[thread]


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread, so the traces of the other threads have ended."""
    thread = threading.get_ident()
    for other in [key for key in _traces if key != thread]:
        del _traces[other]


@contextmanager
def untraced() -> Iterator[None]:
    """A context in which arrays are computed eagerly, also while a function is being traced."""
    trace = current_trace()
    if trace is None:
        yield
        return
    with trace.paused():
        yield
