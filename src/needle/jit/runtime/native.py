"""Programs on `cpu()`: a graph as C++, compiled to a library that the core loads and runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from ...autograd import Tensor
from ...backend_ndarray import BackendDevice, NDArray
from ...native import core
from ..codegen.cpp import write_program
from ..schedule.planned import Planned
from . import compiler
from .executable import Unavailable
from .explain import read_times, table

Run: TypeAlias = Callable[[Sequence[NDArray], Sequence[Tensor], int], list[NDArray]]


class Native:
    """A graph compiled to a native library; see `Executable`. Raises Unavailable."""

    def __init__(self, planned: Planned, device: BackendDevice) -> None:
        self.planned, self.graph, self.device = planned, planned.graph, device
        self.code = write_program(planned.graph, planned.units, planned.plan)
        try:
            program = self._load(self.code.source)
        except compiler.NoCompiler as error:
            raise Unavailable(str(error)) from None
        except compiler.CompileError as error:
            raise Unavailable(str(error), error.may_pass) from None
        except OSError as error:
            raise Unavailable(str(error), may_pass=True) from None
        # The functions of the core themselves: a method in between costs time at every call. `run`
        # returns None where `fits` is false.
        self.fits = program.fits
        self.run = cast(Run, program.run)

    def _load(self, source: str) -> core.Program:
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
            arena_bytes=self.planned.plan.arena_bytes,
        )

    def explain(self) -> str:
        """The kernels and the memory plan, as a table."""
        return table(self.planned)

    def profile(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], seconds: float = 0.5
    ) -> str:
        """`explain` with the time of each kernel, from runs on copies of the states."""
        return table(self.planned, self.kernel_times(arguments, states, seconds))

    def kernel_times(
        self, arguments: Sequence[NDArray], states: Sequence[Tensor], seconds: float
    ) -> list[float]:
        """The seconds that each kernel takes in a run, from runs on copies of the states."""
        planned = self.planned
        code = write_program(planned.graph, planned.units, planned.plan, profile=True)
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
        return [t / runs for t in read_times(library, count)]
