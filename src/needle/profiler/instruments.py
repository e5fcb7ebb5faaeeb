"""What is measured. Functions are exchanged for measured ones only while a profiler records.

So the parts of needle know nothing of profilers, and cost nothing more without one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from threading import get_ident
from typing import Any, NamedTuple

from .. import nn, optim
from ..autograd import Op, Tensor, Value
from ..autograd.observing import Observer, observe, stop_observing
from ..data.ahead import Ahead
from ..data.collate import ToTensors
from ..data.fetch import FetchByIndex, FetchInOrder
from ..jit.frontend.function import JitFunction
from ..user_lines import user_line
from .recording import Recording, Span


class _Method(NamedTuple):
    """A method that is measured."""

    owner: type
    name: str
    category: str
    title: Callable[[Any], str]  # of a span, by the object


def _class_and(text: str) -> Callable[[Any], str]:
    return lambda self: f"{type(self).__name__}{text}"


def _always(text: str) -> Callable[[Any], str]:
    return lambda self: text


def _function_name(function: JitFunction) -> str:
    """Its name, with that of its class; the functions around it are left out."""
    return getattr(function, "__qualname__", function.name).rpartition("<locals>.")[2]


def _optimizers(base: type = optim.Optimizer) -> Iterator[type]:
    """The classes of optimizers with a `step` of their own."""
    if "step" in vars(base):
        yield base
    derived: list[type] = base.__subclasses__()
    for cls in derived:
        yield from _optimizers(cls)


def _methods() -> list[_Method]:
    return [
        _Method(nn.Module, "_call_eagerly", "module", _class_and("")),
        *(_Method(cls, "step", "optimizer", _class_and(".step")) for cls in _optimizers()),
        _Method(JitFunction, "_compile", "compile", lambda self: f"compile {_function_name(self)}"),
        _Method(JitFunction, "_run", "program", _function_name),
        _Method(Ahead, "__next__", "wait", _always("DataLoader wait")),
        _Method(FetchByIndex, "__call__", "data", _always("DataLoader fetch")),
        _Method(FetchInOrder, "__call__", "data", _always("DataLoader fetch")),
        _Method(ToTensors, "__call__", "data", _always("DataLoader to Tensors")),
        _Method(Tensor, "item", "wait", _always("Tensor.item")),
        _Method(Tensor, "numpy", "wait", _always("Tensor.numpy")),
    ]


class Instruments(Observer):
    """Tells a recording what happens, from `install` to `remove`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._originals: list[tuple[type, str, Any]] = []
        self._open: dict[int, list[Span | None]] = {}  # of the observer, by thread

    def install(self) -> None:
        """Begin to measure."""
        for method in _methods():
            original = vars(method.owner)[method.name]
            self._originals.append((method.owner, method.name, original))
            setattr(method.owner, method.name, self._measured(original, method))
        observe(self)

    def remove(self) -> None:
        """Put everything back."""
        stop_observing(self)
        while self._originals:
            setattr(*self._originals.pop())

    def _measured(self, function: Callable[..., Any], method: _Method) -> Callable[..., Any]:
        recording, title, category = self._recording, method.title, method.category

        @functools.wraps(function)
        def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
            facts = {"program": args[0]} if category == "program" else {}
            span = recording.begin(title(self), category, **facts)
            try:
                return function(self, *args, **kwargs)
            finally:
                recording.end(span)

        measured._measures = function  # type: ignore[attr-defined]  # see `unmeasured`
        return measured

    # ---- operations, by autograd's observers ----------------------------------------------------

    def _begin(self, name: str, category: str, inputs: Sequence[Value]) -> None:
        facts: dict[str, Any] = {}
        if self._recording.shapes:
            facts["shapes"] = [x.shape for x in inputs if isinstance(x, Tensor)]
        if self._recording.stack:
            facts["line"] = "{}:{}".format(*user_line())
        span = self._recording.begin(name, category, **facts)
        self._open.setdefault(get_ident(), []).append(span)

    def _end(self) -> None:
        opened = self._open.get(get_ident())
        if opened:
            self._recording.end(opened.pop())

    def before_op(self, op: Op, inputs: Sequence[Value]) -> None:
        """An operation of the forward pass, or within a gradient."""
        self._begin(type(op).__name__, "op", inputs)

    def after_op(self, op: Op, inputs: Sequence[Value], value: Value | None) -> None:
        """Its end."""
        self._end()

    def before_backward(self, output: Value) -> None:
        """A backward pass."""
        self._begin("backward", "backward", ())

    def after_backward(self, output: Value) -> None:
        """Its end."""
        self._end()

    def before_gradient(self, node: Value, gradient: Any) -> None:
        """The gradient of one operation."""
        self._begin(f"{type(node.op).__name__} backward", "backward", node.inputs)

    def after_gradient(self, node: Value, gradient: Any, found: Sequence[Any] | None) -> None:
        """Its end."""
        self._end()
