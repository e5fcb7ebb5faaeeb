"""Passes, fusion and the memory plan: what they do to graphs, and that the graphs mean the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jit.random_programs import Program, random_program

import needle as ndl
from needle import init, models, nn, optim
from needle.jit.frontend.trace import Tracing
from needle.jit.ir.domain import FULL
from needle.jit.ir.evaluate import evaluate, run_node
from needle.jit.ir.graph import Graph, Node, Value, View, base_of, whole
from needle.jit.passes import PASSES, optimize, simplify_loops
from needle.jit.passes.products import batch_products, split_biases
from needle.jit.passes.rows import update_rows
from needle.jit.passes.simplify import (
    fold_constants,
    remove_dead_code,
    share_common_subexpressions,
    simplify_algebra,
)
from needle.jit.schedule import fuse as fusion
from needle.jit.schedule import order
from needle.jit.schedule.fuse import SMALL, fuse
from needle.jit.schedule.memory_plan import Plan, make_plan
from needle.jit.schedule.rematerialize import units_of
from needle.jit.schedule.units import Unit, values_needed_outside
from needle.jit.schedule.walk import phases_of

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

FLOAT32 = ndl.array_api.as_dtype("float32")
Arrays = list[np.ndarray]


# ---- graphs and their meaning ---------------------------------------------------------------


def traced(function: Callable[..., Any], *tensors: ndl.Tensor) -> tuple[Graph, Arrays, Arrays]:
    """The graph of `function(*tensors)`, and the arguments and states to evaluate it on."""
    trace = Tracing().run(function, tensors, {}, list(tensors))
    states = [source.tensor.numpy() for source in trace.states]
    return trace.graph, [x.numpy() for x in tensors], states


def traced_program(program: Program) -> tuple[Graph, Arrays, Arrays]:
    """The graph of a random program."""
    inputs, states = program.tensors(program.inputs), program.tensors(program.states)
    names = tuple(inputs)  # the function finds its arguments in no other way
    return traced(
        lambda *tensors: program.run(dict(zip(names, tensors, strict=True)), states),
        *inputs.values(),
    )


def check(graph: Graph) -> None:
    """Every value is written once, before it is read, and not read once it is overwritten.

    Also in the bodies of loops, which read nothing but their arguments and what they write.
    """
    graph.check()
    for node in graph.nodes:
        if node.op == "scan":
            check(node.operands[0].body)
    overwritten: set[int] = set()
    for node in graph.nodes:
        for value in node.needed():
            assert id(value) not in overwritten, f"{node.op} reads what is overwritten"
        overwritten |= {id(x.value.base) for x in node.outputs if x.value.base is not None}
    for view in graph.outputs():
        assert id(view.value) not in overwritten, "an output is overwritten"


def assert_same(actual: Any, expected: Any) -> None:
    """The same results and updates, bit for bit (a NaN is a NaN)."""
    (results, updates), (results2, updates2) = actual, expected
    assert updates.keys() == updates2.keys()
    pairs = [*zip(results, results2, strict=True), *((updates[i], updates2[i]) for i in updates)]
    for ours, theirs in pairs:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)
        if ours.dtype.kind == "f":
            numbers = ~np.isnan(ours)
            np.testing.assert_array_equal(np.signbit(ours[numbers]), np.signbit(theirs[numbers]))


def assert_near(actual: Any, expected: Any) -> None:
    """The same results and updates but for the order of sums: of steps, and inside of products."""
    (results, updates), (results2, updates2) = actual, expected
    assert updates.keys() == updates2.keys()
    pairs = [*zip(results, results2, strict=True), *((updates[i], updates2[i]) for i in updates)]
    for ours, theirs in pairs:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        tolerance = 1e-9 if ours.dtype == "float64" else 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def ops_of(graph: Graph) -> list[str]:
    """The primitives in order, those with a function as its name."""
    named = ("unary", "binary", "binary_scalar", "reduce")
    return [node.attributes[0] if node.op in named else node.op for node in graph.nodes]


# From seeds: an example that hypothesis varied step by step would hardly be another one.
PROGRAMS = st.builds(
    lambda seed, pure: random_program(Random(seed), pure),
    st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip


# ---- random graphs --------------------------------------------------------------------------

EACH = [
    remove_dead_code, share_common_subexpressions, fold_constants, simplify_algebra, split_biases,
    batch_products, simplify_loops, update_rows, optimize,
]  # fmt: skip


def test_every_pass_is_tested_here():
    assert set(PASSES) <= set(EACH)


@pytest.mark.parametrize("change", EACH, ids=lambda change: change.__name__)
@given(program=PROGRAMS)
def test_a_pass_keeps_the_meaning(change, program):
    graph, arguments, states = traced_program(program)
    check(graph)
    before = str(graph)
    changed = change(graph)
    check(changed)
    assert str(graph) == before, "the graph that went in is as it was"
    assert [x.shape for x in changed.results] == [x.shape for x in graph.results]
    actual, expected = (evaluate(g, arguments, states) for g in (changed, graph))
    if any(node.op == "scan" for node in graph.nodes):
        assert_near(actual, expected)
    else:  # no other pass reorders arithmetic
        assert_same(actual, expected)


@given(program=PROGRAMS)
def test_passes_find_nothing_more_the_second_time(program):
    graph = optimize(traced_program(program)[0])
    assert len(optimize(graph).nodes) == len(graph.nodes)


# ---- dead code ------------------------------------------------------------------------------


def row(*numbers: float) -> ndl.Tensor:
    return ndl.Tensor(np.array(numbers), dtype="float32", requires_grad=False)


X = row(1.0, -2.0, 3.0, 0.0)


def test_dead_code_goes():
    def f(x):
        unused = ndl.exp(x)
        unused = ndl.pad(unused + 1.0, ((1, 1),))
        unused.sum()
        return x * 2.0

    graph = traced(f, X)[0]
    assert len(graph.nodes) > 4
    assert ops_of(remove_dead_code(graph)) == ["mul"]


def test_what_is_overwritten_in_part_is_not_dead():
    def f(x):
        y = x * 2.0
        y[1:] = x[1:]
        return y

    graph = remove_dead_code(traced(f, X)[0])
    assert ops_of(graph) == ["mul", "copy"]


def test_an_updated_state_is_not_dead():
    state = row(1.0)
    graph = remove_dead_code(traced(lambda: setattr(state, "data", state + 1.0))[0])
    assert ops_of(graph) == ["add"]
    assert list(graph.updates) == [0]


def test_one_of_several_outputs_keeps_the_node():
    x = ndl.Tensor(np.ones((2, 2, 3, 4)))
    graph = traced(lambda x: ndl.scaled_dot_product_attention(x, x, x), x)[0]
    assert "attention" in ops_of(remove_dead_code(graph))


# ---- common subexpressions ------------------------------------------------------------------


def test_equal_nodes_are_shared():
    def f(x):
        return ndl.exp(x * 2.0) + ndl.exp(x * 2.0) * ndl.tanh(x * 2.0)

    graph = share_common_subexpressions(traced(f, X)[0])
    assert ops_of(graph) == ["mul", "exp", "tanh", "mul", "add"]


def test_an_array_and_its_transpose_are_one():
    def f(x):
        square = x.reshape((2, 2))
        return (square * 2.0).transpose() + square.transpose() * 2.0

    graph, arguments, states = traced(f, X)
    shared = share_common_subexpressions(graph)
    assert ops_of(shared).count("mul") == 1
    assert_same(evaluate(shared, arguments, states), evaluate(graph, arguments, states))


@pytest.mark.parametrize(
    "pair",
    [
        lambda x: (x * 2.0, x * 3.0),
        lambda x: (x * 0.0, x * -0.0),
        lambda x: (x[:2] * 2.0, x[2:] * 2.0),
        lambda x: (x.reshape((2, 2)) - x[:2], x.reshape((2, 2)).transpose() - x[:2]),
        lambda x: (x.astype("float64"), x.astype("int32")),
        lambda x: (2.0 - x, x - 2.0),
        lambda x: (init.constant(4, c=1), init.constant(4, c=1, dtype="int32")),
    ],
)
def test_nodes_that_differ_are_not_shared(pair):
    def f(x):
        return [-y for y in pair(x)]

    graph = traced(f, X)[0]
    assert len(share_common_subexpressions(graph).nodes) == len(graph.nodes)


def test_two_outputs_stay_two():
    # The caller may write into one of them.
    graph = share_common_subexpressions(traced(lambda x: (x * 2.0, x * 2.0), X)[0])
    assert ops_of(graph) == ["mul", "mul"]
    first, second = graph.results
    assert first.value is not second.value


def test_what_is_overwritten_is_not_shared():
    def f(x):
        changed, kept = x * 2.0, x * 2.0
        changed[1:] = 0.0
        return changed + kept

    graph, arguments, states = traced(f, X)
    shared = share_common_subexpressions(graph)
    check(shared)
    assert ops_of(shared).count("mul") == 2
    assert_same(evaluate(shared, arguments, states), evaluate(graph, arguments, states))


# ---- constants ------------------------------------------------------------------------------


def filled_with(graph: Graph) -> Any:
    """The number that the only result is filled with."""
    node = remove_dead_code(graph).nodes[-1]
    assert node.op == "fill"
    return node.attributes[0]


@pytest.mark.parametrize(
    ("compute", "number"),
    [
        (lambda c: ndl.exp(c), float(np.exp(np.float32(3)))),
        (lambda c: c + c * c, 12),
        (lambda c: 1.0 / c, float(np.float32(1 / 3))),
        (lambda c: c - 1.0, 2),
        (lambda c: c.astype("int64") * 2, 6),
        (lambda c: ndl.less(c, c + 1.0), True),
        (lambda c: ndl.broadcast_to(c.sum((), keepdims=True), (2, 4)) * 1.0, 3),
        (lambda c: c.astype("uint8") - 4, 255),
    ],
)
def test_constants_fold(compute, number):
    graph = fold_constants(traced(lambda: compute(init.constant(4, c=3)))[0])
    assert filled_with(graph) == number


def test_a_constant_operand_becomes_a_number():
    def f(x):
        two = init.ones(4) + 1.0
        return two - x, x - two

    graph = remove_dead_code(fold_constants(traced(f, X)[0]))
    assert [node.attributes for node in graph.nodes] == [("sub", 2.0, True), ("sub", 2.0, False)]


def test_what_is_overwritten_in_part_is_no_constant():
    def f(x):
        y = init.ones(4)
        y[1:] = 5.0
        return y * 2.0

    graph, arguments, states = traced(f, X)
    folded = fold_constants(graph)
    np.testing.assert_array_equal(evaluate(folded, arguments, states)[0][0], [2, 10, 10, 10])


# ---- algebra --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same",
    [
        lambda x: x * 1.0,
        lambda x: x / 1,
        lambda x: x**1,
        lambda x: (x * 1.0) * 1,
        lambda x: ndl.Tensor.make_const(x.cached_data - 0.0),
        lambda x: ndl.Tensor.make_const(x.cached_data.copy()),
        lambda x: x * ndl.ones_like(x),
    ],
)
def test_what_changes_nothing_vanishes(same):
    graph = optimize(traced(lambda x: ndl.exp(same(x + 2.0)), X)[0])
    assert ops_of(graph) == ["add", "exp"]


@pytest.mark.parametrize(
    "other",
    [
        lambda x: 1.0 / x,
        lambda x: x * -1,
        lambda x: x + 0.0,  # -0.0 becomes 0.0
        lambda x: ndl.Tensor.make_const(x.cached_data - -0.0),  # so here
        lambda x: 0.0 - x,
        lambda x: x.astype("float64"),
        lambda x: x * 1.5,
    ],
)
def test_what_changes_something_stays(other):
    graph = optimize(traced(lambda x: ndl.exp(other(x * 2.0)), X)[0])
    assert len(graph.nodes) == 3


def test_an_output_has_memory_of_its_own():
    graph, arguments, states = traced(lambda x: (x * 1.0, x * 1.0, x), X)
    simple = optimize(graph)
    assert len({id(view.value) for view in simple.results}) == len(simple.results)
    assert_same(evaluate(simple, arguments, states), evaluate(graph, arguments, states))


def test_a_copy_of_what_is_overwritten_later_stays():
    def f(x):
        y = x * 2.0
        copy = y * 1.0
        y[1:] = 0.0
        return copy.reshape((2, 2)) @ copy.reshape((2, 2)), y + 1.0

    graph, arguments, states = traced(f, X)
    simple = simplify_algebra(graph)
    check(simple)
    assert_same(evaluate(simple, arguments, states), evaluate(graph, arguments, states))


# ---- biases ---------------------------------------------------------------------------------


def test_the_bias_of_a_product_is_split():
    layer = nn.Linear(4, 3)
    graph, arguments, states = traced(lambda x: layer(x), ndl.Tensor(np.random.rand(5, 4)))
    assert ops_of(graph) == ["matmul"]
    split = split_biases(graph)
    check(split)
    assert ops_of(split) == ["matmul", "add"]
    assert split.nodes[0].operands[3] is None
    assert_same(evaluate(split, arguments, states), evaluate(graph, arguments, states))


def test_the_bias_of_a_product_without_code_of_its_own_stays():
    layer = nn.Linear(4, 3)  # one row: a product with a vector
    graph = traced(lambda x: layer(x), ndl.Tensor(np.random.rand(1, 4)))[0]
    assert ops_of(split_biases(graph)) == ["matmul"]


# ---- batches of products ----------------------------------------------------------------------


def products_of(function: Callable[..., Any], *tensors: ndl.Tensor) -> list[tuple[int, ...]]:
    """The shapes of a function's products after all passes, which mean the same as before."""
    graph, arguments, states = traced(function, *tensors)
    optimized = optimize(graph)
    check(optimized)
    assert_near(evaluate(optimized, arguments, states), evaluate(graph, arguments, states))
    return [n.outputs[0].shape for n in optimized.nodes if n.op == "matmul"]


def test_the_same_weight_at_every_step_is_one_product():
    cell = nn.RNNCell(6, 8)

    def f(x):
        h = ndl.Tensor(np.zeros((3, 8)), dtype="float32", requires_grad=False)
        for t in range(5):
            h = cell(x[t], h)
        return h

    inputs, *states = products_of(f, state(5, 3, 6))
    assert inputs == (15, 8)
    assert states == [(3, 8)] * len(states)


def test_products_of_evenly_spaced_parts_are_a_batch():
    def heads(q, k):
        return ndl.stack([q[:, i] @ k[i] for i in (0, 2, 4)], 0)

    assert products_of(heads, state(7, 6, 8), state(6, 8, 5)) == [(3, 7, 5)]


def test_parts_that_are_not_evenly_spaced_are_products_of_their_own():
    def f(x, w):
        return ndl.stack([x[i] @ w for i in (0, 1, 3)], 0)

    assert products_of(f, state(4, 3, 6), state(6, 8)) == [(6, 8), (3, 8)]


def test_products_that_follow_each_other_are_no_batch():
    def f(w):
        x = w[0]
        for i in range(1, 4):
            x = x @ w[i]
        return x

    assert products_of(f, state(4, 5, 5)) == [(5, 5)] * 3


def test_a_result_that_is_overwritten_keeps_its_memory():
    def f(x, w):
        parts = [x[i] @ w for i in range(3)]
        parts[1][0] = 0.0
        return ndl.stack(parts, 0)

    assert len(products_of(f, state(3, 4, 6), state(6, 8))) > 1


# ---- fusion ---------------------------------------------------------------------------------


def state(*shape: int) -> ndl.Tensor:
    return ndl.Tensor(np.random.RandomState(1).randn(*shape), requires_grad=False)


# As many elements as fusion needs to take the readers of one array into one loop.
SQUARE = (64, SMALL // 64)
G = state(*SQUARE)


def literals(graph: Graph, units: Sequence[Unit]) -> set[int]:
    """The ids of the nodes that fill values which stand as numbers in the code."""
    inside = {id(node) for unit in units for node in unit.nodes}
    return {id(node) for node in graph.nodes if node.op == "fill" and id(node) not in inside}


def check_units(graph: Graph, units: Sequence[Unit]) -> None:
    """Every node is in one unit, and the units are in an order in which they can run."""
    inside = [id(node) for unit in units for node in unit.nodes]
    assert len(inside) == len(set(inside)), "a node is in two units"
    assert {id(node) for node in graph.nodes} == set(inside) | literals(graph, units)
    check_order(units)


def check_order(units: Sequence[Unit]) -> None:
    """Units come after what they need and before what overwrites it."""
    maker, overwriter = {}, {}
    for i, unit in enumerate(units):
        for node in unit.nodes:
            maker.update({id(x.value): i for x in node.outputs})
            overwriter.update({id(x.value.base): i for x in node.outputs if x.value.base})
    for i, unit in enumerate(units):
        for node in unit.nodes:
            own = {id(x.value) for x in node.outputs}
            for value in node.needed():
                assert maker.get(id(value), -1) <= i, "a unit comes too early"
            for view in node.inputs:
                at = overwriter.get(id(view.value), len(units))
                overwrites_it = any(x.value.base is view.value for x in node.outputs)
                assert i < at or overwrites_it or id(view.value) in own, "overwritten before"


@pytest.mark.parametrize(("enabled", "small"), [(True, SMALL), (True, 1), (False, SMALL)])
@given(program=PROGRAMS)
def test_units(enabled, small, program):
    graph = optimize(traced_program(program)[0])
    with patch.object(fusion, "SMALL", small):
        units = fuse(graph, enabled=enabled)
    check_units(graph, units)
    if not enabled:
        assert all(len(unit.nodes) == 1 for unit in units)


def test_a_chain_is_one_unit():
    x = ndl.Tensor(np.random.rand(6, 8), requires_grad=False)

    def f(x):
        y = ndl.tanh(x * 2.0 + 1.0)
        return y / y.sum(1, keepdims=True)

    (unit,) = fuse(optimize(traced(f, x)[0]))
    assert unit.nest is not None
    assert unit.nest.cols == 8


def test_what_follows_a_product_runs_on_its_blocks():
    layer = nn.Linear(16, 32)
    x = ndl.Tensor(np.random.rand(24, 16), requires_grad=False)
    (unit,) = fuse(optimize(traced(lambda x: ndl.relu(layer(x)), x)[0]))
    assert ops_of(Graph(nodes=unit.nodes)) == ["matmul", "add", "relu"]


def test_no_circle_of_units():
    # exp and + fit into one loop, but the product in between needs the whole of exp.
    x = ndl.Tensor(np.random.rand(8, 8), requires_grad=False)

    def f(x):
        y = ndl.exp(x)
        return y + y @ y

    graph = optimize(traced(f, x)[0])
    units = fuse(graph)
    check_units(graph, units)
    assert len(units) == 2


def test_what_reads_an_array_does_not_wait_for_what_overwrites_it():
    # + fits into the loop of exp, but needs what is written after exp has read.
    def f(x):
        y = ndl.cumsum(x, 0)
        read = ndl.exp(y)
        y[1:] = 0.0
        return read + y

    graph, arguments, states = traced(f, state(*SQUARE))
    graph = optimize(graph)
    check_units(graph, fuse(graph))
    assert_same(*both(graph, arguments, states))


def test_a_filled_array_that_no_loop_can_reduce():
    # Reductions over axes that are apart have no loop: their kernel reads the array.
    x = ndl.Tensor(np.random.rand(3), requires_grad=False)
    graph, arguments, states = traced(lambda x: x + init.ones(2, 3, 4).sum((0, 2)), x)
    assert_same(*both(optimize(graph), arguments, states))


# ---- recomputation ---------------------------------------------------------------------------


def stored(
    function: Callable[..., Any], *tensors: ndl.Tensor, units_of: Any = units_of
) -> list[str]:
    """The names of the large values that a function's program keeps in memory, in order; checks
    that the planned units compute what the evaluator does."""
    graph, arguments, states = traced(function, *tensors)
    graph = optimize(graph)
    assert_same(*both(graph, arguments, states))
    units = units_of(graph)
    needed = values_needed_outside(units, graph) - {id(view.value) for view in graph.outputs()}
    nodes = [node for unit in units for node in unit.nodes]
    kept = [n for n in nodes if any(id(v.value) in needed and v.size >= SMALL for v in n.outputs)]
    return ops_of(Graph(nodes=kept))


def gradients_of(layer: Callable[..., Any]) -> Callable[..., Any]:
    """A function of x whose gradients read what `layer` computes of x after a product."""
    width = SQUARE[1]
    first, last = nn.Linear(width, width), nn.Linear(width, width)
    parameters = [*first.parameters(), *last.parameters()]

    def step(x):
        loss = (last(layer(first(x))) ** 2).sum()
        return ndl.grad(loss, parameters)

    return step


@pytest.mark.parametrize("layer", [nn.LayerNorm1d, nn.BatchNorm1d])
def test_a_normalized_value_is_computed_again_for_its_gradient(layer):
    step = gradients_of(layer(SQUARE[1]))
    before, after = stored(step, G, units_of=fuse), stored(step, G)
    assert "sub" in before  # x - mean
    assert "sub" not in after
    assert len(after) < len(before)


def test_what_takes_long_is_not_computed_again():
    step = gradients_of(lambda x: ndl.tanh(ndl.exp(x) * 2.0) + x)
    assert "exp" in stored(step, G)


def test_a_value_is_not_computed_from_more_than_there_is_to_read():
    def f(x):
        total = x + G
        scan = ndl.cumsum(ndl.exp(total), 0)
        return scan * total  # would read x and G in its place

    x = state(*SQUARE)
    assert "add" in stored(f, x)


def test_a_value_is_computed_from_what_its_reader_reads_anyway():
    def f(x):
        total = x + G
        scan = ndl.cumsum(ndl.exp(total), 0)
        return scan * total + scan * x

    assert "add" not in stored(f, state(*SQUARE))


def test_a_value_is_not_computed_from_what_is_overwritten():
    def f(x):
        y = ndl.cumsum(x, 0)
        double = y * 2.0
        scan = ndl.cumsum(ndl.exp(double), 0)
        y[1:] = 0.0
        return scan + double, y

    assert "mul" in stored(f, state(*SQUARE))


def test_a_state_that_is_updated_early_needs_no_copy():
    w = state(*SQUARE)

    def f(g):
        double = w * 2.0
        scan = ndl.cumsum(ndl.exp(double), 0)
        w.data = w - g
        return ndl.cumsum(w, 0) + scan + double

    graph = optimize(traced(f, G)[0])
    assert "mul" in stored(f, G)
    assert not make_plan(graph, units_of(graph)).copies


def test_a_checkpointed_function_gives_no_values_to_its_second_run():
    layer = nn.LayerNorm1d(SQUARE[1])
    step = gradients_of(ndl.checkpoint(lambda x: layer(ndl.tanh(x))))
    graph = optimize(traced(step, G)[0])
    for unit in units_of(graph):
        assert len({node.run for node in unit.nodes}) == 1


# ---- the memory plan ------------------------------------------------------------------------


def run_plan(graph: Graph, units: Sequence[Unit], plan: Plan, arguments: Arrays, states: Arrays):
    """Results and updates of units that run in turn on the planned memory, each on NumPy.

    A loop may walk each row several times. In every walk it reads memory before it stores, and it
    computes again what it had from the walks before, but for what is known of a whole row.
    """
    buffers = {
        "argument": [np.array(x) for x in arguments],
        "state": [np.array(x) for x in states],
        "constant": [x.numpy() for _, x in graph.constants],
        "result": [np.empty(view.shape, view.dtype) for view in graph.results],
        "arena": np.full(plan.arena_bytes, 0xFF, np.uint8),  # NaN, where floats are read
    }
    filled = graph.filled()

    def memory_of(value: Value) -> np.ndarray:
        kind, number = plan.where(value)
        if kind != "arena":
            return buffers[kind][number].reshape(-1)
        return buffers[kind][number : number + value.nbytes].view(value.dtype)

    def compute(node: Node, registers: dict[int, np.ndarray], by_kernel: bool) -> None:
        memory = {}
        for value in node.needed():
            if id(value) in registers:
                memory[id(value)] = registers[id(value)]
            elif id(value) in filled and not by_kernel:
                memory[id(value)] = np.full(value.size, filled[id(value)]).astype(value.dtype)
            else:
                memory[id(value)] = memory_of(value)
        run_node(node, memory)
        registers.update({id(x.value): memory[id(x.value)] for x in node.outputs})

    def store(nodes: Sequence[Node], registers: dict[int, np.ndarray]) -> None:
        for view in (view for node in nodes for view in node.outputs):
            if id(view.value) in plan.place:
                memory_of(view.value)[...] = registers[id(view.value)]

    for unit in units:
        if unit.node is not None:
            registers: dict[int, np.ndarray] = {}
            compute(unit.node, registers, by_kernel=True)
            store([unit.node], registers)
        if unit.nest is None:
            continue
        phase, rows = phases_of(unit.nest), {}
        for walk in sorted(set(phase.values())):
            registers = dict(rows)
            for node, kind in zip(unit.nest.nodes, unit.nest.kinds, strict=True):
                if phase[id(node)] == walk or (phase[id(node)] < walk and kind == FULL):
                    compute(node, registers, by_kernel=False)
                    if kind != FULL:
                        rows[id(node.outputs[0].value)] = registers[id(node.outputs[0].value)]
            store([node for node in unit.nest.nodes if phase[id(node)] == walk], registers)
    for view, kind, number in plan.copies:
        buffers[kind][number].reshape(-1)[...] = memory_of(view.value)
    return buffers["result"], {i: buffers["state"][i] for i in graph.updates}


def both(graph: Graph, arguments: Arrays, states: Arrays) -> tuple[Any, Any]:
    """What the planned units and what the evaluator give."""
    units = units_of(graph)
    check_order(units)
    plan = make_plan(graph, units)
    check_memory(graph, units, plan)
    planned = run_plan(graph, units, plan, arguments, states)
    return planned, evaluate(graph, arguments, states)


def check_memory(graph: Graph, units: Sequence[Unit], plan: Plan) -> None:
    """No two arrays that are needed at the same time overlap, but for what a loop reads last and
    writes over element by element."""
    lives: dict[int, tuple[Value, int, int]] = {}
    inputs = {id(value) for value in graph.sources()}

    def use(value: Value, when: int) -> None:
        root = base_of(value)
        if id(value) in plan.place:
            _, first, _ = lives.get(id(root), (root, -1 if id(root) in inputs else when, when))
            lives[id(root)] = root, first, when

    for when, unit in enumerate(units):
        for node in unit.nodes:
            for view in (*node.inputs, *node.outputs):
                use(view.value, when)
    for view in graph.outputs():
        use(view.value, len(units))
    blocks = sorted(lives.values(), key=lambda life: life[1])
    for i, (new, first, _) in enumerate(blocks):
        start, end = _bytes_of(new, plan)
        if plan.where(new)[0] == "arena":
            assert start % 64 == 0
            assert end <= plan.arena_bytes
        for old, _, last in blocks[:i]:
            start2, end2 = _bytes_of(old, plan)
            shared = plan.where(old)[0] == plan.where(new)[0] and start < end2 and start2 < end
            if shared and last >= first:
                assert last == first, "an array is overwritten while it is needed"
                assert start == start2
                assert _overwritten_where_it_is_read(units[first], old, new)


def _bytes_of(value: Value, plan: Plan) -> tuple[int, int]:
    """From where to where a value is; of what is no part of the arena, in numbers of buffers."""
    kind, number = plan.where(value)
    return number, number + (max(value.nbytes, 1) if kind == "arena" else 1)


def _overwritten_where_it_is_read(unit: Unit, old: Value, new: Value) -> bool:
    """Whether a loop writes each element of `new` at the point where it reads that of `old`."""
    nest = unit.nest
    if nest is None or nest.produced.get(id(new)) != FULL:
        return False
    kernel = () if unit.node is None else unit.node.inputs
    if any(x.value is old for x in kernel):
        return False
    for node in nest.nodes:
        for x in node.inputs:
            if x.value is old:
                # A walk over all of a view without gaps goes through memory in order; an element-
                # wise node walks in the order of its result's.
                out = x if node.op == "reduce" else node.outputs[0]
                steps = [
                    [s for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
                    for view in (x, out)
                ]
                if not x.covers or x.offset or min(steps[0], default=0) < 0 or steps[0] != steps[1]:
                    return False
    return True


@pytest.mark.parametrize("small", [SMALL, 1])
@given(program=PROGRAMS)
def test_planned_memory_holds_the_same_numbers(small, program):
    graph, arguments, states = traced_program(program)
    with patch.object(fusion, "SMALL", small):
        assert_same(*both(optimize(graph), arguments, states))


@given(program=PROGRAMS)
def test_an_order_with_a_lower_peak_gives_the_same_numbers(program):
    graph, arguments, states = traced_program(program)
    graph = optimize(graph)
    units = units_of(graph)
    plan = make_plan(graph, units)
    with patch.multiple(order, LARGE=0, WORTH=0.0):
        lower, planned = order.with_lower_peak(graph, units, plan)
    assert planned.arena_bytes <= plan.arena_bytes
    check_memory(graph, lower, planned)
    actual = run_plan(graph, lower, planned, arguments, states)
    assert_same(actual, evaluate(graph, arguments, states))


def test_a_large_weight_gradient_waits_until_activations_are_gone():
    layers = [layer for _ in range(12) for layer in (nn.Linear(32, 32), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(32, 256))
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def step(x, y):
        loss = ndl.cross_entropy(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = ndl.Tensor(np.random.rand(32, 32), requires_grad=False), ndl.Tensor(np.arange(32))
    graph = optimize(traced(step, x, y)[0])
    units = units_of(graph)
    with patch.object(order, "LARGE", 0):
        lower, plan = order.with_lower_peak(graph, units, make_plan(graph, units))
    assert plan.arena_bytes < 0.9 * make_plan(graph, units).arena_bytes
    assert not plan.copies
    check_memory(graph, lower, plan)


def mlp_step(depth: int = 6) -> tuple[Graph, list[Unit], Plan]:
    """A training step of a deep residual network."""
    model = models.MLPResNet(32, 32, num_blocks=depth)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)

    def step(x, y):
        loss = nn.SoftmaxLoss()(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = ndl.Tensor(np.random.rand(128, 32)), ndl.Tensor(np.arange(128) % 10)
    step(x, y)  # the momentum is there from the first step on
    graph = optimize(traced(step, x, y)[0])
    units = units_of(graph)
    return graph, units, make_plan(graph, units)


def test_the_arena_of_a_deep_network_is_used_again_and_again():
    graph, units, plan = mlp_step()
    check_memory(graph, units, plan)
    assert plan.arena_bytes < 0.7 * sum(block.nbytes for block in plan.blocks)


def test_a_training_step_updates_its_states_in_place():
    graph, _, plan = mlp_step()
    in_place = [i for i, view in graph.updates.items() if plan.where(view.value) == ("state", i)]
    # All parameters and momenta; BatchNorm's statistics are read where they are replaced, too.
    assert in_place == list(graph.updates)
    assert not plan.copies


def place_of_update(function: Callable[..., Any], *tensors: ndl.Tensor) -> str:
    """Where the first update is computed, after checking that all is computed right."""
    graph, arguments, states = traced(function, *tensors)
    graph = optimize(graph)
    assert_same(*both(graph, arguments, states))
    plan = make_plan(graph, units_of(graph))
    return plan.where(next(iter(graph.updates.values())).value)[0]


def test_an_update_that_reads_each_element_first_is_in_place():
    w = state(*SQUARE)

    def f(g):
        loss = (w * g).sum()
        w.data = w * 0.9 - g * 0.1
        return loss

    assert place_of_update(f, G) == "state"


def read_later_in_the_same_loop(w, g):
    old = w.detach()
    w.data = w - g
    return old * 3.0


def read_later_by_another_unit(w, g):
    old = w.detach()
    w.data = w - g
    return old @ old.transpose()


def read_in_a_second_walk_over_the_row(w, g):
    old = w.detach()
    total = (old * old).sum(1, keepdims=True)
    w.data = w - g
    return old / total


def read_in_another_order(w, g):
    w.data = w[::-1] * 0.5 + g
    return w


def read_by_a_product(w, g):
    w.data = w @ g
    return w


def read_for_a_row(w, g):
    w.data = w[:, :1] * g
    return w


OLD_CONTENTS = [
    read_later_in_the_same_loop, read_later_by_another_unit, read_in_a_second_walk_over_the_row,
    read_in_another_order, read_by_a_product, read_for_a_row,
]  # fmt: skip


@pytest.mark.parametrize("function", OLD_CONTENTS, ids=lambda f: f.__name__)
def test_old_contents_are_not_overwritten_while_they_are_read(function):
    w = state(*SQUARE)
    place = place_of_update(lambda g: function(w, g), G)
    if function in OLD_CONTENTS[3:]:  # one unit both reads and writes
        assert place != "state"


def test_states_that_exchange_their_contents():
    a, b = state(*SQUARE), state(*SQUARE)

    def f(g):
        a.data, b.data = b + g, a - g

    graph, arguments, states = traced(f, G)
    assert_same(*both(optimize(graph), arguments, [states[0], states[1] * 2]))


def test_a_product_keeps_its_numbers_while_they_are_read():
    # y may take the memory of x @ x only where no later node of the loop reads the product.
    x = state(16, 16)

    def f(x):
        y = x @ x
        return y * 2.0, y + 3.0

    graph, arguments, states = traced(f, x)
    assert_same(*both(optimize(graph), arguments, states))


def test_a_value_overwritten_in_part_stays_where_it_is():
    first, second = Value(4, FLOAT32), Value(4, FLOAT32)
    second.base = first
    result = whole(Value(4, FLOAT32))
    graph = Graph(
        nodes=[
            Node("fill", (whole(first), 1.0)),
            Node("fill", (View(second, (2,), (1,), 2), 5.0)),
            Node("unary", ("neg", whole(second), result)),
        ],
        results=[result],
    )
    plan = make_plan(graph, units_of(graph))
    assert plan.where(first) == plan.where(second)
    assert_same(*both(graph, [], []))


# ---- zeros have a sign ------------------------------------------------------------------------

# What is x for some numbers alone, and what is x for all of them.
NEARLY_NEUTRAL: dict[str, Callable[[ndl.Tensor], ndl.Tensor]] = {
    "x + 0": lambda x: x + 0,
    "0 + x": lambda x: 0.0 + x,
    "x + -0": lambda x: x + -0.0,
    "x - 0": lambda x: x - 0,
    "x - -0": lambda x: x - -0.0,
    "0 - x": lambda x: 0 - x,
    "x + zeros": lambda x: x + ndl.zeros_like(x),
    "x - zeros": lambda x: x - ndl.zeros_like(x),
    "x - -zeros": lambda x: x - -ndl.zeros_like(x),
    "x + 0 * ones": lambda x: x + 0 * ndl.ones_like(x),
    "x * 1": lambda x: x * 1,
    "x * ones": lambda x: x * ndl.ones_like(x),
    "x * 0": lambda x: x * 0,
    "x / 1": lambda x: x / 1,
    "x ** 1": lambda x: x**1,
    "max(x, -inf)": lambda x: ndl.maximum(x, -np.inf),
    "min(x, inf)": lambda x: ndl.minimum(x, np.inf),
    "max(x, 0)": lambda x: ndl.maximum(x, 0),
    "where": lambda x: ndl.where(x == x, x, 0 * x),
    "sum of one": lambda x: x.reshape((-1, 1)).sum(1),
    "mean of one": lambda x: x.reshape((1, -1)).mean(0),
    "product of one": lambda x: x.reshape((-1, 1)).prod(1),
    "maximum of one": lambda x: x.reshape((-1, 1)).amax(1),
}


@pytest.mark.parametrize("mode", ["on", "evaluate"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32"])
def test_what_is_neutral_is_so_for_every_number(dtype: str, mode: str, monkeypatch):
    floats = dtype != "int32"
    numbers = [-0.0, 0.0, np.nan, np.inf, -np.inf, 1.5, -3.0] if floats else [0, 1, -3, 2**31 - 1]
    x = ndl.Tensor(np.array(numbers), dtype=dtype, requires_grad=False)
    names = [n for n in NEARLY_NEUTRAL if floats or "inf" not in n]

    def run(x: ndl.Tensor) -> list[ndl.Tensor]:
        return [NEARLY_NEUTRAL[name](x) for name in names]

    monkeypatch.setenv("NEEDLE_JIT", mode)
    for name, ours, theirs in zip(names, ndl.jit(run)(x), run(x), strict=True):
        assert ours.dtype == theirs.dtype, name
        actual, expected = (np.array(y.numpy(), "float64") for y in (ours, theirs))
        np.testing.assert_array_equal(actual, expected, name)
        signs = (np.signbit(y[~np.isnan(y)]) for y in (actual, expected))
        np.testing.assert_array_equal(*signs, name)
