"""The specification of graphs: each node in turn, on NumPy, every value in memory of its own.

Slow and obvious. What compiled code computes is compared with this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend_ndarray import NDArray, cpu_numpy
from ..backend_ndarray.device_numpy import NumpyBuffer
from .graph import Graph, Loop, Node, Value, View
from .reference import REFERENCES

Memory = dict[int, np.ndarray]  # the flat contents of values, by id


def evaluate(
    graph: Graph, arguments: Sequence[np.ndarray], states: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """(results, new contents of the states that change) of a graph; inputs keep their values."""
    memory: Memory = {}
    for view, array in zip((*graph.arguments, *graph.states), (*arguments, *states), strict=True):
        memory[id(view.value)] = np.array(array, dtype=view.dtype, order="C").reshape(-1)
    for value, constant in graph.constants:
        memory[id(value)] = constant.numpy()
    for node in graph.nodes:
        run_node(node, memory)
    results = [_seen(view, memory).copy() for view in graph.results]
    return results, {i: _seen(view, memory).copy() for i, view in graph.updates.items()}


def run_node(node: Node, memory: Memory) -> None:
    """Compute one node's values from those in `memory`."""
    for view in node.outputs:
        memory[id(view.value)] = _fresh(view.value, node, memory)
    if node.op == "scan":
        run_loop(node, memory)
        return
    device, operands = cpu_numpy(), []
    reference = REFERENCES.get(node.op)
    for role, x in zip(node.roles, node.operands, strict=True):
        if role == "a" or x is None:
            operands.append(x)
        else:
            operands.append(_array(x, memory) if reference is None else _seen(x, memory))
    (reference or getattr(device, node.op))(*operands)


def run_loop(node: Node, memory: Memory) -> None:
    """Compute the values of a loop, step by step."""
    loop: Loop = node.operands[0]
    inputs = [_seen(view, memory) for view in node.inputs]
    outputs = [_seen(view, memory) for view in node.outputs]
    first_slice, first_fixed = loop.carries, loop.carries + loop.slices
    carries, slices, fixed = (
        inputs[:first_slice], inputs[first_slice:first_fixed], inputs[first_fixed:],
    )  # fmt: skip
    for t in loop.steps():
        results, _ = evaluate(loop.body, [*carries, *(x[t] for x in slices), *fixed], [])
        carries = results[: loop.carries]
        for out, y in zip(outputs[loop.carries :], results[loop.carries :], strict=True):
            out[t] = y
    for out, carry in zip(outputs, carries, strict=False):
        out[...] = carry


def _fresh(value: Value, node: Node, memory: Memory) -> np.ndarray:
    if value.base is not None:
        before = memory[id(value.base)]
        # A node that writes several parts of one buffer writes them into the same memory.
        together = any(view.value is value.base for view in node.outputs)
        return before if together else before.copy()
    fresh = np.empty(value.size, value.dtype)
    if fresh.dtype.kind == "f":
        fresh.fill(np.nan)  # reading what was never written shows
    return fresh


def _array(view: View, memory: Memory) -> NDArray:
    """The view as an array of the reference device."""
    buffer = NumpyBuffer(memory[id(view.value)])
    return NDArray._view(
        view.shape, view.strides, view.offset, buffer, cpu_numpy(), view.value.dtype
    )


def _seen(view: View, memory: Memory) -> Any:
    return cpu_numpy().view(_array(view, memory))
