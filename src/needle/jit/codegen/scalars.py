"""Scalars in C++ and CUDA C++: literals, the value of a node at one point, reductions."""

from __future__ import annotations

import math

import numpy as np

from ...backend_ndarray.dtypes import c_type, is_float, is_stored, stored_bits
from ...backend_ndarray.primitives import REDUCTIONS
from ..ir.graph import Node, Number


def literal(value: Number, dtype: np.dtype) -> str:
    """A Python number as C++ of a type, converted as the core's `scalar_as` does."""
    if is_stored(dtype):
        return f"{c_type(dtype)}{{{stored_bits(value, dtype):#06x}}}"
    if dtype.kind == "f":
        number = float(value)
        name = "float" if dtype.name == "float32" else "double"
        if math.isnan(number) or math.isinf(number):
            what = "quiet_NaN" if math.isnan(number) else "infinity"
            return f"{'-' if number < 0 else ''}std::numeric_limits<{name}>::{what}()"
        return f"{name}({number.hex()})"
    if dtype.kind == "b":
        return "true" if value != 0 else "false"
    return f"static_cast<{c_type(dtype)}>({_integer(value)})"


def _integer(value: Number) -> str:
    number = int(value)  # C++ has no literal of the smallest: it negates one that is too large
    return f"INT64_C({number})" if number > -(2**63) else f"(-INT64_C({2**63 - 1}) - 1)"


def expression(node: Node, x: list[str]) -> str:
    """The C++ expression of a node's value at one point; `x` has those of its inputs."""
    (out,), attributes = node.outputs, node.attributes
    to = c_type(out.dtype)
    if node.op == "fill":
        return literal(attributes[0], out.dtype)
    if node.op == "where":
        return f"{x[0]} ? {x[1]} : {x[2]}"
    source = node.inputs[0].dtype
    if node.op == "reduce" and attributes[0] == "sum":  # of one element: 0 + -0 is 0
        x = [f"{combine('sum', c_type(source))}({identity('sum', source)}, {x[0]})"]
    if node.op in ("copy", "reduce"):
        return x[0] if source is out.dtype else f"convert<{to}>({x[0]})"
    name, kind = attributes[0], c_type(source)
    if node.op == "unary":
        result = f"f::{name}<{kind}>({x[0]})"
    elif node.op == "binary":
        result = f"f::{name}<{kind}>({x[0]}, {x[1]})"
    else:
        result = _with_number(name, kind, x[0], attributes[1], source, attributes[2])
    return f"static_cast<{to}>({result})"


def _with_number(
    name: str, kind: str, x: str, number: Number, dtype: np.dtype, reverse: bool
) -> str:
    if name == "pow" and not reverse and number in (1, 2, 3):
        square = f"f::square<{kind}>({x})"
        return {1: x, 2: square, 3: f"f::mul<{kind}>({x}, {square})"}[int(number)]
    if name == "pow" and not reverse and number == 0.5 and is_float(dtype):
        return f"f::sqrt<{kind}>({x})"
    y = literal(number, dtype)
    return f"f::{name}<{kind}>({y}, {x})" if reverse else f"f::{name}<{kind}>({x}, {y})"


def combine(op: str, kind: str) -> str:
    """The C++ function that combines two values of a reduction."""
    return f"{REDUCTIONS[op].combine}<{kind}>"


def identity(op: str, dtype: np.dtype) -> str:
    """The neutral element of a reduction."""
    kind = c_type(dtype)
    if op in ("sum", "prod"):
        return f"{kind}({0 if op == 'sum' else 1})"
    limits = f"std::numeric_limits<{kind}>"
    lowest, highest = f"{limits}::lowest()", f"{limits}::max()"
    if dtype.kind == "f":
        lowest, highest = f"-{limits}::infinity()", f"{limits}::infinity()"
    return lowest if op == "max" else highest


def is_compensated(node: Node) -> bool:
    """Whether a reduction is a sum of floats, whose rounding errors would accumulate."""
    return node.attributes[0] == "sum" and is_float(node.outputs[0].dtype)


def notes_nans(node: Node) -> bool:
    """Whether a reduction is a maximum or minimum of floats, which finds numbers and NaNs apart."""
    return node.attributes[0] in ("max", "min") and node.outputs[0].dtype.kind == "f"


def memory_type(dtype: np.dtype) -> str:
    """The C++ type that a loop reads an array as.

    Bools are read as bytes: the compiler does not vectorize a loop that reads a bool.
    """
    return "uint8_t" if dtype.kind == "b" else c_type(dtype)


def read(place: str, dtype: np.dtype) -> str:
    """The expression of a number at a place of `memory_type`."""
    return f"{place} != 0" if dtype.kind == "b" else place


def start(place: str, dtype: np.dtype) -> str:
    """The expression of a pointer to `memory_type` at the place of an array."""
    return f"reinterpret_cast<const uint8_t*>({place})" if dtype.kind == "b" else place
