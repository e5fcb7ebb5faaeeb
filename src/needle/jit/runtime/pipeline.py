"""From a traced graph to an executable, in the same steps for every device.

The passes simplify the graph, the schedule plans it for the device's target, and the device's
back end writes the code and loads it. No other file of `jit` chooses by device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...backend_ndarray import BackendDevice, cpu
from ...backend_ndarray.device_cuda import CudaDevice
from ..ir.graph import Graph
from ..passes import optimize
from ..schedule.budget import plan_within
from ..schedule.planned import Planned, plan_graph
from ..schedule.target import CPU, GPU, Target
from .evaluated import Evaluated
from .executable import Executable, Unavailable
from .native import Native


class Backend(NamedTuple):
    """What a kind of device adds to the pipeline."""

    target: Target  # what the schedule depends on
    load: Callable[[Planned, Any], Executable]  # writes and loads the program; takes the device


def backend_of(device: BackendDevice) -> Backend:
    """The back end of a device. Raises Unavailable where it has none."""
    if isinstance(device, CudaDevice):
        from .cuda import CudaProgram

        return Backend(GPU, CudaProgram)
    if device == cpu():
        return Backend(CPU, Native)
    raise Unavailable(f"{device} has no compiler; cpu() and cuda() have")


def planned_for(graph: Graph, target: Target, memory: int | None = None) -> Planned:
    """The graph after all passes, scheduled for a target, within so many bytes of memory.

    Raises ValueError where it needs more.
    """
    graph = optimize(graph)
    return plan_graph(graph, target) if memory is None else plan_within(graph, target, memory)


def make_executable(
    graph: Graph, device: BackendDevice, mode: str, memory: int | None = None
) -> Executable:
    """The executable of `graph` in a mode of NEEDLE_JIT, within so many bytes of memory.

    Raises Unavailable, and ValueError where it needs more memory.
    """
    if mode == "evaluate":
        return Evaluated(graph, device)
    backend = backend_of(device)
    return backend.load(planned_for(graph, backend.target, memory), device)
