"""Executables: a graph run by the reference interpreter, or as native code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ...autograd import Tensor, no_grad
from ...backend_ndarray import BackendDevice, NDArray, cpu
from ...backend_ndarray.cuda import CudaDevice
from ..codegen.cpp import write_program
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, View
from ..passes import optimize
from ..schedule.memory_plan import make_plan, plan_loops
from ..schedule.rematerialize import units_of
from . import compiler
from .explain import read_times, table


class Unavailable(RuntimeError):
    """There is no native code for a function; the message says why."""


def overwrite(tensor: Tensor, data: NDArray) -> None:
    """Write `data` into the memory of `tensor`, so that all arrays that share it change."""
    with no_grad():
        tensor[...] = Tensor.make_const(data)


class Executable(Protocol):
    """A graph that can run."""

    graph: Graph

    @property
    def device(self) -> BackendDevice:
        """The device that it runs on."""

    def fits(self, states: Sequence[Tensor]) -> bool:
        """Whether the states have the shapes and dtypes of the trace."""

    def run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int
    ) -> list[NDArray]:
        """Run the graph and return its results; states that change get their new data."""


class Evaluated:
    """Runs a graph by the reference interpreter, `evaluate`; slow."""

    def __init__(self, graph: Graph, device: BackendDevice) -> None:
        self.graph, self.device = graph, device

    def fits(self, states: Sequence[Tensor]) -> bool:
        """Whether the states have the shapes and dtypes of the trace."""
        return all(
            s.cached_data._shape == v.shape
            and s.cached_data._dtype is v.dtype
            and s.cached_data._device is self.device
            for s, v in zip(states, self.graph.states, strict=True)
        )

    def run(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], clock: int
    ) -> list[NDArray]:
        """Run the graph and return its results; states that change get their new data."""
        before = [s.numpy() for s in states]
        results, updates = evaluate(self.graph, [a.numpy() for a in arguments], before)
        for i, array in updates.items():
            new = self._array(array, self.graph.updates[i])
            if i in self.graph.in_place:
                overwrite(states[i], new)
            else:
                states[i]._replace_data(new)
        return list(map(self._array, results, self.graph.results))

    def _array(self, array: np.ndarray, view: View) -> NDArray:
        return NDArray(array, device=self.device, dtype=view.dtype)


class Native:
    """A graph compiled to a native library, which the core runs."""

    device = cpu()

    def __init__(self, graph: Graph) -> None:
        self.graph = graph = plan_loops(graph)
        self.units = units_of(graph)
        self.plan = make_plan(graph, self.units)
        self.code = write_program(graph, self.units, self.plan)
        program = self._load(self.code.source)
        self.fits, self.run = program.fits, program.run

    def _load(self, source: str) -> Any:
        graph = self.graph
        return compiler.load(
            source,
            arguments=[(x.shape, x.dtype) for x in graph.arguments],
            states=[
                (x.shape, x.dtype, i in graph.updates, i in graph.in_place)
                for i, x in enumerate(graph.states)
            ],
            constants=[array for _, array in graph.constants],
            results=[(x.shape, x.dtype) for x in graph.results],
            arena_bytes=self.plan.arena_bytes,
        )

    def explain(self) -> str:
        """The kernels and the memory plan, as a table."""
        return table(self.graph, self.units, self.plan)

    def profile(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], seconds: float = 0.5
    ) -> str:
        """`explain` with the time of each kernel, from runs on copies of the states."""
        code = write_program(self.graph, self.units, self.plan, profile=True)
        program, library = self._load(code.source), str(compiler.built(code.source))
        copies = [Tensor.make_const(state.cached_data.copy()) for state in states]
        count, runs = len(code.calls), 0
        for _ in range(3):
            program.run(arguments, copies, 0)
        read_times(library, count)
        end = time.perf_counter() + seconds
        while runs < 3 or time.perf_counter() < end:
            program.run(arguments, copies, 0)
            runs += 1
        times = [t / runs for t in read_times(library, count)]
        return table(self.graph, self.units, self.plan, times)


def make_executable(graph: Graph, device: BackendDevice, mode: str) -> Executable:
    """The executable of `graph` in a mode of NEEDLE_JIT. Raises Unavailable."""
    if mode == "evaluate":
        return Evaluated(graph, device)
    if isinstance(device, CudaDevice):
        from .cuda import CudaProgram

        return CudaProgram(optimize(graph), device)
    if device != cpu():
        raise Unavailable(f"{device} has no compiler; cpu() and cuda() have")
    try:
        return Native(optimize(graph))
    except (compiler.NoCompiler, compiler.CompileError, OSError) as error:
        raise Unavailable(str(error)) from None
