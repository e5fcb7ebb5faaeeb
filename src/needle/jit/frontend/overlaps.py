"""Memory that several Tensors of a call share, where a program writes into it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

from ...autograd import Tensor
from ...backend_ndarray import NDArray
from .templates import Trace

# Where a buffer starts and stops, and whether the program writes into it.
_Span: TypeAlias = tuple[int, int, bool]


class Overlaps:
    """Whether Tensors that a program takes for different ones share memory that it writes in place.

    The program reads and writes them in an order of its own.
    """

    def __init__(self, trace: Trace) -> None:
        written = {id(source) for source, _ in trace.effects.written}
        written.update(id(trace.states[i]) for i in trace.graph.in_place)
        self._taken = trace.taken
        self._states = [id(source) in written for source in trace.states]
        arguments = {s.argument for s, _ in trace.effects.written if s.argument is not None}
        self._arguments = [i in arguments for i in trace.taken]
        self._apart: list[NDArray] = []  # of the states, found to share no memory

    def __bool__(self) -> bool:
        return any(self._states) or any(self._arguments)

    def found(self, arguments: Sequence[Tensor], states: Sequence[Tensor]) -> bool:
        """Whether there are such Tensors among those of a call."""
        kept = [state.cached_data for state in states]
        taken = [arguments[i].cached_data for i in self._taken]
        spans = _spans(kept, self._states)
        if len(kept) != len(self._apart) or any(map(operator.is_not, kept, self._apart)):
            if _is_any_overwritten(spans):
                return True
            self._apart = kept
        return bool(taken) and _is_any_overwritten(spans + _spans(taken, self._arguments))


def _spans(arrays: Sequence[NDArray], written: Sequence[bool]) -> list[_Span]:
    """The spans of the buffers of arrays that are not empty."""
    buffers = [array._handle for array in arrays]
    starts = [buffer.ptr() for buffer in buffers]
    sizes = [b.size * a._dtype.itemsize for a, b in zip(arrays, buffers, strict=True)]
    return [(s, s + n, w) for s, n, w in zip(starts, sizes, written, strict=True) if n]


def _is_any_overwritten(spans: list[_Span]) -> bool:
    """Whether a written span overlaps another one."""
    end, end_of_written = -1, -1
    for start, stop, is_written in sorted(spans):
        if start < (end if is_written else end_of_written):
            return True
        end = max(end, stop)
        if is_written:
            end_of_written = max(end_of_written, stop)
    return False
