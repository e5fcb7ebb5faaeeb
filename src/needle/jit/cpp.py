"""A program as C++: functions of its loop nests, and one that calls them and kernels in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .fuse import Unit, values_needed_outside
from .graph import ROLES, Graph, Node, Value, View
from .loops import LoopCode, ctype, write_epilogue, write_loop
from .plan import Plan
from .products import ProductShape, product_shape

DTYPES = {
    "float32": "Float32", "float64": "Float64", "int32": "Int32", "int64": "Int64",
    "uint8": "UInt8", "bool": "Bool",
}  # fmt: skip

HEADER = """\
#define NEEDLE_ISA jit
#include "kernels/generated.h"
{includes}
using namespace needle;
using namespace needle::jit;
"""
PRODUCTS = '#include "kernels/static_gemm.h"\n'


@dataclass
class Program:
    """The text of a program, and what each of its units is called in it."""

    source: str
    calls: list[str]


@dataclass
class _Writer:
    graph: Graph
    plan: Plan
    names: dict[str, str] = field(default_factory=dict)  # of functions and structs, by text
    loops: list[str] = field(default_factory=list)
    structs: list[str] = field(default_factory=list)
    products: bool = False  # whether there are matrix products among the units

    # ---- places -----------------------------------------------------------------------------

    def _buffer(self, kind: str, number: int) -> int:
        """The index among the buffers that the program is called with."""
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
        """A `View` of the kernels."""
        n = len(x.shape)
        numbers = [f"{{{', '.join(map(str, v))}}}" for v in (x.shape, x.strides)]
        return (
            f"view<{n}>({self.address(x.value, x.offset)}, DType::{DTYPES[x.dtype.name]}, "
            f"{numbers[0]}, {numbers[1]})"
        )

    # ---- units ------------------------------------------------------------------------------

    def name(self, text: str, among: list[str]) -> str:
        """The name of the function or struct with this text; equal texts are one."""
        if text not in self.names:
            self.names[text] = f"loop_{len(self.names)}"
            among.append(text.replace("NAME", self.names[text], 1))
        return self.names[text]

    def call(self, unit: Unit, needed: set[int]) -> str:
        """The statement that runs a unit."""
        if unit.node is not None:
            shape = product_shape(unit.node)
            if shape is None:
                return kernel_call(unit.node, self.view)
            return self.product(unit, shape, needed)
        assert unit.nest is not None
        code = write_loop(unit.nest, needed, self.graph.filled())
        return f"{self.name(code.text, self.loops)}({self.arguments(code)});"

    def arguments(self, code: LoopCode) -> str:
        """The arguments of a loop's function."""
        pointers = [
            f"reinterpret_cast<{ctype(v.dtype)}*>({self.address(v, offset)})"
            for v, offset in code.parameters
        ]
        return ", ".join(pointers if code.size is None else [*pointers, str(code.size)])

    def pointer(self, x: View) -> str:
        """A typed pointer to the first element of a view."""
        return f"reinterpret_cast<{ctype(x.dtype)}*>({self.address(x.value, x.offset)})"

    def product(self, unit: Unit, shape: ProductShape, needed: set[int]) -> str:
        """A matrix product made for its shape, with the unit's loop on each block of it."""
        assert unit.node is not None
        self.products = True
        a, b, out, _ = unit.node.operands
        pointers = ", ".join(self.pointer(x) for x in (a, b, out))
        name = "static_gemm" if shape.batch == 1 else "static_gemm_batched"
        call = f"{name}<{self.shape(shape)}>({pointers}, "
        if unit.nest is None:
            return f"{call}no_epilogue);"
        code = write_epilogue(unit.nest, shape.n, needed, self.graph.filled())
        name = self.name(code.text, self.structs)
        return (
            f"{{ {name} epilogue{{{self.arguments(code)}}}; {call}epilogue); epilogue.finish(); }}"
        )

    def shape(self, shape: ProductShape) -> str:
        """The name of the struct of a product's constants."""
        base, numbers = ("ProductShape", shape[:7]) if shape.batch == 1 else ("BatchedShape", shape)
        text = f"struct NAME : {base}<{', '.join(map(str, numbers))}> {{}};"
        return self.name(text, self.structs)

    def copy(self, view: View, kind: str, number: int) -> str:
        """The statement that brings an output to its place."""
        to = f"b[{self._buffer(kind, number)}]"
        return f"std::copy_n({self.address(view.value)}, {view.value.nbytes}, {to});"


def write_program(graph: Graph, units: list[Unit], plan: Plan, profile: bool = False) -> Program:
    """The C++ file of a graph whose nodes are in `units` and whose values are placed by `plan`.

    With `profile` it sums the seconds of unit i in `needle_times[i]`.
    """
    writer = _Writer(graph, plan)
    needed = values_needed_outside(units, graph)
    calls = [writer.call(unit, needed) for unit in units]
    calls += [writer.copy(*copy) for copy in plan.copies]
    timed = calls
    if profile:
        timed = [f"{{ const Timer timer(needle_times[{i}]); {c} }}" for i, c in enumerate(calls)]
        writer.structs.append(f'extern "C" {{ double needle_times[{len(calls)}]; }}')
    arena = writer._buffer("arena", 0)
    lines = [
        HEADER.format(includes=PRODUCTS if writer.products else ""),
        *(f"{text.partition(' {')[0]};" for text in writer.loops),
        "#if NEEDLE_PART != 2",
        *writer.loops,
        "#endif",
        "#if NEEDLE_PART != 1",
        *writer.structs,
        'extern "C" void needle_program(char* const* b, const KernelTable* k) {',
        f"  char* const arena = b[{arena}];",
        "  (void)arena, (void)k;",
        *(f"  {call}" for call in timed),
        "}",
        "#endif",
    ]
    return Program("\n".join(lines) + "\n", calls)


# ---- kernels of the core --------------------------------------------------------------------


def scalar(value: Any) -> str:
    """A Python number as the kernels' `Scalar`."""
    real = float(value)
    text = real.hex() if np.isfinite(real) else f"{'-' if real < 0 else ''}__builtin_inf()"
    text = '__builtin_nan("")' if real != real else text
    whole = int(value) if np.isfinite(real) and abs(real) < 9.2e18 else -(2**63)
    integer = "INT64_MIN" if whole <= -(2**63) else f"INT64_C({whole})"
    return f"Scalar{{{text}, {integer}}}"


def _enum(kind: str, name: str) -> str:
    return f"{kind}::{name}"


def _convolution(stride: Any, dilation: Any, padding: Any, groups: int) -> str:
    pairs = ", ".join(f"{{{a}, {b}}}" for a, b in (stride, dilation, padding))
    return f"Convolution{{{pairs}, {groups}}}"


def _number(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return float(value).hex() if isinstance(value, float) else f"INT64_C({int(value)})"


def kernel_call(node: Node, view: Callable[[View], str]) -> str:
    """The statement that runs a node through the core's table of kernels."""
    at: list[Any] = [view(x) if isinstance(x, View) else x for x in node.operands]
    op = node.op
    optional = node.op.startswith("attention") or op == "matmul"
    if optional:
        return _with_optional(node, at)
    if op == "fill":
        args = [at[0], scalar(at[1])]
    elif op == "unary":
        args = [_enum("UnaryOp", at[0]), *at[1:]]
    elif op == "binary":
        args = [_enum("BinaryOp", at[0]), *at[1:]]
    elif op == "binary_scalar":
        args = [_enum("BinaryOp", at[0]), at[1], scalar(at[2]), at[3], _number(at[4])]
    elif op == "reduce":
        mask = sum(1 << axis for axis in at[2])
        args = [_enum("ReduceOp", at[0]), at[1], str(mask), at[3]]
    elif op == "argreduce":
        args = [_number(at[0] == "argmax"), at[1], str(at[2]), at[3]]
    elif op.startswith("conv2d"):
        args = [*at[:3], _convolution(*at[3:])]
    elif op in ("softmax", "log_softmax"):
        return f"k->softmax({at[0]}, {at[1]}, {_number(op == 'log_softmax')});"
    else:
        args = [x if role in "iou" else _number(x) for role, x in zip(ROLES[op], at, strict=True)]
    return f"k->{op}({', '.join(args)});"


def _with_optional(node: Node, at: list[Any]) -> str:
    """Kernels with an operand that may be missing take a pointer to it."""
    name, which = node.op, ROLES[node.op].index("?")
    missing = at[which] is None
    args = [
        ("nullptr" if missing else "&extra") if i == which else x if role in "iou" else _number(x)
        for i, (role, x) in enumerate(zip(ROLES[name], at, strict=True))
    ]
    call = f"k->{name}({', '.join(args)});"
    return call if missing else f"{{ const View extra = {at[which]}; {call} }}"
