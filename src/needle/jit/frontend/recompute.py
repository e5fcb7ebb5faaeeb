"""Functions that a trace runs twice: once forward, and again in the backward pass.

`ndl.checkpoint` recomputes a function instead of keeping its inner values; `ndl.scan` replays its
step for the gradient. The second run must find what the first one found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...autograd.tracing import unwatched
from ..ir.graph import Value
from .errors import TraceError, user_frame


@dataclass
class Run:
    """One run of a function that runs again in the backward pass, and what it reads."""

    draws_before: int = 0  # how many draws of random numbers the trace had before
    forward: Run | None = None  # the forward run that this one is compared with
    same_values: bool = False  # whether it may read only values that the forward run read
    inside: set[int] = field(default_factory=set)  # ids of values and buffers of its own
    outside: set[int] = field(default_factory=set)  # ids of the other values that it reads
    # The modes in which it calls each module, by the module's id; the module is kept alive.
    modes: dict[int, tuple[object, set[bool]]] = field(default_factory=dict)

    def reads(self, value: Value, buffer: object) -> bool:
        """Record a read; False where this run may not read it: the forward run did not."""
        if id(value) in self.inside or id(buffer) in self.inside:
            return True
        self.outside.add(id(value))
        if self.forward is None or not self.same_values:
            return True
        return id(value) in self.forward.outside or id(buffer) in self.forward.inside

    def calls(self, module: object, is_training: bool) -> bool:
        """Record a module's mode; False where it differs from the mode in the forward run."""
        self.modes.setdefault(id(module), (module, set()))[1].add(is_training)
        known = None if self.forward is None else self.forward.modes.get(id(module))
        return known is None or is_training in known[1]


class Runs:
    """The runs that are going on, and the number that tells their nodes apart."""

    def __init__(self) -> None:
        self._active: list[Run] = []
        self.number = 0  # of the recomputation that is going on, see `Node.run`; 0: none is
        self._recomputations = 0

    @contextmanager
    def active(self, run: Run, inputs: Iterable[Value | None] = ()) -> Iterator[Run]:
        """A context in which `run`, a function of `inputs`, is going on."""
        run.inside.update(id(value) for value in inputs if value is not None)
        self._active.append(run)
        try:
            yield run
        finally:
            self._active.pop()

    @contextmanager
    def recomputation(self, forward: Run) -> Iterator[None]:
        """A context in which the function of `forward` runs again; its nodes are of a new run."""
        before = self.number
        self._recomputations += 1
        self.number = self._recomputations
        try:
            with self.active(Run(forward=forward)):
                yield
        finally:
            self.number = before

    def made(self, thing: object) -> None:
        """Record that a value or buffer is the active runs' own."""
        for run in self._active:
            run.inside.add(id(thing))

    def check_read(self, value: Value, buffer: object) -> None:
        """Record a read. Raises TraceError where a forward run did not read the value."""
        if self._active and not all(run.reads(value, buffer) for run in self._active):
            raise TraceError(
                "[jit] the function of ndl.scan runs again for its gradient, and a tensor that it "
                "reads is another, or has other data than in the forward pass; change it after "
                f"the gradient.\n  {user_frame()}"
            )

    def check_mode(self, module: object) -> None:
        """Record the call of a module. Raises TraceError where its mode was another before."""
        if not self._active:
            return
        is_training: bool = unwatched(module, "training")
        if not all(run.calls(module, is_training) for run in self._active):
            mode = "training" if is_training else "eval"
            raise TraceError(
                f"[jit] {type(module).__name__} is in {mode} "
                "mode when a function of ndl.scan or ndl.checkpoint runs again for its gradient, "
                f"and was not in the forward pass.\n  {user_frame()}"
            )
