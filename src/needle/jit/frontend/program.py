"""Programs: what runs a function for one kind of arguments, and how long each one lives."""

from __future__ import annotations

import gc
import math
import types
import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeAlias

from ...autograd import Tensor
from .signature import Signature
from .templates import Trace

# What the user's function returns.
Result: TypeAlias = Any
Function: TypeAlias = Callable[..., Result]
# A call of the function with the present arguments.
Call: TypeAlias = Callable[[], Result]

# Objects among which `keeper_of` looks for a Tensor.
MOST_LOOKED_AT = 10_000


class Program:
    """Runs a function for one kind of arguments.

    A program knows objects by their identity, so it is of use only as long as all of them live; and
    it refers to them. If the function kept it alive, it would keep these objects alive, too. So one
    of them, a Tensor, keeps it, and the garbage collector can free the cycle.
    """

    def __init__(self) -> None:
        self._keeper: Callable[[], object] = lambda: None
        self._function: Callable[[], object] = lambda: None

    def keep(self, function: ProgramOwner, keeper: Tensor | None) -> None:
        """Live until `keeper` dies, or the function, which is the keeper where that is None."""
        programs = function.kept
        if keeper is not None:
            if not hasattr(keeper, "_programs"):
                keeper._programs = set()
            programs = keeper._programs
        programs.add(self)
        ours = weakref.ref(self)

        def forget(_: object) -> None:
            release(ours)

        self._keeper = weakref.ref(function if keeper is None else keeper)
        self._function = weakref.ref(function, forget)

    def release(self) -> None:
        """Let the keeper drop the program, which is not needed any more."""
        keeper = self._keeper()
        if isinstance(keeper, Tensor):
            keeper._programs.discard(self)
        elif isinstance(keeper, ProgramOwner):
            keeper.kept.discard(self)

    def holds(self) -> bool:
        """Whether what the program depends on, beside the arguments, is as it was."""
        raise NotImplementedError

    def __call__(self, signature: Signature, eagerly: Call) -> tuple[bool, Result]:
        """(True, the function's result), or (False, None) where the program does not fit.

        It does not fit where other Tensors are the same object than in the trace, or the states
        have changed. `eagerly` runs the function itself.
        """
        raise NotImplementedError


class ProgramOwner:
    """A function that has programs."""

    def __init__(self) -> None:
        self.kept: set[Program] = set()  # those that no Tensor keeps


class EagerProgram(Program):
    """Runs the function itself, where no program is possible: no compiler for the device, say.

    After `seconds` it no longer holds, so that the function is compiled again.
    """

    def __init__(self, states: Sequence[Tensor] = (), seconds: float = math.inf) -> None:
        super().__init__()
        self._states = [(tensor, tensor.device) for tensor in states]
        self._until = monotonic() + seconds

    def holds(self) -> bool:
        """Whether the states are on the devices that they were on, and its time is not over."""
        if monotonic() >= self._until:
            self.release()
            return False
        return all(tensor.device is device for tensor, device in self._states)

    def __call__(self, signature: Signature, eagerly: Call) -> tuple[bool, Result]:
        """See `Program`."""
        return True, eagerly()


def release(program: weakref.ref[Program]) -> None:
    """Release a program, if it lives."""
    alive = program()
    if alive is not None:
        alive.release()


def keeper_of(objects: Sequence[object], trace: Trace) -> Tensor | None:
    """The Tensor that keeps a program: of those known by identity the nearest to `objects`.

    If the trace knows no Tensor that the objects lead to, it is the nearest one that is trained:
    these are rarely replaced.
    """
    known = {id(s.tensor) for s in trace.states if s.is_fixed} | trace.guards.found(Tensor)
    seen: set[int] = set()
    trained: Tensor | None = None
    level = list(objects)
    while level and len(seen) < MOST_LOOKED_AT:
        following: list[object] = []
        for thing in level:
            if isinstance(thing, Tensor) and id(thing) in known:
                return thing
            if id(thing) in seen or isinstance(thing, (type, types.ModuleType)):
                continue
            seen.add(id(thing))
            if trained is None and isinstance(thing, Tensor) and thing.requires_grad:
                trained = thing if thing.op is None else None
            if isinstance(thing, types.FunctionType):
                following.append(thing.__closure__)
            else:
                following += gc.get_referents(thing)
        level = following
    return trained
