"""What the host computes at every call of a program: actions, numbers and random draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TypeAlias

import numpy as np

from ...backend_ndarray import BackendDevice, HostNumber, NDArray, as_dtype
from ...typing import DTypeLike, Shape
from ..ir.graph import Value
from .arguments import Action, Arguments
from .errors import TraceError
from .host_random import Draw
from .recorder import Recorder

# An argument of the graph that the host makes: its value, how it is read, and its dtype.
HostInput: TypeAlias = tuple[Value, Action, np.dtype]


class Host:
    """The actions that run before every call of a program, and the arguments that they make."""

    def __init__(self, recorder: Recorder, arguments: Arguments) -> None:
        self.actions: list[Action] = []  # in the order in which they run
        self.inputs: list[HostInput] = []
        self._recorder, self._arguments = recorder, arguments
        # The 0-d arrays of host numbers, by the number's id and the dtype.
        self._scalars: dict[tuple[int, np.dtype], tuple[HostNumber, NDArray]] = {}
        self._draws: list[tuple[object, object, NDArray]] = []  # (function, kind, array)
        # The next draw to repeat, of each function that runs again.
        self._repeated: list[int] = []

    def action(self, action: Action) -> None:
        """Run `action`, which changes Python state, at every call but not during the trace."""
        self._recorder.refuse_in_loop()
        self.actions.append(self._arguments.weakly(action))

    def number(self, read: Callable[[], float]) -> HostNumber:
        """A number that every call gets from `read()`, an action."""
        self._recorder.refuse_in_loop()
        read = self._arguments.weakly(read)
        now: list[float] = [0.0]

        def action() -> None:
            now[0] = read()

        self.actions.append(action)
        return HostNumber(lambda: now[0], self._scalar)

    def _scalar(self, number: HostNumber, device: BackendDevice, dtype: np.dtype) -> NDArray:
        key = id(number), dtype
        if key not in self._scalars:
            self._scalars[key] = number, self._input((), number.read, device, dtype)
        return self._scalars[key][1]

    def _input(self, shape: Shape, read: Action, device: BackendDevice, dtype: np.dtype) -> NDArray:
        """An argument that the host computes at every call: a number, or an array of `shape`."""
        value = self._recorder.input(self._recorder.program, prod(shape), dtype)
        self.inputs.append((value, read, dtype))
        return self._recorder.symbolic(shape, device, value)

    # ---- random numbers -------------------------------------------------------------------------

    @property
    def draws(self) -> int:
        """How often random numbers were drawn."""
        return len(self._draws)

    @contextmanager
    def repeated(self, first: int) -> Iterator[None]:
        """A context in which the draws from number `first` on are made again."""
        self._repeated.append(first)
        try:
            yield
        finally:
            self._repeated.pop()

    def draw(
        self, device: BackendDevice, original: Callable[..., NDArray], draw: Callable[..., object],
        shape: Shape, dtype: DTypeLike, on_host: bool = True,
    ) -> NDArray:  # fmt: skip
        """Random numbers that every call draws, in the order of the program."""
        self._recorder.refuse_in_loop()
        kind = tuple(shape), as_dtype(dtype), device
        if self._repeated:
            drawn, drawn_kind, array = self._draws[self._repeated[-1]]
            self._repeated[-1] += 1
            if (drawn, drawn_kind) != (draw, kind):
                raise TraceError(
                    "[jit] a checkpointed function draws other numbers the second time"
                )
            return array
        if on_host:
            drawing = Draw(draw, tuple(shape))
            self.actions.append(drawing)
            array = self._input(shape, drawing.read, device, as_dtype(dtype))
        else:
            array = original(draw, shape, dtype, on_host=False)
        self._draws.append((draw, kind, array))
        return array
