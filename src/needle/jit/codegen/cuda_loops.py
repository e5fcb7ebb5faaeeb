"""A nest as CUDA C++: a kernel whose pointers are parameters and whose sizes are constants.

The threads of a line (see `schedule.gpu_nest`) pass over it once for each phase. Adjacent threads
access adjacent memory, and their partial results are combined in a fixed order (see
`program_runtime.cuh`). A later phase recomputes the full values of an earlier one instead of
storing them: its reads hit caches, and a GPU computes faster than it reads.

Where several blocks contribute to a sum, each stores its partial sum, and the last block to finish
adds them up. With unit roundoff u, a sum of floats is within 128·u·Σ|x| of the exact one, whatever
its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from ...backend_ndarray import Shape
from ...backend_ndarray.device_cuda.kernels import (
    BLOCKS_PER_MULTIPROCESSOR,
    THREADS,
    WARP,
    index_type,
)
from ...backend_ndarray.dtypes import c_type
from ...backend_ndarray.primitives import REDUCTIONS
from ..ir.domain import COLUMN_SUM, FULL, ROW, ROW_SUM, TOTAL, Domain, halves, is_linear
from ..ir.graph import Node, Number, Value, View
from ..schedule.gpu_nest import COLUMN, LINES, PART, SCALAR, SHORT_COLUMN, LineNest
from ..schedule.walk import phases_of
from .scalars import expression, literal

NARROW = 8  # columns of floats that fill a memory transaction of 32 bytes
FEW = 32  # the most terms that a thread adds without compensation, see sums.cuh


class Member(NamedTuple):
    """A node of a nest."""

    node: Node
    domain: Domain
    kind: str

    @property
    def out(self) -> Value:
        """The value that the node computes."""
        return self.node.outputs[0].value


@dataclass
class LoopKernel:
    """The statements of a kernel and the operands that they use.

    `declarations` names the pointers: to the values, to the partial sums, to counters of finished
    blocks, which start at 0, and, if the kernel `checks` indices, to the word that receives the
    position of a bad one. The statements also use `size` (in a flat kernel), `block` (the number of
    the block that runs them) and `blocks` (how many run the kernel).
    """

    text: str
    size: int
    blocks: int
    declarations: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)  # whether a value is written, or read
    parts: list[tuple[np.dtype, int]] = field(default_factory=list)  # dtypes and lengths
    counters: int = 0
    checks: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        """A key that is equal for kernels that differ only in sizes and addresses."""
        return (*self.declarations, self.text)


@dataclass
class _Scope:
    """A block of statements in which all loads precede all stores.

    So an output may overwrite an input.
    """

    loads: dict[tuple[str, str], str] = field(default_factory=dict)  # by pointer and subscript
    lines: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)

    def text(self) -> Iterator[str]:
        """The statements in order."""
        yield from (f"const auto {name} = {p}[{at}];" for (p, at), name in self.loads.items())
        yield from self.lines
        yield from self.stores


class _Writer:
    """Writes a kernel with one thread for each point; the base class of the other writers."""

    line: str | None = None  # the loop variable over lines
    guard = ""  # the condition under which a thread may write at a point
    writes_line = ""  # the condition under which a thread writes the value of a line
    counters = 1  # how many groups of blocks combine their partial sums

    def __init__(
        self, nest: LineNest, needed: set[int], filled: dict[int, Number], multiprocessors: int
    ) -> None:
        self.nest, self.needed, self.filled = nest, needed, filled
        self.most = multiprocessors * BLOCKS_PER_MULTIPROCESSOR
        nodes = zip(nest.nodes, nest.domains, nest.kinds, strict=True)
        self.members = [Member(*node) for node in nodes]
        self.maker = {id(m.out): m for m in self.members}
        self.names = {id(m.out): f"v{i}" for i, m in enumerate(self.members)}
        self.phase = phases_of(nest)
        self.index = index_type(nest.size)
        self.pointers: dict[int, tuple[str, Value]] = {}
        self.written: set[int] = set()
        self.parts: list[tuple[np.dtype, int]] = []
        self.loads = 0
        self.checks = False  # whether the kernel checks indices
        self.of_line, self.at_end = _Scope(), _Scope()
        self.point = _Scope()  # of the phase that is being written

    def write(self) -> LoopKernel:
        """The kernel."""
        text = "\n".join(self.text())
        kernel = LoopKernel(text, self.nest.size, self.blocks, parts=self.parts)
        for key, (name, value) in self.pointers.items():
            kernel.written.append(key in self.written)
            const = "" if kernel.written[-1] else "const "
            kernel.declarations.append(f"{const}{_type(value)}* {name}")
            kernel.values.append(value)
        for i, (dtype, _) in enumerate(self.parts):
            kernel.declarations.append(f"{c_type(dtype)}* parts{i}")
        if self.parts:
            kernel.declarations.append("unsigned* counters")
            kernel.counters = self.counters
        if self.checks:
            kernel.declarations.append("unsigned long long* bad")
            kernel.checks = True
        return kernel

    # ---- the iteration space, which subclasses replace -----------------------------------------

    @property
    def blocks(self) -> int:
        """The grid size."""
        return min(-(-self.nest.size // THREADS), self.most)

    @property
    def points(self) -> int:
        """The most points that a thread computes."""
        return -(-self.nest.size // (self.blocks * THREADS))

    def text(self) -> Iterator[str]:
        """All statements."""
        yield from self._totals_start()
        yield f"const {self.index} step = {self.index}(blocks) * blockDim.x;"
        start = f"{self.index}(block) * blockDim.x + threadIdx.x"
        yield f"for ({self.index} i = {start}; i < size; i += step) {{"
        yield from _indented(self._points(0))
        yield "}"
        yield from self._totals_end()

    def place(self, domain: Domain, i: int, offset: int) -> tuple[str, bool]:
        """The subscript of access `i` of a node of all points; whether it varies along a line."""
        return _offset(domain.shape, domain.accesses[i], offset, "i"), True

    # ---- nodes --------------------------------------------------------------------------------

    def _points(self, phase: int) -> list[str]:
        """The statements of a phase at one point."""
        self.point = _Scope()
        for member in self._walked_in(phase):
            if member.kind == FULL:
                self._compute(member, self.point)
                if self.phase[id(member.node)] == phase:
                    self._store(member, self.point, "i", self.guard)
            elif member.kind == PART:
                self._compute(member, self.point)
                place, _ = self.place(member.domain, -1, member.node.outputs[0].offset)  # its own
                self._store(member, self.point, place, self.guard)
            else:
                guard = self.guard if member.kind == TOTAL else ""
                self._combine(member, self.point, guard)
        return list(self.point.text())

    def _walked_in(self, phase: int) -> list[Member]:
        """The nodes of all points that a phase computes or recomputes, in order."""
        wanted: set[int] = set()
        for member in reversed(self.members):
            node = member.node
            if member.domain.size != self.nest.size:
                continue
            asked = member.kind != FULL or id(member.out) in self.needed
            if id(node) in wanted or (asked and self.phase[id(node)] == phase):
                wanted.add(id(node))
                made = (self.maker.get(id(x.value)) for x in node.inputs)
                wanted.update(id(m.node) for m in made if m is not None and m.kind == FULL)
        return [m for m in self.members if id(m.node) in wanted]

    def _compute(self, member: Member, scope: _Scope) -> None:
        name, kind = self.names[id(member.out)], _type(member.out)
        if member.node.op == "gather_rows":
            value = self._looked_up(member, scope)
        else:
            value = expression(member.node, self._inputs(member, scope))
        scope.lines.append(f"const {kind} {name} = {value};")

    def _looked_up(self, member: Member, scope: _Scope) -> str:
        """An element of a gathered row; 0 where the row number is out of range, which is reported.

        A thread beyond the last line reports nothing: it repeats the last line, whose row number
        the thread that owns the line may already have overwritten.
        """
        self.checks = True
        guard = "" if scope is self.at_end else self.guard
        x, index = member.node.inputs
        row = f"row{self.names[id(member.out)]}"
        number, position = (
            self._operand(member, 1, index, scope), self._place(member, 2, 0, scope)[0],
        )  # fmt: skip
        column, _ = self._place(member, 0, x.offset, scope)
        found = f"checked_row({number}, {x.shape[0]}, {position}, bad)"
        scope.lines += [f"int64_t {row} = -1;", f"{guard}{row} = {found};"]
        element = f"{self._pointer(x.value)}[{row} * {x.strides[0]} + {column}]"
        return f"{row} < 0 ? {_type(member.out)}{{}} : {element}"

    def _combine(self, member: Member, scope: _Scope, guard: str) -> None:
        """Accumulate one more value into a reduction."""
        (x,) = self._inputs(member, scope)
        scope.lines.append(guard + self._taken_in(member, f"static_cast<{_type(member.out)}>({x})"))

    def _taken_in(self, member: Member, x: str) -> str:
        name = self.names[id(member.out)]
        return f"all_{name}.add({x});"

    def _inputs(self, member: Member, scope: _Scope) -> list[str]:
        return [self._operand(member, i, x, scope) for i, x in enumerate(member.node.inputs)]

    def _operand(self, member: Member, i: int, x: View, scope: _Scope) -> str:
        if id(x.value) in self.names:
            return self.names[id(x.value)]
        if id(x.value) in self.filled:
            return literal(self.filled[id(x.value)], x.dtype)
        place, moves = self._place(member, i, x.offset, scope)
        return self._load(self._pointer(x.value), place, scope if moves else self.of_line)

    def _place(self, member: Member, i: int, offset: int, scope: _Scope) -> tuple[str, bool]:
        """The subscript of access `i` of a node, and whether its load belongs to the scope."""
        if scope is self.point:
            return self.place(member.domain, i, offset)
        at = self.line if self.line and scope is not self.at_end else "0"
        return _offset(member.domain.shape, member.domain.accesses[i], offset, at), True

    def _load(self, pointer: str, place: str, scope: _Scope) -> str:
        if (pointer, place) not in scope.loads:
            scope.loads[pointer, place] = f"x{self.loads}"
            self.loads += 1
        return scope.loads[pointer, place]

    def _store(self, member: Member, scope: _Scope, place: str, guard: str) -> None:
        if id(member.out) in self.needed or member.kind == PART:
            self.written.add(id(member.out))
            name = self.names[id(member.out)]
            scope.stores.append(f"{guard}{self._pointer(member.out)}[{place}] = {name};")

    def _pointer(self, value: Value) -> str:
        return self.pointers.setdefault(id(value), (f"p{len(self.pointers)}", value))[0]

    # ---- sums ---------------------------------------------------------------------------------

    def _start(self, member: Member, terms: int) -> str:
        """The declaration of an accumulator for so many values per thread."""
        kind = f"{_combine(member)}, {_type(member.out)}, {'true' if terms > FEW else 'false'}"
        return f"Accumulator<{kind}> all_{self.names[id(member.out)]};"

    def _part(self, member: Member, count: int) -> str:
        """The name of an array for the partial sums of blocks."""
        self.parts.append((member.out.dtype, count))
        return f"parts{len(self.parts) - 1}"

    def _of_kind(self, *kinds: str) -> list[Member]:
        return [m for m in self.members if m.kind in kinds]

    def _totals_start(self) -> Iterator[str]:
        return (self._start(member, self.points) for member in self._of_kind(TOTAL))

    def _totals_end(self) -> Iterator[str]:
        """Combine the totals of all blocks and compute the scalars that depend on them."""
        totals = self._of_kind(TOTAL)
        if not totals:
            return
        arrays = {self.names[id(m.out)]: self._part(m, self.blocks) for m in totals}
        for member in totals:
            name = self.names[id(member.out)]
            yield f"{_type(member.out)} {name} = {self._over_block(member)}"
            yield f"if (threadIdx.x == 0) {arrays[name]}[block] = {name};"
        yield "if (!is_last(counters, blocks)) return;"
        for member in totals:
            name = self.names[id(member.out)]
            yield f"all_{name} = {{}};"
            yield "for (uint32_t other = threadIdx.x; other < blocks; other += blockDim.x) {"
            yield f"  {self._taken_in(member, f'{arrays[name]}[other]')}"
            yield "}"
            yield f"{name} = {self._over_block(member)}"
        for member in self._of_kind(TOTAL, SCALAR):
            if member.kind == SCALAR:
                self._compute(member, self.at_end)
            self._store(member, self.at_end, "0", "if (threadIdx.x == 0) ")
        yield from self.at_end.text()

    def _over_block(self, member: Member) -> str:
        name, combine = self.names[id(member.out)], _combine(member)
        identity = f"{combine}::identity<{_type(member.out)}>()"
        return f"over_block(all_{name}.value(), {identity}, {combine}{{}});"


class _Lines(_Writer):
    """A kernel along lines; a block is a grid of `height` × `width` threads."""

    @property
    def width(self) -> int:
        """The threads in a row of a block."""
        raise NotImplementedError

    @property
    def height(self) -> int:
        """The rows of threads in a block."""
        return THREADS // self.width

    @property
    def steps(self) -> int:
        """The most values of a line that a thread accumulates."""
        raise NotImplementedError

    def _places(self) -> Iterator[str]:
        """The coordinates of a thread in its block."""
        yield f"const uint32_t across = threadIdx.x % {self.width};"
        yield f"const uint32_t down = threadIdx.x / {self.width};"

    def _phases(self) -> Iterator[str]:
        """The passes over a line, and the values per line between them."""
        walked = [self.phase[id(m.node)] for m in self.members if m.domain.size == self.nest.size]
        last = max(walked, default=-1)
        for phase in range(last + 1):
            yield from self._values_of_line(phase)
            yield from self._walk(phase)
        yield from self._sums_of_blocks()
        for phase in range(last + 1, max(self.phase.values()) + 1):
            yield from self._values_of_line(phase)

    def _walk(self, phase: int) -> Iterator[str]:
        sums = [m for m in self._walked_in(phase) if m.kind in (ROW_SUM, COLUMN_SUM)]
        points = self._points(phase)
        if not points:
            return
        yield from (self._start(member, self.steps) for member in sums)
        yield f"{self.walk()} {{"
        yield f"  const {self.index} i = {self.index}(row) * {self.nest.cols} + col;"
        yield from _indented(points)
        yield "}"
        yield from (f"{_type(m.out)} {self._over_line(m)}" for m in sums)

    def _values_of_line(self, phase: int) -> list[str]:
        scope = _Scope(self.of_line.loads)
        for member in self.members:
            if self.phase[id(member.node)] != phase or member.domain.size == self.nest.size:
                continue
            if LINES.get(member.kind):
                self._compute(member, scope)
            elif member.kind == TOTAL:
                self._combine(member, scope, self.writes_line)
        return scope.lines

    def _sums_of_blocks(self) -> Iterable[str]:
        """Combine the partial sums of the blocks that share a line."""
        return ()

    def _whole_lines(self) -> list[str]:
        """All statements for a line."""
        phases = list(self._phases())
        for member in self._of_kind(*LINES):
            assert self.line is not None
            self._store(member, self.of_line, self.line, self.writes_line)
        self.of_line.lines += phases
        if self.of_line.stores:  # after all threads have read the memory
            self.of_line.lines.append("__syncthreads();")
        return list(self.of_line.text())

    def _over_line(self, member: Member) -> str:
        name = self.names[id(member.out)]
        across = "over_row" if member.kind == ROW_SUM else "over_column"
        return f"{name} = {across}<{self.width}>(all_{name}.value(), {_combine(member)}{{}});"

    def walk(self) -> str:
        """The head of the loop along a line."""
        raise NotImplementedError

    def place(self, domain: Domain, i: int, offset: int) -> tuple[str, bool]:
        assert self.nest.cols is not None
        if is_linear(domain.shape, domain.accesses[i]):
            return f"i + {offset}" if offset else "i", True
        (rows, outer), (columns, inner) = halves(domain, i, self.nest.cols)
        terms = [*_terms(rows, outer, "row"), *_terms(columns, inner, "col")]
        moves = any(inner if self.line == "row" else outer)
        return " + ".join([*terms, str(offset)] if offset or not terms else terms), moves


class _Rows(_Lines):
    """A kernel along rows: a part of a warp for each row, or a whole block for long rows."""

    line = "row"
    guard = "if (is_row) "
    writes_line = "if (is_row && across == 0) "

    @property
    def width(self) -> int:
        assert self.nest.cols is not None
        return THREADS if self.nest.cols > 16 * WARP else min(WARP, _power(self.nest.cols))

    @property
    def blocks(self) -> int:
        return min(-(-self.nest.rows // self.height), self.most)

    @property
    def steps(self) -> int:
        assert self.nest.cols is not None
        return -(-self.nest.cols // self.width)

    @property
    def points(self) -> int:
        return -(-self.nest.rows // (self.blocks * self.height)) * self.steps

    def walk(self) -> str:
        cols, index = self.nest.cols, self.index
        return f"for ({index} col = across; col < {cols}; col += {self.width})"

    def text(self) -> Iterator[str]:
        rows, index, height = self.nest.rows, self.index, self.height
        body = self._whole_lines()
        yield from self._places()
        yield from self._totals_start()
        step = f"first += {index}(blocks) * {height}"
        yield f"for ({index} first = {index}(block) * {height}; first < {rows}; {step}) {{"
        yield f"  const bool is_row = first + down < {rows};"
        yield f"  const {index} row = is_row ? first + down : {rows - 1};"
        yield from _indented(body)
        yield "}"
        yield from self._totals_end()


class _Columns(_Lines):
    """A kernel along columns: a block has adjacent columns, with several threads for each."""

    line = "col"
    guard = "if (is_column) "
    writes_line = "if (is_column && down == 0) "

    @property
    def width(self) -> int:
        """The columns of a block. Few give small arrays more blocks; many give wider reads."""
        rows, cols = self.nest.rows, self.nest.cols
        assert cols is not None
        if rows < THREADS // WARP:
            return THREADS
        is_large = rows > SHORT_COLUMN or cols > 4 * self.most
        return max(min(WARP, _power(cols)), NARROW) if is_large else NARROW

    @property
    def groups(self) -> int:
        """The number of blocks across the columns."""
        assert self.nest.cols is not None
        return -(-self.nest.cols // self.width)

    @property
    def counters(self) -> int:  # type: ignore[override]
        return self.groups

    @property
    def slices(self) -> int:
        """The number of blocks that share a column, each with a part of its rows."""
        if self.nest.rows <= SHORT_COLUMN or COLUMN_SUM not in self.nest.kinds:
            return 1
        enough = self.most // 2 // self.groups
        return max(min(enough, self.nest.rows // (8 * self.height)), 1)

    @property
    def blocks(self) -> int:
        return self.groups * self.slices

    @property
    def steps(self) -> int:
        walked = -(-self.nest.rows // (self.slices * self.height))
        return max(walked, -(-self.slices // self.height))  # and the parts of the blocks

    def walk(self) -> str:
        first = f"slice * {self.height} + down" if self.slices > 1 else "down"
        step = self.slices * self.height
        return f"for ({self.index} row = {first}; row < {self.nest.rows}; row += {step})"

    def text(self) -> Iterator[str]:
        index, cols = self.index, self.nest.cols
        assert cols is not None
        body = self._whole_lines()
        yield from self._places()
        if self.slices > 1:
            yield f"const uint32_t slice = block / {self.groups};"
        yield f"const {index} first = {index}(block % {self.groups}) * {self.width};"
        yield f"const bool is_column = first + across < {cols};"
        yield f"const {index} col = is_column ? first + across : {cols - 1};"
        yield from body

    def _sums_of_blocks(self) -> Iterator[str]:
        if self.slices == 1:
            return
        sums, cols = self._of_kind(COLUMN_SUM), self.nest.cols
        assert cols is not None
        arrays = {self.names[id(m.out)]: self._part(m, self.slices * cols) for m in sums}
        for name, array in arrays.items():
            yield f"{self.writes_line}{array}[slice * {cols} + col] = {name};"
        yield f"if (!is_last(counters + block % {self.groups}, {self.slices})) return;"
        for member in sums:
            name = self.names[id(member.out)]
            yield f"all_{name} = {{}};"
            yield f"for (uint32_t s = down; s < {self.slices}; s += {self.height}) {{"
            yield f"  {self._taken_in(member, f'{arrays[name]}[s * {cols} + col]')}"
            yield "}"
            yield self._over_line(member)


WRITERS: dict[str | None, type[_Writer]] = {None: _Writer, ROW: _Rows, COLUMN: _Columns}


def write_kernel(
    nest: LineNest, needed: set[int], filled: dict[int, Number], multiprocessors: int
) -> LoopKernel:
    """The kernel of a nest.

    `needed` has the ids of the values that must be stored. `filled` maps ids of values whose
    elements are all one number to that number.
    """
    return WRITERS[nest.along](nest, needed, filled, multiprocessors).write()


def _type(value: Value) -> str:
    return c_type(value.dtype)


def _combine(member: Member) -> str:
    return REDUCTIONS[member.node.attributes[0]].cuda


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _power(n: int) -> int:
    """The power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def _offset(shape: Shape, strides: Shape, offset: int, at: str) -> str:
    """The subscript of point `at` of a domain in an array, as C++ with constant strides."""
    if is_linear(shape, strides):
        return at if not offset else f"{at} + {offset}"
    terms = _terms(shape, strides, at)
    return " + ".join([*terms, str(offset)] if offset or not terms else terms)


def _terms(shape: Sequence[int], strides: Sequence[int], at: str) -> list[str]:
    terms = []
    for axis, (n, stride) in enumerate(zip(shape, strides, strict=True)):
        if not stride or n == 1:
            continue
        below = prod(shape[axis + 1 :])
        index = at if below == 1 else f"{at} / {below}"
        index = index if prod(shape[:axis]) == 1 else f"({index}) % {n}"
        terms.append(f"int64_t({index}) * {stride}")
    return terms
