"""A loop nest as C++: one function whose pointers are parameters and whose sizes are constants.

The rows of the nest are divided among threads. Within a row, the function passes over the columns
once for each *phase* (`cpp_phases`): a phase ends where a value of the whole row is needed, such as
a sum or a maximum.

The rounding error of a sum of floats does not grow with its length, as in `kernels/sums.h`. At most
LONG numbers are added one after the other. Longer sums consist of parts (stretches of a row, groups
of rows) that are added with compensation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from ...backend_ndarray.dtypes import c_type
from ...backend_ndarray.primitives import REDUCTIONS
from ..ir.cost import cost_of
from ..ir.domain import COLUMN_SUM, FULL, ROW, ROW_SUM, TOTAL
from ..ir.graph import Node, Number, Value
from ..schedule.loop_nest import Nest
from ..schedule.walk import Access, Walk, make_walk
from . import scalars
from .cpp_phases import Phases

# A flat nest runs in blocks of this many points, as if they were rows: 16 KiB of floats.
BLOCK = 4096
# Points of a row that are summed in the lanes of a vector before the sum is added to the row's.
STRETCH = 1024
# Rows that are summed before they are added to the sums of columns. With few columns each addition
# waits for the one before; shorter groups give the processor independent ones.
GROUP = 128
GROUP_OF_NARROW = 32
NARROW = 16  # columns
# Rows whose sums are added before they are added to a total: the end of a group is a branch that
# the processor mispredicts.
GROUP_OF_TOTALS = 256
# The same for blocks, each of which takes longer than such a branch.
GROUP_OF_BLOCKS = 8
# Sums of more rows than this are compensated.
LONG = 1024
# The sums of a group are local arrays up to this many columns. The compiler keeps those of a few
# columns in registers; in memory each addition would wait for the store before it (16 columns took
# 5 times as long). Wider arrays would fill a thread's stack.
LOCAL_COLUMNS = 1024


@dataclass
class LoopCode:
    """A function `NAME(pointers…)`: its text, with `NAME` as a placeholder."""

    text: str
    parameters: list[tuple[Value, int]]  # (value, offset) of each pointer
    size: int | None = None  # the last argument of a function that serves all sizes


@dataclass
class _Writer:
    """Writes one nest. A doubled brace in a line stands for one brace of C++."""

    nest: Nest
    kept: set[int]  # ids of the values that must be stored
    filled: dict[int, Number]  # the number that fills a value, by id
    cols: int | None = None  # the columns of a nest that does not determine them
    walk: Walk = field(init=False)
    phases: Phases = field(init=False)
    pointers: dict[tuple[int, int], str] = field(default_factory=dict)
    parameters: list[tuple[Value, int]] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)  # of values of the nest
    index: dict[int, int] = field(default_factory=dict)  # of nodes in the nest, by id
    loads: dict[Access, str] = field(default_factory=dict)
    point_loads: dict[Access, str] = field(default_factory=dict)  # of the phase being written
    block: bool = False  # whether the function covers the columns of a block only
    columns: list[Node] = field(default_factory=list)  # the sums of columns
    totals: list[Node] = field(default_factory=list)
    is_long: bool = field(init=False)  # whether sums over rows are compensated
    row_buffers: dict[int, str] = field(default_factory=dict)  # the types of kept values, by id
    stored: dict[int, Value] = field(default_factory=dict)  # full values in memory, by id

    def __post_init__(self) -> None:
        self.walk = make_walk(self.nest, self.cols)
        self.phases = Phases(self.nest)
        self.is_long = bool(self.walk.blocked) or prod(self.walk.rows) > LONG
        for i, (node, kind) in enumerate(zip(self.nest.nodes, self.nest.kinds, strict=True)):
            self.names[id(node.outputs[0].value)] = f"v{i}"
            self.index[id(node)] = i
            if kind == COLUMN_SUM:
                self.columns.append(node)
            if kind == TOTAL:
                self.totals.append(node)

    # ---- memory ---------------------------------------------------------------------------

    def _pointer(self, value: Value, offset: int, written: bool) -> str:
        key = id(value), offset
        if key not in self.pointers:
            name = f"p{len(self.pointers)}"
            self.pointers[key] = name
            self.parameters.append((value, offset))
            const = "" if written else "const "
            self.signature.append(f"{const}{c_type(value.dtype)}* {name}")
        return self.pointers[key]

    def _row_offset(self, steps: tuple[int, ...]) -> str:
        if self.walk.blocked:
            return f" + r * {BLOCK * steps[0]}" if steps and steps[0] else ""
        names, width = self._row_names(), self._width()
        steps_of_rows = (
            (n, width if s == self.walk.width else s) for n, s in zip(names, steps, strict=True)
        )
        return "".join(f" + {n} * {s}" for n, s in steps_of_rows if s)

    def _width(self) -> str | int:
        """The points of a row: a number, or a parameter of epilogues, which serve all widths."""
        return "width" if self.block else BLOCK if self.walk.blocked else self.walk.width

    def _row_names(self) -> list[str]:
        n = len(self.walk.rows)
        return ["r"] if n == 1 else [f"r{i}" for i in range(n)]

    def _load(self, access: Access) -> str:
        """The name of an input at the present point.

        An input that is constant along the row is read at the start of the row. Others are read at
        the start of the point, before anything is written there.
        """
        name = self.loads.setdefault(access, f"x{len(self.loads)}")
        if not any(access.cols):
            return name
        self.point_loads[access] = name
        return f"{name}_here"

    def _read_point(self) -> Iterator[str]:
        """The statements that read the inputs of a phase at a point."""
        for access, name in self.point_loads.items():
            index = " + ".join(
                (j if s == 1 else f"{j} * {s}")
                for j, s in zip(self._col_names(), access.cols, strict=True)
                if s
            )
            dtype = access.value.dtype
            yield f"const {c_type(dtype)} {name}_here = {scalars.read(f'{name}[{index}]', dtype)};"

    def _col_names(self) -> list[str]:
        n = len(self.walk.cols)
        return ["j"] if n == 1 else [f"j{i}" for i in range(n)]

    def _flat_column(self) -> str:
        cols = self.walk.cols
        terms = []
        for i, name in enumerate(self._col_names()):
            inner = prod(cols[i + 1 :])
            terms.append(name if inner == 1 else f"{name} * {inner}")
        return " + ".join(terms)

    def _row_setup(self) -> Iterator[str]:
        for access, name in self.loads.items():
            pointer = self._pointer(access.value, access.offset, False)
            steps = access.cols if self.walk.blocked else access.rows
            place = f"{pointer}{self._row_offset(steps)}"
            kind = access.value.dtype
            if any(access.cols):
                yield f"const {scalars.memory_type(kind)}* {name} = {scalars.start(place, kind)};"
            else:
                yield f"const {c_type(kind)} {name} = *({place});"
        # The row's place in a local variable: where it is calculated at each point from a captured
        # pointer, the compiler may take the stores for a scatter, and leave the loop as it is.
        for out in self.stored.values():
            start = f"{self._pointer(out, 0, True)} + r * {self._width()}"
            yield f"{c_type(out.dtype)}* const {self.names[id(out)]}_out = {start};"

    # ---- nodes ----------------------------------------------------------------------------

    def _operands(self, node: Node, phase: int) -> list[str]:
        """The node's inputs at a point of a phase."""
        index = self.index[id(node)]
        result = []
        for x, access in zip(node.inputs, self.walk.accesses[index], strict=True):
            made = self.phases.maker(x.value)
            if id(x.value) in self.filled:
                result.append(scalars.literal(self.filled[id(x.value)], x.dtype))
            elif made is None:
                result.append(self._load(access))
            elif self.phases.is_kept(made, phase):
                place = f"{self.names[id(x.value)]}_row[{self._flat_column()}]"
                result.append(f"({scalars.read(place, x.dtype)})")
            else:
                result.append(self.names[id(x.value)])
        return result

    def _value(self, node: Node, operands: list[str]) -> str:
        """A full node's value at a point."""
        if node.op == "where" and self._is_one_along_row(node, 0):
            return f"choose<{c_type(node.outputs[0].dtype)}>({', '.join(operands)})"
        return scalars.expression(node, operands)

    def _is_one_along_row(self, node: Node, i: int) -> bool:
        """Whether input `i` is the same at all points of a row."""
        made = self.phases.maker(node.inputs[i].value)
        if made is not None:
            return made.kind != FULL
        return not any(self.walk.accesses[self.index[id(node)]][i].cols)

    # ---- text -----------------------------------------------------------------------------

    def write(self) -> LoopCode:
        """The code of the function."""
        nodes = self.nest.nodes
        last_phase = self.phases.last
        self.row_buffers = {id(v): scalars.memory_type(v.dtype) for v in self.phases.kept_values()}
        body: list[str] = []
        for phase in range(last_phase + 1):
            body += self._row_values(phase)
            body += self._column_loop(phase)
        body += self._row_values(last_phase + 1)
        rows, width = str(prod(self.walk.rows)), self.walk.width
        if self.walk.blocked:
            rows, width = f"(size + {BLOCK - 1}) / {BLOCK}", BLOCK
        cost = max(1, width * sum(cost_of(n) for n in nodes if n.op != "fill"))
        text = ["NEEDLE_LOOP NAME({signature}) {{"]
        text.append(f"  const int64_t rows = {rows}, parts = parts_of(rows, {cost});")
        text += self._partial_memory()
        text.append("  for_parts(rows, parts, [=](int64_t part, int64_t begin, int64_t end) {{")
        text.append("    (void)part;")
        for value, kind in self.row_buffers.items():
            name = self.names[value]
            text.append(f"    alignas(64) static thread_local {kind} {name}_memory[{width}];")
            text.append(f"    {kind}* const {name}_row = {name}_memory;")
        text += [f"    {line}" for line in self._part_start()]
        body = [*self._row_index(), *self._row_setup(), *body]
        text += [f"    {line}" for line in self._row_loop("begin", "end", body)]
        text += [f"    {line}" for line in self._part_end()]
        text.append("  }});")
        text += self._finish()
        text.append("}}")
        joined = "\n".join(text).replace("{{", "{").replace("}}", "}")
        size = self.walk.blocked or None
        signature = self.signature if size is None else [*self.signature, "int64_t size"]
        return LoopCode(joined.replace("{signature}", ", ".join(signature)), self.parameters, size)

    def _row_loop(self, begin: str, end: str, body: list[str]) -> Iterator[str]:
        """A loop over rows, in groups where the sums of groups are needed."""
        if not self.columns and not self._groups_totals():
            yield f"for (int64_t r = {begin}; r < {end}; ++r) {{{{"
            yield from (f"  {line}" for line in body)
            yield "}}"
            return
        group = self._rows_of_group()
        yield f"for (int64_t g = {begin}; g < {end}; g += {group}) {{{{"
        yield from (f"  {line}" for line in self._group_start())
        yield f"  for (int64_t r = g; r < std::min<int64_t>(g + {group}, {end}); ++r) {{{{"
        yield from (f"    {line}" for line in body)
        yield "  }}"
        yield from (f"  {line}" for line in self._group_end())
        yield "}}"

    def _rows_of_group(self) -> int:
        if not self.columns:
            return GROUP_OF_BLOCKS if self.walk.blocked else GROUP_OF_TOTALS
        return GROUP_OF_NARROW if self.walk.width <= NARROW and not self.block else GROUP

    def write_epilogue(self, whole_rows: bool) -> LoopCode:
        """The code of a struct: it is called with blocks of rows and columns, then `finish`.

        Each thread has column sums of its own. They are added at the end, in the order of threads.
        """
        assert len(self.walk.rows) == len(self.walk.cols) == 1
        assert not self.totals
        self.block = not whole_rows
        body = self._column_loop(0)
        body = [*self._row_setup(), *body]
        joins = list(self._join_threads())
        signature = self.signature if whole_rows else [*self.signature, "int64_t width"]
        text = ["struct NAME {{", *(f"  {parameter};" for parameter in signature)]
        for node in self.columns:
            name, start = self._sum(node)
            text.append(
                f"  ColumnSums<{c_type(node.outputs[0].dtype)}> {name}"
                f"{{{{{self._width()}, {self._part_length(node)}, {start}}}}};"
            )
        text.append("  void operator()(int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {{")
        text.append("    (void)j0, (void)j1;")
        for node in self.columns:
            place = f"{self._sum(node)[0]}.of_this_task()"
            text += [f"    {line}" for line in self._sum_rows(node, place)]
        text += [f"    {line}" for line in self._row_loop("i0", "i1", body)]
        text += ["  }}", "  void finish() const {{", *joins, "  }}", "}};"]
        joined = "\n".join(text).replace("{{", "{").replace("}}", "}")
        return LoopCode(joined, self.parameters, None if whole_rows else self.walk.width)

    def _join_threads(self) -> Iterator[str]:
        for node in self.columns:
            out = node.outputs[0].value
            function = scalars.combine(node.attributes[0], c_type(out.dtype))
            yield f"    {self.names[id(out)]}.join<{function}>({self._pointer(out, 0, True)});"

    def _row_index(self) -> Iterator[str]:
        if self.walk.blocked:
            yield f"const int64_t n = std::min<int64_t>({BLOCK}, size - r * {BLOCK});"
        rows = self.walk.rows
        if len(rows) > 1:
            for i, length in enumerate(rows):
                inner = prod(rows[i + 1 :])
                place = "r" if inner == 1 else f"r / {inner}"
                yield f"const int64_t r{i} = {place if i == 0 else f'{place} % {length}'};"

    def _row_values(self, phase: int) -> list[str]:
        """The values per row that are computed before a phase passes over the columns."""
        lines = []
        for node, kind in zip(self.nest.nodes, self.nest.kinds, strict=True):
            if self.phases.covers_columns(node) or self.phases.of(node) != phase:
                continue
            out = node.outputs[0].value
            operands = self._operands(node, phase)
            if kind == ROW:
                name = self.names[id(out)]
                lines.append(
                    f"const {c_type(out.dtype)} {name} = {scalars.expression(node, operands)};"
                )
                lines += self._store_row(out)
            else:
                lines.append(self._into(node, self._total(node), operands[0]))
        return lines

    def _store_row(self, out: Value) -> list[str]:
        if id(out) not in self.kept:
            return []
        return [f"{self._pointer(out, 0, True)}[r] = {self.names[id(out)]};"]

    def _column_loop(self, phase: int) -> list[str]:
        members = self.phases.members(phase)
        if not members:
            return []
        reductions = [n for n in members if self._kind(n) in (ROW_SUM, TOTAL)]
        cut, step = self._stretches(reductions)
        long = [node for node in reductions if cut is not None and scalars.is_compensated(node)]
        lines = [self._declare(node, self._of_row(node)) for node in reductions]
        lines += [self._declare(node, f"{self._of_row(node)}_lost") for node in long]
        noting = [node for node in reductions if scalars.notes_nans(node)]
        masks = (f"Mask<{c_type(n.outputs[0].dtype)}> {self._of_row(n)}_nans" for n in noting)
        lines += [f"{mask} = 0;" for mask in masks]
        clauses = "".join(self._clause(node, node in long) for node in reductions)
        indent, ends = "", []
        loops = list(self._loops(cut, step))
        for number, (name, first, bound, by) in enumerate(loops):
            if number == len(loops) - 1:
                lines.append(f"{indent}#pragma omp simd{clauses}")
            lines.append(f"{indent}for (int64_t {name} = {first}; {name} < {bound}; {by}) {{{{")
            ends.append([f"{indent}}}}}"])
            indent += "  "
            if number == cut:
                lines += [indent + self._declare(n, f"{self._of_row(n)}_stretch") for n in long]
                ends[-1] = [*(indent + self._end_stretch(n) for n in long), *ends[-1]]
        self.point_loads.clear()
        body = [line for node in members for line in self._point(node, phase, node in long)]
        lines += [indent + line for line in (*self._read_point(), *body)]
        lines += itertools.chain.from_iterable(reversed(ends))
        for name in map(self._of_row, noting):
            lines.append(f"{name} = {name}_nans ? QNAN : {name};")
        for node in reductions:
            if self._kind(node) == TOTAL:
                lines.append(self._into(node, self._total(node), self._of_row(node)))
            else:
                lines += self._store_row(node.outputs[0].value)
        return lines

    def _loops(self, cut: int | None, step: int) -> Iterator[tuple[str, str, str, str]]:
        """(variable, start, end, increment) of each loop over columns.

        The axis number `cut` gets an outer loop from stretch to stretch.
        """
        for axis, (name, length) in enumerate(zip(self._col_names(), self.walk.cols, strict=True)):
            first, bound = self._bounds_of(axis)
            if axis == cut and step > 1:
                yield "s", first, bound, f"s += {step}"
                even = step == STRETCH and length % step == 0 and not self.walk.blocked
                end = f"s + {step}"
                first, bound = "s", end if even else f"std::min<int64_t>({end}, {bound})"
            yield name, first, bound, f"++{name}"

    def _stretches(self, reductions: list[Node]) -> tuple[int | None, int]:
        """The axis of the columns that is divided into stretches, and the length of a stretch.

        None for the axis where no sum of a row is long.
        """
        if any(map(scalars.is_compensated, reductions)):
            inner = 1
            for axis in reversed(range(len(self.walk.cols))):
                if self.walk.cols[axis] * inner > STRETCH:
                    return axis, STRETCH // inner
                inner *= self.walk.cols[axis]
        return None, 0

    def _clause(self, node: Node, in_stretches: bool) -> str:
        """How OpenMP joins the lanes of a vectorized reduction."""
        name, op = self._of_row(node), node.attributes[0]
        if scalars.notes_nans(node):
            return f" reduction({op}:{name}) reduction(|:{name}_nans)"
        return f" reduction({REDUCTIONS[op].clause}:{name}{'_stretch' if in_stretches else ''})"

    def _end_stretch(self, node: Node) -> str:
        name = self._of_row(node)
        return f"add_compensated({name}, {name}_lost, {name}_stretch);"

    def _of_row(self, node: Node) -> str:
        """The name of a reduction over the points of a row."""
        return f"{self._sum(node)[0]}{'' if self._kind(node) == ROW_SUM else '_sum'}"

    def _declare(self, node: Node, name: str) -> str:
        return f"{c_type(node.outputs[0].dtype)} {name} = {self._sum(node)[1]};"

    def _bounds_of(self, axis: int) -> tuple[str, str]:
        """The start and the end of an axis of the columns."""
        if self.block:
            return "j0", "j1"
        return "0", "n" if self.walk.blocked else str(self.walk.cols[axis])

    def _kind(self, node: Node) -> str:
        return self.nest.kinds[self.index[id(node)]]

    def _into(self, node: Node, target: str, x: str) -> str:
        """The statement that adds one more value to the reduction `target`."""
        out = node.outputs[0].value
        value = f"static_cast<{c_type(out.dtype)}>({x})"
        function = scalars.combine(node.attributes[0], c_type(out.dtype))
        return f"{target} = {function}({target}, {value});"

    def _point(self, node: Node, phase: int, in_stretches: bool) -> Iterator[str]:
        out, kind = node.outputs[0].value, self._kind(node)
        operands = self._operands(node, phase)
        name = self.names[id(out)]
        if kind == FULL:
            yield f"const {c_type(out.dtype)} {name} = {self._value(node, operands)};"
            if self.phases.of(node) != phase:
                return
            if id(out) in self.row_buffers:
                yield f"{name}_row[{self._flat_column()}] = {name};"
            if id(out) in self.kept:
                self.stored[id(out)] = out
                yield f"{name}_out[{self._flat_column()}] = {name};"
        elif kind == COLUMN_SUM:
            yield self._into(node, f"{name}_group[{self._flat_column()}]", operands[0])
        elif scalars.notes_nans(node):
            name, less = self._of_row(node), "<" if node.attributes[0] == "max" else ">"
            yield f"{name} = {name} {less} {operands[0]} ? {operands[0]} : {name};"
            yield f"{name}_nans |= nan_mask({operands[0]});"
        else:
            suffix = "_stretch" if in_stretches else ""
            yield self._into(node, f"{self._of_row(node)}{suffix}", operands[0])

    # ---- column sums and totals --------------------------------------------------------------

    def _is_local(self) -> bool:
        """Whether the sums of a group are local arrays."""
        return self.walk.width <= LOCAL_COLUMNS

    def _compensates(self, node: Node) -> bool:
        """Whether a column sum or a total is compensated over the groups of rows."""
        return self.is_long and scalars.is_compensated(node)

    def _groups_totals(self) -> bool:
        return any(map(self._compensates, self.totals))

    def _total(self, node: Node) -> str:
        """The name of a total inside the loop over rows."""
        return f"{self._sum(node)[0]}_{'group' if self._groups_totals() else 'total'}"

    def _partial_memory(self) -> Iterator[str]:
        """The memory for the column sums and the totals of each part."""
        for node, length in (
            *((n, self._part_length(n)) for n in self.columns),
            *((n, 1) for n in self.totals),
        ):
            out = node.outputs[0].value
            name = self.names[id(out)]
            yield f"  static std::vector<{c_type(out.dtype)}> {name}_memory;"
            count = f"std::max<size_t>({name}_memory.size(), parts * {length})"
            yield f"  {name}_memory.resize({count});"
            yield f"  {c_type(out.dtype)}* const {name}_parts = {name}_memory.data();"

    def _part_length(self, node: Node) -> str:
        rows = len(self._rows_of_sums(node))
        return f"{f'{rows} * ' if rows > 1 else ''}{self._width()}"

    def _rows_of_sums(self, node: Node) -> list[str]:
        """The names of the arrays that a sum of columns needs, each of one row.

        They are the sums, their compensation, and the sums of a group unless these are local.
        """
        lost = ["lost"] if self._compensates(node) else []
        return ["columns", *lost, *([] if self._is_local() else ["group"])]

    def _part_start(self) -> Iterator[str]:
        for node in self.columns:
            name, start = self._sum(node)
            length = self._part_length(node)
            yield from self._sum_rows(node, f"{name}_parts + part * {length}")
            yield f"std::fill_n({name}_columns, {length}, {start});"
        for node in self.totals:
            name = self._sum(node)[0]
            yield self._declare(node, f"{name}_total")
            if self._compensates(node):
                yield self._declare(node, f"{name}_lost")

    def _sum(self, node: Node) -> tuple[str, str]:
        """The name of a reduction and its neutral element."""
        out = node.outputs[0].value
        return self.names[id(out)], scalars.identity(node.attributes[0], out.dtype)

    def _sum_rows(self, node: Node, place: str) -> Iterator[str]:
        """The declarations of the arrays of a sum, one after the other from `place` on."""
        name, kind = self._sum(node)[0], c_type(node.outputs[0].dtype)
        for row in self._rows_of_sums(node):
            yield f"{kind}* const {name}_{row} = {place};"
            place = f"{name}_{row} + {self._width()}"

    def _group_start(self) -> Iterator[str]:
        first, last = self._bounds()
        for node in self.columns:
            name, start = self._sum(node)
            if self._is_local():
                of = c_type(node.outputs[0].dtype)
                yield f"alignas(64) {of} {name}_group[{self.walk.width}];"
            yield f"std::fill({name}_group + {first}, {name}_group + {last}, {start});"
        if self._groups_totals():
            yield from (self._declare(node, self._total(node)) for node in self.totals)

    def _group_end(self) -> Iterator[str]:
        first, last = self._bounds()
        for node in self.columns:
            name, _ = self._sum(node)
            yield "#pragma omp simd"
            yield f"for (int64_t c = {first}; c < {last}; ++c) " + self._add_group(
                node, f"{name}_columns[c]", f"{name}_lost[c]", f"{name}_group[c]"
            )
        if self._groups_totals():
            for node in self.totals:
                name = self._sum(node)[0]
                yield self._add_group(node, f"{name}_total", f"{name}_lost", f"{name}_group")

    def _add_group(self, node: Node, target: str, lost: str, x: str) -> str:
        if self._compensates(node):
            return f"add_compensated({target}, {lost}, {x});"
        return self._into(node, target, x)

    def _bounds(self) -> tuple[str, str]:
        """The first column and the end of the columns."""
        return ("j0", "j1") if self.block else ("0", str(self.walk.width))

    def _part_end(self) -> Iterator[str]:
        for node in self.totals:
            name = self.names[id(node.outputs[0].value)]
            yield f"{name}_parts[part] = {name}_total;"

    def _finish(self) -> Iterator[str]:
        """The statements that combine the sums of the parts, always in the same order."""
        for node in self.columns:
            out, w = node.outputs[0].value, self.walk.width
            name, pointer = self.names[id(out)], self._pointer(out, 0, True)
            yield f"  std::copy_n({name}_parts, {w}, {pointer});"
            yield "  for (int64_t part = 1; part < parts; ++part) {{"
            yield "    #pragma omp simd"
            yield f"    for (int64_t c = 0; c < {w}; ++c) " + self._into(
                node, f"{pointer}[c]", f"{name}_parts[part * {self._part_length(node)} + c]"
            )
            yield "  }}"
        for node in self.totals:
            out = node.outputs[0].value
            name, pointer = self.names[id(out)], self._pointer(out, 0, True)
            yield f"  {c_type(out.dtype)} {name} = {name}_parts[0];"
            yield "  for (int64_t part = 1; part < parts; ++part) " + self._into(
                node, name, f"{name}_parts[part]"
            )
            yield f"  *{pointer} = {name};"


def write_epilogue(
    nest: Nest, cols: int, whole_rows: bool, kept: set[int], filled: dict[int, Number]
) -> LoopCode:
    """The C++ struct of a nest that is the epilogue of a matrix of `cols` columns.

    It is called on blocks of the matrix, which are whole rows or not.
    """
    return _Writer(nest, kept, filled, cols).write_epilogue(whole_rows)


def write_loop(nest: Nest, kept: set[int], filled: dict[int, Number]) -> LoopCode:
    """The C++ function of a nest.

    `kept` has the ids of the values that must be stored. `filled` maps ids of values whose elements
    are all one number to that number.
    """
    return _Writer(nest, kept, filled).write()
