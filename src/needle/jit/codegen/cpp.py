"""A program as C++: a function for each loop nest, and one that calls them and the kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...backend_ndarray.dtypes import NAMES, c_type, kernel_scalar
from ..ir.graph import Graph, Node, Number, Value, View
from ..ir.products import ProductShape, product_shape
from ..schedule.convolutions import ConvolutionShape, convolution_shape
from ..schedule.memory_plan import Plan, aligned
from ..schedule.planned import PlannedLoop
from ..schedule.products import result_matrix
from ..schedule.units import Unit, values_needed_outside
from .cpp_loops import LoopCode, write_epilogue, write_loop

HEADER = """\
#define NEEDLE_ISA jit
#include "kernels/program_runtime.h"
{includes}
using namespace needle;
using namespace needle::jit;
"""
# The headers and function templates of nodes that get code specialized for their shapes.
TEMPLATES = {
    "matmul": ("static_gemm", "static_gemm"),
    "conv2d": ("static_convolution", "static_convolution"),
    "conv2d_input_grad": ("static_convolution", "static_convolution_input_gradient"),
    "conv2d_weight_grad": ("static_convolution", "static_convolution_weight_gradient"),
}


@dataclass
class Program:
    """The text of a program, and the statement that runs each of its units."""

    source: str
    calls: list[str]


@dataclass
class _Writer:
    graph: Graph
    plan: Plan
    names: dict[str, str] = field(default_factory=dict)  # of functions and structs, by their text
    loops: list[str] = field(default_factory=list)
    structs: list[str] = field(default_factory=list)
    includes: set[str] = field(default_factory=set)

    # ---- places -----------------------------------------------------------------------------

    def _buffer(self, kind: str, number: int) -> int:
        """The index of a buffer among those that the program is called with."""
        graph = self.graph
        counts = len(graph.arguments), len(graph.states), len(graph.constants), len(graph.results)
        order = ("argument", "state", "constant", "result", "arena")
        return sum(counts[: order.index(kind)]) + number

    def address(self, value: Value, offset: int = 0) -> str:
        """A char pointer to element `offset` of a value."""
        kind, number = self.plan.where(value)
        skip = offset * value.dtype.itemsize
        if kind == "arena":
            return f"arena + {number + skip}"
        return f"b[{self._buffer(kind, number)}]" + (f" + {skip}" if skip else "")

    def view(self, x: View) -> str:
        """The expression of a `View` in C++."""
        n = len(x.shape)
        numbers = [f"{{{', '.join(map(str, v))}}}" for v in (x.shape, x.strides)]
        return (
            f"view<{n}>({self.address(x.value, x.offset)}, DType::{NAMES[x.dtype].core}, "
            f"{numbers[0]}, {numbers[1]})"
        )

    # ---- units ------------------------------------------------------------------------------

    def name(self, text: str, among: list[str]) -> str:
        """The name of the function or struct with this text. Equal texts share one definition."""
        if text not in self.names:
            self.names[text] = f"loop_{len(self.names)}"
            among.append(text.replace("NAME", self.names[text], 1))
        return self.names[text]

    def call(self, unit: Unit, needed: set[int]) -> str:
        """The statement that runs a unit."""
        if unit.node is not None and unit.node.op == "scan":
            return self.scan(unit.node)
        if unit.node is not None:
            shape = product_shape(unit.node) or convolution_shape(unit.node)
            if shape is None:
                return kernel_call(unit.node, self.view)
            return self.specialized(unit, unit.node, shape, needed)
        assert unit.nest is not None
        code = write_loop(unit.nest, needed, self.graph.filled())
        return f"{self.name(code.text, self.loops)}({self.arguments(code)});"

    def calls(self, units: list[Unit]) -> list[str]:
        """The statements that run the graph."""
        needed = values_needed_outside(units, self.graph)
        calls = [self.call(unit, needed) for unit in units]
        return calls + [self.copy(*copy) for copy in self.plan.copies]

    def body(self, calls: list[str]) -> str:
        """The parameters and statements of a function that runs the graph."""
        return "\n".join((
            "(char* const* b, const KernelTable* k) {",
            f"  char* const arena = b[{self._buffer('arena', 0)}];",
            "  (void)arena, (void)k;",
            *(f"  {call}" for call in calls),
            "}",
        ))  # fmt: skip

    def scan(self, node: Node) -> str:
        """The statement that runs a loop over time; its body is a function like the program."""
        loop: PlannedLoop = node.operands[0]
        plan = loop.planned.plan
        inner = _Writer(loop.body, plan, self.names, self.loops, self.structs, self.includes)
        text = f"static void NAME{inner.body(inner.calls(loop.planned.units))}"
        body = self.name(text, self.structs)
        *outputs, memory = node.outputs
        spare, start = [], plan.arena_bytes
        for view in outputs[: loop.carries]:
            spare.append(f"{self.address(memory.value)} + {start}")
            start += aligned(view.value.nbytes)
        steps = [
            x.value.nbytes
            for x in (
                *loop.body.arguments[loop.carries : loop.carries + loop.slices],
                *loop.body.results[loop.carries :],
            )
        ]
        numbers = (
            loop.carries, loop.slices, loop.fixed, len(outputs) - loop.carries, loop.length,
            "true" if loop.reverse else "false",
        )  # fmt: skip
        return (
            f"run_scan<{', '.join(map(str, numbers))}>({body}, k, "
            f"{{{', '.join(self.address(x.value, x.offset) for x in node.inputs)}}}, "
            f"{{{', '.join(self.address(x.value) for x in outputs)}}}, "
            f"{{{', '.join(spare)}}}, {{{', '.join(map(str, steps))}}}, "
            f"{self.address(memory.value)});"
        )

    def arguments(self, code: LoopCode) -> str:
        """The arguments of a loop's function."""
        pointers = [
            f"reinterpret_cast<{c_type(v.dtype)}*>({self.address(v, offset)})"
            for v, offset in code.parameters
        ]
        return ", ".join(pointers if code.size is None else [*pointers, str(code.size)])

    def pointer(self, x: View) -> str:
        """A typed pointer to the first element of a view."""
        return f"reinterpret_cast<{c_type(x.dtype)}*>({self.address(x.value, x.offset)})"

    def specialized(
        self, unit: Unit, node: Node, shape: ProductShape | ConvolutionShape, needed: set[int]
    ) -> str:
        """A product or convolution specialized for its shape; the unit's nest is its epilogue."""
        header, name = TEMPLATES[node.op]
        self.includes.add(f'#include "kernels/{header}.h"\n')
        if isinstance(shape, ProductShape) and shape.batch > 1:
            name += "_batched"
        pointers = ", ".join(self.pointer(x) for x in node.operands[:3])
        call = f"{name}<{self.shape(shape)}>({pointers}"
        if unit.nest is None:
            return f"{call});"
        matrix = result_matrix(node)
        assert matrix is not None
        whole_rows = isinstance(shape, ConvolutionShape)
        code = write_epilogue(unit.nest, matrix[1], whole_rows, needed, self.graph.filled())
        name = self.name(code.text, self.structs)
        made = f"{name} epilogue{{{self.arguments(code)}}};"
        return f"{{ {made} {call}, epilogue); epilogue.finish(); }}"

    def shape(self, shape: ProductShape | ConvolutionShape) -> str:
        """The name of the struct with the constants of a product or convolution."""
        base, numbers = type(shape).__name__, list(map(str, shape))
        if isinstance(shape, ProductShape):
            base, numbers = ("BatchedShape", numbers) if shape.batch > 1 else (base, numbers[:7])
        text = f"struct NAME : {base}<{', '.join(numbers)}> {{}};"
        return self.name(text, self.structs)

    def copy(self, view: View, kind: str, number: int) -> str:
        """The statement that copies an output to its buffer."""
        to = f"b[{self._buffer(kind, number)}]"
        return f"std::copy_n({self.address(view.value)}, {view.value.nbytes}, {to});"


def write_program(graph: Graph, units: list[Unit], plan: Plan, profile: bool = False) -> Program:
    """The C++ file of a graph that runs as `units`, with its values in the places of `plan`.

    With `profile` it adds the seconds of unit i to `needle_times[i]`.
    """
    writer = _Writer(graph, plan)
    calls = timed = writer.calls(units)
    if profile:
        timed = [f"{{ const Timer timer(needle_times[{i}]); {c} }}" for i, c in enumerate(calls)]
        writer.structs.append(f'extern "C" {{ double needle_times[{len(calls)}]; }}')
    lines = [
        HEADER.format(includes="".join(sorted(writer.includes))),
        *(f"{text.partition(' {')[0]};" for text in writer.loops),
        "#if NEEDLE_PART != 2",
        *writer.loops,
        "#endif",
        "#if NEEDLE_PART != 1",
        *writer.structs,
        f'extern "C" void needle_program{writer.body(timed)}',
        "#endif",
    ]
    return Program("\n".join(lines) + "\n", calls)


# ---- kernels of the core --------------------------------------------------------------------


def scalar(value: Number) -> str:
    """A Python number as the kernels' `Scalar`."""
    real, whole = kernel_scalar(value)
    text = real.hex() if np.isfinite(real) else f"{'-' if real < 0 else ''}__builtin_inf()"
    text = '__builtin_nan("")' if real != real else text
    integer = "INT64_MIN" if whole == -(2**63) else f"INT64_C({whole})"
    return f"Scalar{{{text}, {integer}}}"


def _enum(kind: str, name: str) -> str:
    return f"{kind}::{name}"


def _number(value: Number | tuple[Number, ...]) -> str:
    if isinstance(value, tuple):
        return f"Pair{{{', '.join(map(_number, value))}}}"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return float(value).hex() if isinstance(value, float) else f"INT64_C({int(value)})"


def kernel_call(node: Node, view: Callable[[View], str]) -> str:
    """The statement that runs a node through the core's table of kernels."""
    op, x = node.op, node.operands
    at = [view(operand) if isinstance(operand, View) else "" for operand in x]  # "" for the others
    if "?" in node.roles:
        return _with_optional(node, at)
    if op == "fill":
        args = [at[0], scalar(x[1])]
    elif op == "unary":
        args = [_enum("UnaryOp", x[0]), *at[1:]]
    elif op == "binary":
        args = [_enum("BinaryOp", x[0]), *at[1:]]
    elif op == "binary_scalar":
        args = [_enum("BinaryOp", x[0]), at[1], scalar(x[2]), at[3], _number(x[4])]
    elif op == "reduce":
        mask = sum(1 << axis for axis in x[2])
        args = [_enum("ReduceOp", x[0]), at[1], str(mask), at[3]]
    elif op == "argreduce":
        args = [_number(x[0] == "argmax"), at[1], str(x[2]), at[3]]
    else:
        args = _arguments(node, at)
    return f"k->{op}({', '.join(args)});"


def _arguments(node: Node, at: list[str]) -> list[str]:
    """The operands in order; `at` has the views."""
    operands = zip(node.roles, node.operands, at, strict=True)
    return [_number(x) if role == "a" else text for role, x, text in operands]


def _with_optional(node: Node, at: list[str]) -> str:
    """The call of a kernel that takes a pointer to an operand that may be missing."""
    which = node.roles.index("?")
    missing = node.operands[which] is None
    args = _arguments(node, at)
    args[which] = "nullptr" if missing else "&extra"
    call = f"k->{node.op}({', '.join(args)});"
    return call if missing else f"{{ const View extra = {at[which]}; {call} }}"
