"""Horizontal fusion: independent kernels share one launch, each on blocks of its own.

Launches of a stream run one after the other, even where they are independent, and most kernels are
too small to fill a GPU. Kernels that do not depend on each other, such as the updates of all
parameters, are therefore collected in a batch and launched together. Kernels with the same code
become one body with a table of their pointers and sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from ...backend_ndarray.device_cuda.arrays import CudaBuffer
from ...backend_ndarray.device_cuda.context import Context, Parameter
from ...backend_ndarray.device_cuda.kernels import THREADS, source
from .cuda_loops import LoopKernel

MOST_WORDS = 480  # of 8 bytes: a kernel takes 4 KiB of parameters
MOST_BODIES = 8
# A kernel of at least this many points takes longer than its launch. It shares a launch only with
# kernels of the same code: a body that needs more registers would lower its occupancy.
LARGE = 1 << 20
COUNTERS = 1024  # counters of finished blocks, for all kernels of a launch


class Span(NamedTuple):
    """A range of addresses in the GPU's memory."""

    start: int
    end: int

    def meets(self, others: Iterable[Span]) -> bool:
        """Whether this range overlaps one of the others."""
        return any(self.start < other.end and other.start < self.end for other in others)


@dataclass
class PendingKernel:
    """A kernel and the arrays that it will run on."""

    name: str
    kernel: LoopKernel
    arrays: list[Span]  # in the order of the kernel's values

    def reads(self) -> Iterator[Span]:
        """The memory that the kernel reads."""
        return (a for a, w in zip(self.arrays, self.kernel.written, strict=True) if not w)

    def writes(self) -> Iterator[Span]:
        """The memory that the kernel writes."""
        return (a for a, w in zip(self.arrays, self.kernel.written, strict=True) if w)


@dataclass
class LaunchBatch:
    """Independent kernels that are collected for a common launch."""

    context: Context
    counters: int  # the address of `COUNTERS` zeros
    pending: list[PendingKernel] = field(default_factory=list)

    def add(self, kernel: PendingKernel) -> None:
        """Add a kernel; launches the batch first where the kernel cannot join it."""
        self.launch_before(kernel.reads(), kernel.writes())
        if not self._fits(kernel):
            self.launch()
        self.pending.append(kernel)

    def launch_before(self, reads: Iterable[Span], writes: Iterable[Span]) -> None:
        """Launch the batch if work that reads and writes this memory depends on it."""
        written = [span for kernel in self.pending for span in kernel.writes()]
        used = [span for kernel in self.pending for span in kernel.arrays]
        if any(span.meets(written) for span in reads) or any(span.meets(used) for span in writes):
            self.launch()

    def _fits(self, kernel: PendingKernel) -> bool:
        kernels = [pending.kernel for pending in (*self.pending, kernel)]
        bodies = {kernel.code for kernel in kernels}
        is_large = any(kernel.size >= LARGE for kernel in kernels)
        return (
            len(bodies) <= (1 if is_large else MOST_BODIES)
            and sum(2 + len(kernel.declarations) for kernel in kernels) + len(bodies) <= MOST_WORDS
            and sum(kernel.counters for kernel in kernels) <= COUNTERS
        )

    def launch(self) -> None:
        """Launch the collected kernels, if any."""
        groups: dict[tuple[str, ...], list[PendingKernel]] = {}
        for pending in self.pending:
            groups.setdefault(pending.kernel.code, []).append(pending)
        self.pending.clear()
        if groups:
            self._launch(list(groups.values()))

    def _launch(self, groups: list[list[PendingKernel]]) -> None:
        """Launch groups of kernels; the kernels of a group have the same code."""
        declarations: list[str] = []
        values: list[Parameter] = []
        body: list[str] = []
        scratch: list[CudaBuffer] = []  # kept alive until the launch
        counters, blocks = self.counters, 0
        watch = self.context.streams.current.watch
        for number, group in enumerate(groups):
            first = list(accumulate((pending.kernel.blocks for pending in group), initial=blocks))
            words = [*first, *(pending.kernel.size for pending in group)]
            for pending in group:
                kernel = pending.kernel
                parts = [CudaBuffer(self.context, n, dtype) for dtype, n in kernel.parts]
                words += [span.start for span in pending.arrays]
                words += [part.use_address() for part in parts]
                words += [counters] if kernel.counters else []
                counters += 4 * kernel.counters
                if kernel.checks:
                    assert watch is not None
                    words.append(watch)
                scratch += parts
            pointers = len(group[0].kernel.declarations)
            declarations.append(f"const LaunchTable<{len(group)}, {pointers}> table{number}")
            values.append(tuple(words))
            body += _body(number, group[0].kernel, len(group))
            blocks = first[-1]
        text = source("program_runtime.cuh", declarations, *body)
        what = "; ".join(dict.fromkeys(pending.name for group in groups for pending in group))
        self.context.launch(what, text, blocks, THREADS, values)


def _body(number: int, kernel: LoopKernel, count: int) -> Sequence[str]:
    """The code of a group: a kernel, and its call on the row of a table that its block belongs to.

    `number` is the group's, `count` the number of its kernels.
    """
    table, types = f"table{number}", (d.rsplit(" ", 1)[0] for d in kernel.declarations)
    pointers = [f"static_cast<{kind}>(pointers[{i}])" for i, kind in enumerate(types)]
    parameters = [*kernel.declarations, "const int64_t size", "const uint32_t block",
                  "const uint32_t blocks"]  # fmt: skip
    arguments = [*pointers, f"{table}.size[row]", f"blockIdx.x - {table}.first[row]",
                 f"{table}.first[row + 1] - {table}.first[row]"]  # fmt: skip
    return (
        f"if (blockIdx.x < {table}.first[{count}]) {{",
        f"  const auto loop = []({', '.join(parameters)}) {{",
        *(f"    {line}" for line in kernel.text.splitlines()),
        "  };",
        f"  const int row = {table}.of(blockIdx.x);",
        f"  void* const* pointers = {table}.pointer[row];",
        f"  return loop({', '.join(arguments)});",
        "}",
    )
