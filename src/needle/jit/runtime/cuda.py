"""Programs on `cuda()`: the kernels of a graph, captured as one CUDA graph.

The passes, the fusion into units and the memory plan are shared with the CPU. A loop nest becomes
a kernel (`schedule.gpu_nest`, `codegen.cuda_loops`); every other node runs the device's primitive.
The driver captures all launches once, and a call of the program is one launch of that graph.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...autograd import Tensor
from ...backend_ndarray import NDArray
from ...backend_ndarray.cuda import CudaDevice
from ..codegen.cuda_launches import COUNTERS, LaunchBatch, PendingKernel, Span, steps_of
from ..codegen.cuda_loops import write_kernel
from ..ir.graph import Graph, Loop, Node, Value, View
from ..schedule.epilogues import fuse_epilogues
from ..schedule.gpu_nest import LineNest, domain_of
from ..schedule.loop_nest import Nest
from ..schedule.memory_plan import Plan, aligned, make_plan, plan_loops
from ..schedule.rematerialize import units_of
from ..schedule.units import Unit, values_needed_outside
from .explain import nest_name

kernels_of = partial(
    units_of, domain_of=domain_of, new_nest=LineNest, into_products=False, few_launches=True
)


@dataclass(eq=False)
class ProgramBuffer:
    """A part of a program's memory as the buffer of arrays."""

    address: int
    size: int
    dtype: np.dtype
    version: int = 0
    shared = False

    def use_address(self) -> int:
        """The address, as `CudaBuffer` gives it; the program itself registers the use."""
        return self.address


class CudaProgram:
    """A graph that runs on a GPU as one CUDA graph; see `Executable`.

    A call does not wait for the GPU. An index out of range raises IndexError later: at the next
    call, or where the host waits for the GPU (`.item()`, `.numpy()`, `synchronize()`).
    """

    def __init__(self, graph: Graph, device: CudaDevice) -> None:
        self.graph, self.units, self.plan = _planned(graph)
        self.device = device
        self._offsets, total = [], 0
        for x in self.graph.arguments:
            self._offsets.append(total)
            total += aligned(x.value.nbytes)
        self._arguments = device.empty((max(total, 1),), "uint8")
        self._results = [device.empty(x.shape, x.dtype) for x in self.graph.results]
        self._arena = device.empty((max(self.plan.arena_bytes, 1),), "uint8")
        self._counters = _counters(device)
        self._constants = [array.compact() for _, array in self.graph.constants]
        self._watch = device.context.watch()
        self._states: list[int] = []  # the addresses that the captured graph works on
        self._captured: Any = None
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
        addresses = [_address(s.cached_data) for s in states]
        for own in (self._arena, self._counters, *self._constants):
            _address(own)
        context = self.device.context
        if self._captured is None or addresses != self._states:
            self._captured, self._states = None, addresses
            self._captured = context.capture(self._launch)
        self._place(arguments)
        self._captured.replay()
        self._watch.used()
        results = [self.device.empty(own._shape, own._dtype) for own in self._results]
        for fresh, own in zip(results, self._results, strict=True):
            context.move(_address(own), _address(fresh), own.size * own._dtype.itemsize)
        for i in self.graph.updates:
            states[i]._modified = clock
        return results

    def _place(self, arguments: Sequence[NDArray]) -> None:
        """Copy the arguments to where the graph reads them. Arguments on the host come last."""
        context, start = self.device.context, _address(self._arguments)
        there = [given._device == self.device for given in arguments]
        count = there.index(False) if False in there else len(there)
        for given, offset in zip(arguments[:count], self._offsets, strict=False):
            context.move(_address(given), start + offset, given.nbytes)
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
        graph, device = self.graph, self.device
        buffers = {
            "argument": [_address(self._arguments) + offset for offset in self._offsets],
            "state": self._states,
            "constant": [_address(x) for x in self._constants],
            "result": [_address(x) for x in self._results],
            "arena": [_address(self._arena)],
            "counters": [_address(self._counters)],
        }
        here = device.context.streams.current
        here.watch = self._watch.block.address
        try:
            _Launcher(graph, self.plan, device, buffers).run(self.units)
        finally:
            here.watch = None


def _planned(graph: Graph) -> tuple[Graph, list[Unit], Plan]:
    graph = plan_loops(fuse_epilogues(graph), kernels_of)
    units = kernels_of(graph)
    return graph, units, make_plan(graph, units, steps_of(graph, units))


def launch_on(graph: Graph, device: CudaDevice) -> None:
    """Launch the kernels of a graph once, on uninitialized memory."""
    graph, units, plan = _planned(graph)
    views = {"argument": graph.arguments, "state": graph.states, "result": graph.results}
    arrays = {kind: [device.empty(x.shape, x.dtype) for x in of] for kind, of in views.items()}
    arrays["constant"] = [array for _, array in graph.constants]
    arrays["arena"] = [device.empty((max(plan.arena_bytes, 1),), "uint8")]
    arrays["counters"] = [device.empty((COUNTERS,), "int32")]
    buffers = {kind: list(map(_address, of)) for kind, of in arrays.items()}
    _Launcher(graph, plan, device, buffers).run(units)


def _counters(device: CudaDevice) -> NDArray:
    """Counters of finished blocks. Kernels find them 0 and leave them 0; see `is_last`."""
    counters = device.empty((COUNTERS,), "int32")
    device.fill(counters, 0)
    return counters


def _address(x: Any) -> int:
    return x._handle.use_address() + x._offset * x._dtype.itemsize


def _own(state: Tensor) -> None:
    """Copy the data of a state that is about to be overwritten if another array shares it."""
    array = state.cached_data
    # One reference is the owner's (of the buffer: the array's); the others are those of this call.
    if sys.getrefcount(array) > 3 or sys.getrefcount(array._handle) > 2:
        state.cached_data = array.copy()


@dataclass
class _Launcher:
    """Launches the kernels of a graph on `buffers`, in the places that its plan has assigned."""

    graph: Graph
    plan: Plan
    device: CudaDevice
    buffers: dict[str, list[int]]

    def __post_init__(self) -> None:
        (counters,) = self.buffers["counters"]
        self.batch = LaunchBatch(self.device, counters)

    def run(self, units: list[Unit]) -> None:
        """Launch all units."""
        needed = values_needed_outside(units, self.graph)
        for unit in units:
            if unit.nest is not None:
                self._nest(unit.nest, needed)
            elif unit.node is not None:
                written = (view.value for view in unit.node.outputs)
                self.batch.launch_before(
                    map(self._span, unit.node.needed()), map(self._span, written)
                )
                (self._scan if unit.node.op == "scan" else self._node)(unit.node)
        self.batch.launch()
        for view, kind, number in self.plan.copies:
            target = self.buffers[kind][number]
            self.device.context.move(self._at(view.value), target, view.value.nbytes)

    def _at(self, value: Value, offset: int = 0) -> int:
        kind, number = self.plan.where(value)
        start = self.buffers["arena"][0] + number if kind == "arena" else self.buffers[kind][number]
        return start + offset * value.dtype.itemsize

    def _array(self, x: View) -> NDArray:
        buffer = ProgramBuffer(self._at(x.value), x.value.size, x.value.dtype)
        return NDArray._view(x.shape, x.strides, x.offset, buffer, self.device, x.value.dtype)

    def _node(self, node: Node) -> None:
        operands = [self._array(x) if isinstance(x, View) else x for x in node.operands]
        kernel = self.device.fused(node.op) or getattr(self.device, node.op)
        kernel(*operands)

    def _scan(self, node: Node) -> None:
        """Launches every step; see `run_scan` in csrc/cpu/kernels/program_runtime.h."""
        loop: Loop = node.operands[0]
        n, last = loop.carries, loop.carries + loop.slices
        *outputs, memory = node.outputs
        inputs = [self._at(x.value, x.offset) for x in node.inputs]
        outs = [self._at(x.value) for x in outputs]
        spare, start = [], self._at(memory.value) + loop.plan.arena_bytes
        for view in outputs[:n]:
            spare.append(start)
            start += aligned(view.value.nbytes)
        carries = inputs[:n]
        for count, t in enumerate(loop.steps()):
            new = outs[:n] if (loop.length - 1 - count) % 2 == 0 else spare
            slices = [
                at + t * x.value.nbytes
                for at, x in zip(inputs[n:last], loop.body.arguments[n:last], strict=True)
            ]
            ys = [
                at + t * x.value.nbytes
                for at, x in zip(outs[n:], loop.body.results[n:], strict=True)
            ]
            buffers = {
                "argument": [*carries, *slices, *inputs[last:]], "result": [*new, *ys],
                "arena": [self._at(memory.value)], "counters": self.buffers["counters"],
            }  # fmt: skip
            _Launcher(loop.body, loop.plan, self.device, buffers).run(loop.units)
            carries = new

    # ---- loops ------------------------------------------------------------------------------

    def _nest(self, nest: Nest, needed: set[int]) -> None:
        assert isinstance(nest, LineNest)
        multiprocessors = self.device.context.multiprocessors
        kernel = write_kernel(nest, needed, self.graph.filled(), multiprocessors)
        self.batch.add(PendingKernel(nest_name(nest), kernel, list(map(self._span, kernel.values))))

    def _span(self, value: Value) -> Span:
        start = self._at(value)
        return Span(start, start + value.nbytes)
