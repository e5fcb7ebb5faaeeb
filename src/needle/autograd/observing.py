"""Observers of operations: what `detect_anomaly` and the profiler are told of.

Without an observer nothing is asked at any operation: `Value.make_from_op` is exchanged for one
that tells the observers only while there are some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .tracing import current_trace
from .value import Value

if TYPE_CHECKING:
    from .op import Op


class Observer:
    """Is told of the operations of all threads, except those of a function that is traced."""

    def before_op(self, op: Op, inputs: Sequence[Value]) -> None:
        """`op` is about to be computed."""

    def after_op(self, op: Op, inputs: Sequence[Value], value: Value | None) -> None:
        """`op` has given `value`; None where it has raised an error."""

    def before_backward(self, output: Value) -> None:
        """A backward pass from `output` begins, or one within the gradient of an operation."""

    def after_backward(self, output: Value) -> None:
        """The backward pass from `output` has ended."""

    def before_gradient(self, node: Value, gradient: Any) -> None:
        """The gradients of the inputs of `node` are about to be computed from its `gradient`."""

    def after_gradient(self, node: Value, gradient: Any, found: Sequence[Any] | None) -> None:
        """They are `found`; None where there was an error."""


def unmeasured(function: Any) -> Any:
    """The function of which this one measures the calls, for a profiler; else itself."""
    return getattr(function, "_measures", function)


observers: tuple[Observer, ...] = ()
_make_from_op = vars(Value)["make_from_op"]


def observe(observer: Observer) -> None:
    """Tell `observer` of everything from here on."""
    global observers
    observers = (*observers, observer)
    Value.make_from_op = classmethod(_observed)  # type: ignore[method-assign, assignment]


def stop_observing(observer: Observer) -> None:
    """Tell `observer` of nothing more."""
    global observers
    observers = tuple(other for other in observers if other is not observer)
    if not observers:
        Value.make_from_op = _make_from_op  # type: ignore[method-assign]


def _observed(cls: type[Value], op: Op, inputs: Sequence[Value]) -> Value:
    """`Value.make_from_op` while there are observers."""
    told = () if current_trace() is not None else observers
    for observer in told:
        observer.before_op(op, inputs)
    value: Value | None = None
    try:
        value = _make_from_op.__func__(cls, op, inputs)
    finally:
        for observer in reversed(told):
            observer.after_op(op, inputs, value)
    assert value is not None
    return value


def observed_gradient(node: Value, gradient: Any) -> tuple[Any, ...]:
    """`node.op.gradient_as_tuple(gradient, node)`, of which the observers are told."""
    assert node.op is not None
    told = () if current_trace() is not None else observers
    for observer in told:
        observer.before_gradient(node, gradient)
    found: tuple[Any, ...] | None = None
    try:
        found = node.op.gradient_as_tuple(gradient, node)
    finally:
        for observer in reversed(told):
            observer.after_gradient(node, gradient, found)
    assert found is not None
    return found
