"""Loops over time (`ndl.scan`): a step is traced once and becomes the body of one node."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias

from ...backend_ndarray import NDArray
from ..ir.graph import Graph, Loop, Node, Value, replace_values, whole
from .errors import NotALoop
from .recorder import Recorder

Arrays: TypeAlias = list[NDArray]
# (carries, slices) to (new carries, the step's part of each output)
Body: TypeAlias = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]


def record_loop(
    recorder: Recorder, body: Body, carries: Arrays, xs: Arrays, reverse: bool
) -> tuple[Arrays, Arrays] | None:
    """Add a node that runs `body` for every step over the first axis of `xs`.

    Returns (the last carries, the stacked outputs), or None where the body cannot be a loop node.
    """
    device = xs[0]._device
    recorder.check_device(device, "scan")
    carries, xs = [x.compact() for x in carries], [x.compact() for x in xs]
    inputs = [recorder.view_of(x) for x in (*carries, *xs)]
    traced = _traced(recorder, body, carries, xs)
    if traced is None:
        return None
    graph, fixed = traced
    loop = Loop(graph, xs[0]._shape[0], len(carries), len(xs), reverse)
    shapes = [
        view.shape if i < len(carries) else (loop.length, *view.shape)
        for i, view in enumerate(graph.results)
    ]
    outputs = [
        whole(Value(prod(shape), view.dtype), shape)
        for shape, view in zip(shapes, graph.results, strict=True)
    ]
    operands = (loop, *inputs, *map(whole, fixed), *outputs)
    recorder.add(Node("scan", operands, recorder.run_number))
    results = [recorder.symbolic(view.shape, device, view.value) for view in outputs]
    return results[: len(carries)], results[len(carries) :]


def _traced(
    recorder: Recorder, body: Body, carries: Arrays, xs: Arrays
) -> tuple[Graph, list[Value]] | None:
    """The graph of one step, and the outer values that it also reads."""
    graph = Graph()
    shapes = [*(x._shape for x in carries), *(x._shape[1:] for x in xs)]
    inputs = []
    with recorder.body(graph):
        for shape, array in zip(shapes, (*carries, *xs), strict=True):
            value = recorder.input(graph, prod(shape), array._dtype)
            graph.arguments.append(whole(value, shape))
            inputs.append(recorder.symbolic(shape, array._device, value))
        try:
            new, ys = body(inputs[: len(carries)], inputs[len(carries) :])
            for array in (*new, *ys):
                recorder.result(array)
        except NotALoop:
            return None
    return graph, _outer_values(graph)


def _outer_values(graph: Graph) -> list[Value]:
    """Turn the outer values that a loop body reads into arguments of it; returns those values."""
    known = {id(view.value) for view in graph.arguments}
    fixed: dict[int, tuple[Value, Value]] = {}  # outside, inside
    for node in graph.nodes:
        for value in node.needed():
            if id(value) not in known:
                fixed.setdefault(id(value), (value, Value(value.size, value.dtype)))
        known.update(id(view.value) for view in node.outputs)
    instead = {key: inside for key, (_, inside) in fixed.items()}
    graph.nodes = [replace_values(node, instead) for node in graph.nodes]
    graph.arguments += [whole(inside) for _, inside in fixed.values()]
    return [outside for outside, _ in fixed.values()]
