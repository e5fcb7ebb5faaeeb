"""The reference interpreter of graphs: runs each node in turn, on NumPy.

Every value has memory of its own. The interpreter is slow and obvious, so that the results of
compiled code can be compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...backend_ndarray import NDArray, cpu_numpy, is_float, is_stored
from ...backend_ndarray.device_numpy import NumpyBuffer
from ...backend_ndarray.primitives import PRIMITIVES
from ...typing import HostArray
from .graph import Graph, Loop, Node, Value, View

Memory = dict[int, np.ndarray]  # the flat contents of values as NumPy stores them, by id


def evaluate(
    graph: Graph, arguments: Sequence[np.ndarray], states: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """(results, new contents of the states that change) of a graph; the inputs are not changed.

    Arrays of bfloat16 are passed and returned as float32.
    """
    memory: Memory = {}
    for view, array in zip((*graph.arguments, *graph.states), (*arguments, *states), strict=True):
        memory[id(view.value)] = _stored(np.ravel(array), view.dtype)
    for value, constant in graph.constants:
        memory[id(value)] = contents_of(constant)
    for node in graph.nodes:
        run_node(node, memory)
    results = [seen(view, memory).copy() for view in graph.results]
    return results, {i: seen(view, memory).copy() for i, view in graph.updates.items()}


def run_node(node: Node, memory: Memory) -> None:
    """Compute the outputs of one node from the values in `memory`."""
    for view in node.outputs:
        memory[id(view.value)] = _fresh(view.value, node, memory)
    if node.op == "scan":
        run_loop(node, memory)
        return
    reference = PRIMITIVES[node.op].reference
    as_operand: Callable[[View, Memory], NDArray | HostArray]
    as_operand = _array if reference is None else _in_float32
    operands = [
        x if role == "a" or x is None else as_operand(x, memory)
        for role, x in zip(node.roles, node.operands, strict=True)
    ]
    (reference or getattr(cpu_numpy(), node.op))(*operands)
    for role, view, result in zip(node.roles, node.operands, operands, strict=True):
        if reference is not None and role in "ou" and is_stored(view.dtype):
            cpu_numpy()._store(_array(view, memory), result)  # type: ignore[attr-defined]


def run_loop(node: Node, memory: Memory) -> None:
    """Compute the values of a loop, step by step."""
    loop: Loop = node.operands[0]
    inputs = [seen(view, memory) for view in node.inputs]
    outputs = [_array(view, memory) for view in node.outputs]
    first_slice, first_fixed = loop.carries, loop.carries + loop.slices
    carries, slices, fixed = (
        inputs[:first_slice], inputs[first_slice:first_fixed], inputs[first_fixed:],
    )  # fmt: skip
    for t in loop.steps():
        results, _ = evaluate(loop.body, [*carries, *(x[t] for x in slices), *fixed], [])
        carries = results[: loop.carries]
        for out, y in zip(outputs[loop.carries :], results[loop.carries :], strict=True):
            cpu_numpy()._store(out[t], y)  # type: ignore[attr-defined]
    for out, carry in zip(outputs, carries, strict=False):
        cpu_numpy()._store(out, carry)  # type: ignore[attr-defined]


def contents_of(array: NDArray) -> np.ndarray:
    """The flat contents of a compact array, in the form that `Memory` stores."""
    return _stored(array.numpy(), array.dtype)


def _stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    buffer: NumpyBuffer = NDArray(values, device=cpu_numpy(), dtype=dtype)._handle
    return buffer.array


def _fresh(value: Value, node: Node, memory: Memory) -> np.ndarray:
    if value.base is not None:
        before = memory[id(value.base)]
        # A node that writes several parts of one buffer writes them into the same memory.
        same_memory = any(view.value is value.base for view in node.outputs)
        return before if same_memory else before.copy()
    fresh = cpu_numpy().empty(value.size, value.dtype)
    if is_float(value.dtype):
        fresh.fill(np.nan)  # reading what was never written shows
    buffer: NumpyBuffer = fresh._handle
    return buffer.array


def _array(view: View, memory: Memory) -> NDArray:
    """The view as an array of the reference device."""
    buffer = NumpyBuffer(memory[id(view.value)], view.dtype)
    return NDArray._view(view.shape, view.strides, view.offset, buffer, cpu_numpy(), view.dtype)


def seen(view: View, memory: Memory) -> HostArray:
    """The view as a NumPy array, of float32 for bfloat16."""
    return cpu_numpy().view(_array(view, memory))


def _in_float32(view: View, memory: Memory) -> HostArray:
    """The elements without a copy; for 16-bit dtypes a float32 copy."""
    array = seen(view, memory)
    return array.astype(np.float32) if is_stored(view.dtype) else array
