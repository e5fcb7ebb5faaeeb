"""Launching the kernels of a scheduled graph on a GPU, in the memory that its plan assigns.

A loop nest becomes a kernel (`schedule.gpu_nest`, `codegen.cuda_loops`). Every other node runs the
device's primitive or fused kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...backend_ndarray import NDArray
from ...backend_ndarray.device_cuda import CudaDevice
from ...backend_ndarray.device_cuda.arrays import address
from ..codegen.cuda_launches import COUNTERS, LaunchBatch, PendingKernel, Span
from ..codegen.cuda_loops import write_kernel
from ..ir.graph import Node, Value, View
from ..schedule.gpu_nest import LineNest
from ..schedule.loop_nest import Nest
from ..schedule.memory_plan import aligned
from ..schedule.planned import Planned, PlannedLoop
from ..schedule.units import values_needed_outside
from .explain import nest_name


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


@dataclass
class Launcher:
    """Launches the kernels of a graph on `buffers`, in the places that its plan has assigned.

    `buffers` has the addresses of the plan's buffers by their kind, and one of "counters".
    """

    planned: Planned
    device: CudaDevice
    buffers: dict[str, list[int]]

    def __post_init__(self) -> None:
        (counters,) = self.buffers["counters"]
        self.batch = LaunchBatch(self.device.context, counters)

    def run(self) -> None:
        """Launch all units."""
        needed = values_needed_outside(self.planned.units, self.planned.graph)
        for unit in self.planned.units:
            if unit.nest is not None:
                self._nest(unit.nest, needed)
            elif unit.node is not None:
                written = (view.value for view in unit.node.outputs)
                self.batch.launch_before(
                    map(self._span, unit.node.needed()), map(self._span, written)
                )
                (self._scan if unit.node.op == "scan" else self._node)(unit.node)
        self.batch.launch()
        for view, kind, number in self.planned.plan.copies:
            target = self.buffers[kind][number]
            self.device.context.move(self._at(view.value), target, view.value.nbytes)

    def _at(self, value: Value, offset: int = 0) -> int:
        kind, number = self.planned.plan.where(value)
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
        loop: PlannedLoop = node.operands[0]
        n, last = loop.carries, loop.carries + loop.slices
        *outputs, memory = node.outputs
        inputs = [self._at(x.value, x.offset) for x in node.inputs]
        outs = [self._at(x.value) for x in outputs]
        spare, start = [], self._at(memory.value) + loop.planned.plan.arena_bytes
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
            Launcher(loop.planned, self.device, buffers).run()
            carries = new

    # ---- loops ------------------------------------------------------------------------------

    def _nest(self, nest: Nest, needed: set[int]) -> None:
        assert isinstance(nest, LineNest)
        multiprocessors = self.device.context.multiprocessors
        kernel = write_kernel(nest, needed, self.planned.graph.filled(), multiprocessors)
        self.batch.add(PendingKernel(nest_name(nest), kernel, list(map(self._span, kernel.values))))

    def _span(self, value: Value) -> Span:
        start = self._at(value)
        return Span(start, start + value.nbytes)


def launch_on(planned: Planned, device: CudaDevice) -> None:
    """Launch the kernels of a graph once, on uninitialized memory."""
    graph = planned.graph
    views = {"argument": graph.arguments, "state": graph.states, "result": graph.results}
    arrays = {kind: [device.empty(x.shape, x.dtype) for x in of] for kind, of in views.items()}
    arrays["constant"] = [array for _, array in graph.constants]
    arrays["arena"] = [device.empty((max(planned.plan.arena_bytes, 1),), "uint8")]
    arrays["counters"] = [device.empty((COUNTERS,), "int32")]
    buffers = {kind: list(map(address, of)) for kind, of in arrays.items()}
    Launcher(planned, device, buffers).run()
