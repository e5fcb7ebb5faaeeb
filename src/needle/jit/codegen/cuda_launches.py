"""Several kernels as one launch: blocks with different work.

Kernels of a graph that follow each other wait, whether they need each other or not, and most are
too small to fill a GPU. Here those wait together that need nothing of each other, as the updates of
all parameters; for one program on many small arrays this is known as horizontal fusion. Kernels
with the same code become one body with a table of pointers and sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from ...backend_ndarray.cuda import CudaDevice
from ...backend_ndarray.cuda.kernels import THREADS, source
from ..ir.graph import Graph
from ..schedule.units import Unit
from .cuda_loops import LoopKernel

MOST_WORDS = 480  # of 8 bytes: a kernel takes 4 KiB of parameters
MOST_BODIES = 8
# Points from which on a kernel takes longer than its launch. It shares one only with its like: what
# others take of a multiprocessor's registers would slow it down.
LARGE = 1 << 20
COUNTERS = 1024  # of blocks that have come, for all kernels of a launch


def steps_of(graph: Graph, units: Sequence[Unit]) -> list[int]:
    """The step of each unit: loops that follow each other without need share one, so that a memory
    plan does not keep them apart."""
    steps: list[int] = []
    made: set[int] = set()  # ids of values, in the present step
    read: set[int] = set()
    replaced = {id(view.value): id(graph.states[i].value) for i, view in graph.updates.items()}
    for unit in units:
        needed = {id(value) for node in unit.nodes for value in node.needed()}
        own = {id(view.value) for node in unit.nodes for view in node.outputs}
        overwritten = {replaced[key] for key in own & replaced.keys()}
        if unit.node is not None or needed & made or overwritten & read or not made:
            made, read = set(), set()
            steps.append(steps[-1] + 1 if steps else 0)
        else:
            steps.append(steps[-1])
        if unit.node is None:
            made |= own
            read |= needed
    return steps


class Span(NamedTuple):
    """Bytes of the GPU's memory."""

    start: int
    end: int

    def meets(self, others: Iterable[Span]) -> bool:
        """Whether one of the others has a byte of it."""
        return any(self.start < other.end and other.start < self.end for other in others)


@dataclass
class Job:
    """A kernel on its arrays."""

    name: str
    kernel: LoopKernel
    arrays: list[Span]  # in the order of the kernel's values

    def reads(self) -> Iterator[Span]:
        """What it reads."""
        return (a for a, w in zip(self.arrays, self.kernel.written, strict=True) if not w)

    def writes(self) -> Iterator[Span]:
        """What it writes."""
        return (a for a, w in zip(self.arrays, self.kernel.written, strict=True) if w)


@dataclass
class Jobs:
    """Kernels that wait for their launch."""

    device: CudaDevice
    counters: int  # the address of `COUNTERS` zeros
    waiting: list[Job] = field(default_factory=list)

    def add(self, job: Job) -> None:
        """Let a kernel wait, when those have been launched that cannot wait with it."""
        self.before(job.reads(), job.writes())
        if not self._fits(job):
            self.launch()
        self.waiting.append(job)

    def before(self, reads: Iterable[Span], writes: Iterable[Span]) -> None:
        """Launch what waits if it must come before something that reads and writes this."""
        written = [span for job in self.waiting for span in job.writes()]
        used = [span for job in self.waiting for span in job.arrays]
        if any(span.meets(written) for span in reads) or any(span.meets(used) for span in writes):
            self.launch()

    def _fits(self, job: Job) -> bool:
        jobs = [*self.waiting, job]
        bodies = {job.kernel.code for job in jobs}
        is_large = any(job.kernel.size >= LARGE for job in jobs)
        return (
            len(bodies) <= (1 if is_large else MOST_BODIES)
            and sum(2 + len(job.kernel.declarations) for job in jobs) + len(bodies) <= MOST_WORDS
            and sum(job.kernel.counters for job in jobs) <= COUNTERS
        )

    def launch(self) -> None:
        """Launch what waits."""
        alike: dict[tuple[str, ...], list[Job]] = {}
        for job in self.waiting:
            alike.setdefault(job.kernel.code, []).append(job)
        self.waiting.clear()
        if alike:
            self._launch(list(alike.values()))

    def _launch(self, alike: list[list[Job]]) -> None:
        declarations: list[str] = []
        values: list[tuple[int, ...]] = []
        body: list[str] = []
        scratch: list[Any] = []  # kept until the launch
        counters, blocks = self.counters, 0
        watch = self.device.context.streams.current.watch
        for number, jobs in enumerate(alike):
            first = list(accumulate((job.kernel.blocks for job in jobs), initial=blocks))
            words = [*first, *(job.kernel.size for job in jobs)]
            for job in jobs:
                parts = [self.device.allocate(n, dtype) for dtype, n in job.kernel.parts]
                words += [span.start for span in job.arrays]
                words += [part.address for part in parts]
                words += [counters] if job.kernel.counters else []
                counters += 4 * job.kernel.counters
                if job.kernel.checks:
                    assert watch is not None
                    words.append(watch)
                scratch += parts
            pointers = len(jobs[0].kernel.declarations)
            declarations.append(f"const Jobs<{len(jobs)}, {pointers}> jobs{number}")
            values.append(tuple(words))
            body += _body(number, jobs[0].kernel, len(jobs))
            blocks = first[-1]
        text = source("generated.cuh", declarations, *body)
        what = "; ".join(dict.fromkeys(job.name for jobs in alike for job in jobs))
        self.device.context.launch(what, text, blocks, THREADS, values)


def _body(number: int, kernel: LoopKernel, count: int) -> Sequence[str]:
    """The code of a kernel, and its call on the table of jobs with this number."""
    jobs, types = f"jobs{number}", (d.rsplit(" ", 1)[0] for d in kernel.declarations)
    pointers = [f"static_cast<{kind}>(pointers[{i}])" for i, kind in enumerate(types)]
    parameters = [*kernel.declarations, "const int64_t size", "const uint32_t block",
                  "const uint32_t blocks"]  # fmt: skip
    arguments = [*pointers, f"{jobs}.size[job]", f"blockIdx.x - {jobs}.first[job]",
                 f"{jobs}.first[job + 1] - {jobs}.first[job]"]  # fmt: skip
    return (
        f"if (blockIdx.x < {jobs}.first[{count}]) {{",
        f"  const auto loop = []({', '.join(parameters)}) {{",
        *(f"    {line}" for line in kernel.text.splitlines()),
        "  };",
        f"  const int job = {jobs}.of(blockIdx.x);",
        f"  void* const* pointers = {jobs}.pointer[job];",
        f"  return loop({', '.join(arguments)});",
        "}",
    )
