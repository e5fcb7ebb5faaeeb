"""Tracing: runs a Python function once on arrays without data and records its primitives.

The function runs through the same ops, layers and optimizers as in eager execution. Four objects
follow it: the `Recorder` the devices' primitives, the `Tracer` the Tensors, the `Host` what the
host computes at every call, the `Watch` what is read and written of Python objects. From these
`Outputs` makes the `Trace`. Tensors that existed before the trace become *states*, which are found
by identity; every later call updates the states whose data the function replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...autograd import Tensor
from ...autograd.modes import timestamp
from ...autograd.tracing import Untraceable, trace_with
from ...tree import map_leaves
from .arguments import Arguments
from .errors import AliasedArgument, FunctionRaised, TraceError, Unrepeatable
from .host import Host
from .journal import Counters
from .outputs import Outputs
from .places import Container
from .recompute import Runs
from .recorder import Recorder
from .templates import Trace
from .tracer import Tracer
from .watch import Watch

__all__ = [
    "AliasedArgument",
    "FunctionRaised",
    "Trace",
    "TraceError",
    "Tracing",
    "Unrepeatable",
    "traced",
]


class Tracing:
    """One trace of a function: the parts that follow it, put together."""

    def __init__(
        self,
        aliased: Iterable[int] = (),
        counters: Counters | None = None,
        objects: Iterable[object] = (),
        containers: Iterable[Container] = (),
    ) -> None:
        """`aliased` has the ids of the arguments for which AliasedArgument was raised before.

        `counters` has the places of numbers that the function increments (see `Watch`). `objects`
        are the arguments that the trace must not keep alive, `containers` the lists and dicts among
        the arguments.
        """
        self.counted: Counters = {}  # the places of numbers that the function increments
        runs = Runs()
        self._arguments = Arguments(aliased, objects, containers)
        self._recorder = Recorder(runs)
        self._host = Host(self._recorder, self._arguments)
        self._watch = Watch(counters, self._arguments.check_found)
        self._tracer = Tracer(self._recorder, runs, self._host, self._watch, self._arguments)

    def run(
        self,
        function: Callable[..., object],
        args: Sequence[object],
        kwargs: dict[str, object],
        tensors: Sequence[Tensor],
    ) -> Trace:
        """Trace `function(*args, **kwargs)`; `tensors` are the Tensors in them, in order.

        The arguments stay as they are; objects have their attributes back afterwards. Raises
        AliasedArgument where the function also finds an argument outside, and FunctionRaised where
        the function raises an exception of its own.
        """
        stand_ins = self._arguments.stand_ins(tensors, self._tracer.add_argument)
        args, kwargs = self._arguments.with_stand_ins((args, kwargs), stand_ins)
        self._tracer.since = timestamp()
        watch, journal = self._watch, self._watch.journal
        try:
            with trace_with(self._tracer), self._recorder.active(self._host.draw), watch:
                watch.place_counters()
                map_leaves(watch.reached, (function, args, kwargs))
                returned = _called(function, args, kwargs)
                journal.check_unseen()
                outputs = Outputs(self._recorder, self._tracer, self._host, watch, self._arguments)
                trace = outputs.trace(returned, tensors)
                self.counted = journal.counted()
            journal.restore()
            trace.guards = self._tracer.guards()
            return trace
        finally:
            journal.find_changed()
            journal.restore()
            self._tracer.release()


def _called(
    function: Callable[..., object], args: Sequence[object], kwargs: dict[str, object]
) -> object:
    """What the function returns. Raises FunctionRaised for an exception of its own."""
    try:
        return function(*args, **kwargs)
    except Untraceable:
        raise
    except Exception as error:
        raise FunctionRaised(error) from error


def traced(
    function: Callable[..., object],
    args: Sequence[object],
    kwargs: dict[str, object],
    tensors: Sequence[Tensor],
    objects: Sequence[object] = (),
    containers: Sequence[Container] = (),
) -> Trace:
    """The trace of `function(*args, **kwargs)`.

    `tensors` and `containers` are the Tensors, lists and dicts among the arguments; `objects` are
    other arguments, which the trace does not keep alive. A number that the function increments,
    such as `self.calls += 1`, is read anew at every call. Where the function also looks at its
    value, each value has a trace of its own.
    """
    aliased: set[int] = set()
    counted: Counters = {}
    of_this_count: Trace | None = None
    while True:
        tracing = Tracing(aliased, counted, objects, containers)
        try:
            trace = tracing.run(function, args, kwargs, tensors)
        except AliasedArgument as found:
            aliased.add(id(found.argument))
        except Exception:
            if of_this_count is None:
                raise
            return of_this_count
        else:
            if counted or not tracing.counted:
                return trace
            of_this_count, counted = trace, tracing.counted
