"""Programs on `cuda()`: the kernels of a graph, captured as one CUDA graph.

The driver captures all launches once (`cuda_launcher`), and a call of the program is one launch of
that graph.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence

from ...autograd import Tensor
from ...backend_ndarray import NDArray
from ...backend_ndarray.device_cuda import CudaDevice
from ...backend_ndarray.device_cuda.arrays import address
from ...backend_ndarray.device_cuda.context import CapturedGraph
from ..codegen.cuda_launches import COUNTERS
from ..schedule.memory_plan import aligned
from ..schedule.planned import Planned
from .cuda_launcher import Launcher


class CudaProgram:
    """A graph that runs on a GPU as one CUDA graph; see `Executable`.

    A call does not wait for the GPU. An index out of range raises IndexError later: at the next
    call, or where the host waits for the GPU (`.item()`, `.numpy()`, `synchronize()`).
    """

    def __init__(self, planned: Planned, device: CudaDevice) -> None:
        self.planned, self.graph, self.device = planned, planned.graph, device
        self._offsets, total = [], 0
        for x in self.graph.arguments:
            self._offsets.append(total)
            total += aligned(x.value.nbytes)
        self._arguments = device.empty((max(total, 1),), "uint8")
        self._results = [device.empty(x.shape, x.dtype) for x in self.graph.results]
        self._arena = device.empty((max(planned.plan.arena_bytes, 1),), "uint8")
        self._counters = _counters(device)
        self._constants = [array.compact() for _, array in self.graph.constants]
        self._watch = device.context.watch()
        self._states: list[int] = []  # the addresses that the captured graph works on
        self._captured: CapturedGraph | None = None
        self._lock = threading.Lock()  # its memory is for one call at a time

    def fits(self, states: Sequence[Tensor]) -> bool:
        """Whether the states have the shapes, dtypes and layout of the trace."""
        return all(
            s.cached_data._shape == v.shape
            and s.cached_data._dtype is v.dtype
            and s.cached_data._device == self.device
            and s.cached_data.is_compact()
            for s, v in zip(states, self.graph.states, strict=True)
        )

    def run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int
    ) -> list[NDArray]:
        """The results; states that change are updated in place."""
        with self._lock, self.device.context.streams.current.together():
            return self._run(arguments, states, clock)

    def _run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int
    ) -> list[NDArray]:
        self._watch.check()
        for i in self.graph.updates.keys() - self.graph.in_place:
            _own(states[i])
        addresses = [address(s.cached_data) for s in states]
        # Taking the addresses orders the graph after other threads' work on this memory.
        for own in (self._arena, self._counters, *self._constants):
            address(own)
        context = self.device.context
        if self._captured is None or addresses != self._states:
            self._captured, self._states = None, addresses
            self._captured = context.capture(self._launch)
        self._place(arguments)
        self._captured.replay()
        self._watch.used()
        results = [self.device.empty(own._shape, own._dtype) for own in self._results]
        for fresh, own in zip(results, self._results, strict=True):
            context.move(address(own), address(fresh), own.size * own._dtype.itemsize)
        for i in self.graph.updates:
            states[i]._modified = clock
        return results

    def _place(self, arguments: Sequence[NDArray]) -> None:
        """Copy the arguments to where the graph reads them. Arguments on the host come last."""
        context, start = self.device.context, address(self._arguments)
        there = [given._device == self.device for given in arguments]
        count = there.index(False) if False in there else len(there)
        for given, offset in zip(arguments[:count], self._offsets, strict=False):
            context.move(address(given), start + offset, given.nbytes)
        if count == len(arguments):
            return
        first = self._offsets[count]
        nbytes = self._offsets[-1] + arguments[-1].nbytes - first
        block = context.pinned.allocate(nbytes)
        for given, offset in zip(arguments[count:], self._offsets[count:], strict=True):
            host = given._host()
            ctypes.memmove(block.address + offset - first, host.ctypes.data, host.nbytes)
        context.upload_block(block, start + first, nbytes)

    # ---- launching --------------------------------------------------------------------------

    def _launch(self) -> None:
        buffers = {
            "argument": [address(self._arguments) + offset for offset in self._offsets],
            "state": self._states,
            "constant": [address(x) for x in self._constants],
            "result": [address(x) for x in self._results],
            "arena": [address(self._arena)],
            "counters": [address(self._counters)],
        }
        here = self.device.context.streams.current
        here.watch = self._watch.block.address
        try:
            Launcher(self.planned, self.device, buffers).run()
        finally:
            here.watch = None


def _counters(device: CudaDevice) -> NDArray:
    """Counters of finished blocks. Kernels find them 0 and leave them 0; see `is_last`."""
    counters = device.empty((COUNTERS,), "int32")
    device.fill(counters, 0)
    return counters


def _own(state: Tensor) -> None:
    """Copy the data of a state that is about to be overwritten if another array shares it."""
    array = state.cached_data
    # One reference is the owner's (of the buffer: the array's); the others are those of this call.
    if sys.getrefcount(array) > 3 or sys.getrefcount(array._handle) > 2:
        state.cached_data = array.copy()
