"""Loops over time: eagerly a Python loop, compiled one traced body; the same numbers."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import check_gradients

import needle as ndl
from needle import nn, optim
from needle.jit.frontend.trace import TraceError, Tracing
from needle.jit.ir.graph import Graph
from needle.jit.passes import optimize

STEPS, BATCH, INPUTS, HIDDEN = 6, 3, 4, 5


def tensor(*shape: int, seed: int = 0, dtype: str = "float64") -> ndl.Tensor:
    return ndl.Tensor(0.7 * np.random.RandomState(seed).randn(*shape), dtype=dtype)


def cell_inputs() -> list[ndl.Tensor]:
    shapes = (STEPS, BATCH, INPUTS), (BATCH, HIDDEN), (INPUTS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,)
    return [tensor(*shape, seed=i) for i, shape in enumerate(shapes)]


# Functions of Tensors, each with the same written as a Python loop.


def elman(x, h, w, u, b, reverse=False):
    scaled = 2 * u  # made outside of the loop, read inside

    def step(h, x):
        h = ndl.tanh(x @ w + h @ scaled + b)
        return h, (h, h * h)

    return ndl.scan(step, h, x, reverse)


def elman_loop(x, h, w, u, b, reverse=False):
    states = []
    for t in reversed(range(STEPS)) if reverse else range(STEPS):
        h = ndl.tanh(x[t] @ w + h @ (2 * u) + b)
        states.append(h)
    stacked = ndl.stack(states[::-1] if reverse else states, 0)
    return h, (stacked, stacked * stacked)


def nested(x, h, w, u, b):
    """A scan over the rows of a batch inside of a scan over time."""

    def step(state, x):
        def row(total, pair):
            h, x = pair
            new = ndl.tanh(x @ w + h @ u + total)
            return total + 0.1 * new, new

        total, new = ndl.scan(row, b, (state["h"], x))
        return {"h": new, "count": state["count"] + 1}, total

    last, totals = ndl.scan(step, {"h": h, "count": ndl.Tensor(np.zeros((), "int64"))}, x)
    return last["h"], totals


def nested_loop(x, h, w, u, b):
    totals = []
    for t in range(STEPS):
        total, rows = b, []
        for i in range(BATCH):
            rows.append(ndl.tanh(x[t][i] @ w + h[i] @ u + total))
            total = total + 0.1 * rows[-1]
        h = ndl.stack(rows, 0)
        totals.append(total)
    return h, ndl.stack(totals, 0)


def two_carries(x, h, w, u, b):
    """A part of a carry is overwritten, one carry is put out, another only added to."""

    def step(carry, x):
        h, sums = carry
        gates = x @ w + h @ u
        left, right = ndl.chunk(gates, 5, 1)[0], gates[:, 1:]
        new = ndl.cat([ndl.sigmoid(left) * right[:, :1], ndl.tanh(right)], 1) + b
        return (new, sums + (new * new).sum(0)), h

    (h, sums), before = ndl.scan(step, (h, 0 * b), x)
    return h, sums, before


def two_carries_loop(x, h, w, u, b):
    sums, before = 0 * b, []
    for t in range(STEPS):
        before.append(h)
        gates = x[t] @ w + h @ u
        left, right = ndl.chunk(gates, 5, 1)[0], gates[:, 1:]
        h = ndl.cat([ndl.sigmoid(left) * right[:, :1], ndl.tanh(right)], 1) + b
        sums = sums + (h * h).sum(0)
    return h, sums, ndl.stack(before, 0)


def no_carry(x, h, w, u, b):
    """A map over time: nothing is carried."""
    return ndl.scan(lambda _, x: (None, ndl.relu(x @ w) @ u + b), None, x)[1], h


def no_carry_loop(x, h, w, u, b):
    return ndl.stack([ndl.relu(x[t] @ w) @ u + b for t in range(STEPS)], 0), h


PROGRAMS = {
    "elman": (elman, elman_loop),
    "reverse": (lambda *a: elman(*a, True), lambda *a: elman_loop(*a, True)),
    "nested": (nested, nested_loop),
    "two carries": (two_carries, two_carries_loop),
    "no carry": (no_carry, no_carry_loop),
}


def leaves(result: Any) -> list[ndl.Tensor]:
    if isinstance(result, ndl.Tensor):
        return [result]
    return [leaf for item in result for leaf in leaves(item)]


def with_gradients(function):
    """`function`, its gradients, and the gradients of the sum of their squares."""

    def run(*inputs):
        outputs = leaves(function(*inputs))
        loss = sum(((i + 1) * y * y).sum() for i, y in enumerate(outputs))
        first = ndl.grad(loss, list(inputs))
        second = ndl.grad(sum((g * g).sum() for g in first), list(inputs))
        return [*outputs, *first, *second]

    return run


def assert_close(actual, expected, tolerance=1e-9):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("way", ["eager", "evaluate", "jit"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_and_first_and_second_gradients(name, way, monkeypatch):
    scanned, loop = map(with_gradients, PROGRAMS[name])
    inputs = cell_inputs()
    expected = loop(*inputs)
    if way == "evaluate":
        monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    actual = (scanned if way == "eager" else ndl.jit(scanned))(*inputs)
    assert_close(actual, expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_by_finite_differences(name):
    def summed(*inputs):
        return sum((y * y).sum() for y in leaves(PROGRAMS[name][0](*inputs)))

    check_gradients(summed, [x.numpy() for x in cell_inputs()], ndl.cpu_numpy())


@settings(deadline=None, max_examples=15)
@given(
    steps=st.integers(1, 5), batch=st.integers(1, 3), width=st.integers(1, 4),
    reverse=st.booleans(), kind=st.sampled_from(["lstm", "gru", "rnn"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_recurrent_layers_compiled_by_their_definition(steps, batch, width, reverse, kind, seed):
    """The layers' gradients of gradients are scans: they agree with eager ones at every size."""
    gates, states = {"lstm": (4, 2), "gru": (3, 1), "rnn": (1, 1)}[kind]
    x = tensor(steps, batch, 2, seed=seed)
    first = [tensor(batch, width, seed=seed + i) for i in range(states)]
    w, u = tensor(2, gates * width, seed=seed), tensor(width, gates * width, seed=seed + 1)

    def run(x, w, u, *first):
        x = ndl.flip(x, (0,)) if reverse else x
        out = getattr(ndl, kind)(x, *first, w, u)[0]
        gradients = ndl.grad((out * out).sum(), [x, w, u, *first])
        return [out, *gradients]

    assert_close(ndl.jit(run)(x, w, u, *first), run(x, w, u, *first))


# ---- the loop stays a loop ------------------------------------------------------------------


def graph_of(function, *inputs: ndl.Tensor) -> Graph:
    return optimize(Tracing().run(function, inputs, {}, list(inputs)).graph)


def loops(graph: Graph) -> list[Any]:
    return [node.operands[0] for node in graph.nodes if node.op == "scan"]


def gru_loss(steps: int):
    layer = nn.GRU(INPUTS, HIDDEN)

    def run(x):
        loss = (layer(x)[0] ** 2).sum()
        loss.backward()
        return [loss, *(p.grad for p in layer.parameters())]

    return run, tensor(steps, BATCH, INPUTS, dtype="float32")


def test_the_graph_does_not_grow_with_the_steps():
    sizes = []
    for steps in (3, 30):
        run, x = gru_loss(steps)
        graph = graph_of(run, x)
        assert [loop.length for loop in loops(graph)] == [steps, steps]
        sizes.append(len(graph.nodes) + sum(len(loop.body.nodes) for loop in loops(graph)))
    assert sizes[0] == sizes[1]


def test_products_that_need_no_step_leave_the_loop():
    """Of a GRU's products only that with the state stays, once in each direction."""
    graph = graph_of(*gru_loss(7))
    assert [sum(n.op == "matmul" for n in loop.body.nodes) for loop in loops(graph)] == [1, 1]
    forward, backward = (loop.body for loop in loops(graph))
    assert any(n.op == "unary" for n in forward.nodes)
    assert not any(n.op == "unary" and n.attributes[0] == "tanh" for n in backward.nodes), (
        "the backward loop reads what the forward loop has computed"
    )


def test_what_is_the_same_in_all_steps_is_computed_once():
    w = tensor(HIDDEN, HIDDEN)

    def run(x):
        return ndl.scan(lambda h, x: (ndl.tanh(h @ ndl.exp(w) + x), None), x[0], x)[0]

    graph = graph_of(run, tensor(STEPS, BATCH, HIDDEN))
    (loop,) = loops(graph)
    assert not any(n.op == "unary" and n.attributes[0] == "exp" for n in loop.body.nodes)
    assert any(n.op == "unary" and n.attributes[0] == "exp" for n in graph.nodes)


def test_explain_shows_the_loop():
    run, x = gru_loss(9)
    compiled = ndl.jit(run)
    compiled(x)
    assert "9 x (matmul" in compiled.explain()


# ---- through what gradients flow ------------------------------------------------------------


class Tangle:
    """A scan whose new carries and ys each depend on some of the carries, slices and others."""

    def __init__(self, random: Random) -> None:
        self.n, self.reverse = random.randint(0, 3), random.random() < 0.5
        shapes = [*[(2,)] * self.n, *[(random.randint(1, 4), 2)] * 2, (2,), (2,)]
        self.leaves = [tensor(*shape, seed=i) for i, shape in enumerate(shapes)]
        for leaf in self.leaves:
            leaf.requires_grad = random.random() < 0.6
        self.needs = [
            [i for i in range(len(shapes)) if random.random() < 0.3] for _ in range(self.n + 2)
        ]
        self.used = [i for i in range(self.n + 2) if random.random() < 0.6]

    def run(self) -> tuple[list[bool], list[ndl.Tensor], list[ndl.Tensor | None]]:
        """What of the result requires a gradient, the result, the gradients of all leaves."""
        n, zero = self.n, ndl.Tensor(np.zeros(2), dtype="float64", requires_grad=False)

        def step(carries, slices):
            known = [*carries, *slices, *self.leaves[n + 2 :]]
            new = [sum((ndl.sin(known[i]) for i in need), zero) for need in self.needs]
            return new[:n], new[n:]

        last, ys = ndl.scan(step, self.leaves[:n], self.leaves[n : n + 2], self.reverse)
        results = [*last, *ys]
        flags = [x.requires_grad for x in results]
        used = [results[i] for i in self.used if flags[i]]
        loss = sum((x * x).sum() for x in used)
        return flags, results, ndl.grad(loss, self.leaves) if used else []


@given(seed=st.integers(0, 2**32 - 1))
def test_gradients_that_eager_code_does_not_have_are_none(seed):
    tangle = Tangle(Random(seed))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NEEDLE_JIT", "evaluate")
        flags, results, gradients = ndl.jit(tangle.run)()
    expected_flags, expected, expected_gradients = tangle.run()
    assert flags == expected_flags
    assert [g is None for g in gradients] == [g is None for g in expected_gradients]
    assert_close(
        [*results, *(g for g in gradients if g is not None)],
        [*expected, *(g for g in expected_gradients if g is not None)],
    )


def test_a_parameter_that_only_an_unused_output_depends_on_is_not_moved():
    results = []
    for wrap in (lambda f: f, ndl.jit):
        w, v = nn.Parameter(tensor(INPUTS)), nn.Parameter(tensor(INPUTS, seed=1))
        optimizer = optim.Adam([w, v], lr=0.1, weight_decay=0.1)

        @wrap
        def train(x, w=w, v=v, optimizer=optimizer):
            h, _ = ndl.scan(lambda h, x: (ndl.tanh(h * w + x), h * v), x[0], x)
            h.sum().backward()
            optimizer.step()

        train(tensor(STEPS, INPUTS))
        results.append([w, v])
    assert_close(results[1], results[0])
    np.testing.assert_array_equal(results[1][1].numpy(), tensor(INPUTS, seed=1).numpy())


def test_a_tuple_from_outside():
    def run(x, w):
        parts = ndl.split(w, 0)

        def step(h, x):
            h = ndl.tanh(h * parts[0] + x)
            return h, h * parts[2]

        h, y = ndl.scan(step, x[0], x)
        gradients = ndl.grad((h * h).sum() + (y * y).sum(), [x, w])
        return [h, y, *gradients, *ndl.grad(sum((g * g).sum() for g in gradients), [x, w])]

    x, w = tensor(STEPS, INPUTS), tensor(3, INPUTS, seed=1)
    assert_close(ndl.jit(run)(x, w), run(x, w))
    assert len(loops(graph_of(run, x, w))) == 4


# ---- what cannot stay a loop ----------------------------------------------------------------


def test_random_numbers_are_drawn_at_every_step():
    dropout = nn.Dropout(0.5)

    def run(x):
        return ndl.scan(lambda h, x: (dropout(h + x), h), x[0], x)

    x = tensor(STEPS, BATCH, INPUTS)
    np.random.seed(0)
    expected = leaves(run(x))
    np.random.seed(0)
    assert_close(leaves(ndl.jit(run)(x)), expected)
    assert not loops(graph_of(run, x))


def test_tensors_from_outside_are_changed_at_every_step():
    results = []
    for compiled in (False, True):
        np.random.seed(0)
        norm = nn.BatchNorm1d(INPUTS)

        def run(x, norm=norm):
            return ndl.scan(lambda h, x: (norm(h + x), h), x[0], x)

        x = tensor(STEPS, BATCH, INPUTS, dtype="float32")
        outputs = leaves((ndl.jit(run) if compiled else run)(x))
        results.append([*outputs, norm.running_mean, norm.running_var])
    assert_close(results[1], results[0], 1e-5)


def test_a_backward_pass_inside_of_a_step():
    """Each step of the loop is a step of gradient descent on what is carried."""

    def run(w, x):
        def step(w, x):
            w = w.detach()
            w.requires_grad = True
            ((x @ w) ** 2).sum().backward()
            return (w - 0.1 * w.grad).detach(), None

        return ndl.scan(step, w, x)[0]

    w, x = tensor(INPUTS, 2), tensor(STEPS, BATCH, INPUTS)
    assert_close([ndl.jit(run)(w, x)], [run(w, x)])


def test_the_gradient_computes_again_what_costs_little():
    def run(x, w):
        def step(h, x):
            n = ndl.tanh(h @ w + x)
            h = n * (h - n)
            return h, h

        return ndl.grad((ndl.scan(step, x[0], x)[1] ** 2).sum(), [w])

    x, w = tensor(4, 2, 3), tensor(3, 3, seed=1)
    forward, _ = loops(graph_of(run, x, w))
    made = {id(v.value): node for node in forward.body.nodes for v in node.outputs}
    stored = [made[id(view.value)].attributes[:1] for view in forward.body.results]
    assert ("tanh",) in stored
    assert ("sub",) not in stored
    assert_close(ndl.jit(run)(x, w), run(x, w))


def test_a_backward_pass_that_reaches_a_tensor_from_before_the_loop():
    """Its gradient after the loop is that of the last step, and the steps see each other's."""

    def run(x, w):
        leaf = ndl.Tensor(w * 1, requires_grad=True)
        product = leaf * 2

        def step(h, x):
            h = h + (0 if leaf.grad is None else leaf.grad)
            ((x @ product) ** 2).sum().backward()
            return h.detach(), None

        h, _ = ndl.scan(step, w * 0, x)
        return h, leaf.grad, product.grad

    w, x = tensor(INPUTS, 2), tensor(STEPS, BATCH, INPUTS)
    assert_close(ndl.jit(run)(x, w), run(x, w))


def test_a_step_that_is_no_loop_leaves_no_gradient():
    p, dropout = tensor(INPUTS), nn.Dropout(0.0)

    def run(x):
        def step(h, x):
            if p.grad is not None:
                h = h + 100
            p.grad = x.detach()
            return dropout(h + x), None

        return ndl.scan(step, x[0] + p, x)[0], p.grad

    x = tensor(STEPS, INPUTS)
    np.random.seed(0)
    expected, p.grad = run(x), None
    np.random.seed(0)
    assert_close(ndl.jit(run)(x), expected)


# ---- found in use ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("layer", [ndl.rnn, ndl.lstm])
def test_a_kernel_that_overwrites_a_product_inside_of_a_step(layer, steps):
    gates = 4 if layer is ndl.lstm else 1
    w, u, x = tensor(4, 4 * gates, seed=1), tensor(4, 4 * gates, seed=2), tensor(steps, 2, 3, 4)

    def run(x):
        def step(h, x):
            states = (h, h) if layer is ndl.lstm else (h,)
            return layer(x, *states, w, u)[0][-1], None

        return ndl.scan(step, x[0, 0], x)[0]

    with ndl.no_grad():
        assert_close([ndl.jit(run)(x)], [run(x)])
    graph = graph_of(run, x)
    for loop in loops(graph):
        loop.body.check()


def test_variables_that_are_rebound_before_the_gradient():
    def run(x, w, u):
        y, scale = x, 3.0
        for m in (w, u):
            _, y = ndl.scan(lambda h, x: (ndl.tanh(h @ m + x * scale),) * 2, y[0], y)  # noqa: B023
        scale = 5.0
        return [y, *ndl.grad((y * y).sum(), [x, w, u])]

    def layers(x, w, u):  # each with variables of its own
        y = x
        for m in (w, u):
            _, y = ndl.scan(lambda h, x, m=m: (ndl.tanh(h @ m + x * 3.0),) * 2, y[0], y)
        return [y, *ndl.grad((y * y).sum(), [x, w, u])]

    inputs = tensor(4, 2, 3), tensor(3, 3, seed=1), tensor(3, 3, seed=2)
    assert_close(ndl.jit(run)(*inputs), layers(*inputs))


class Box:
    """What a step reads without a gradient."""

    def __init__(self) -> None:
        self.scale = ndl.Tensor([2.0], dtype="float64", requires_grad=False)
        self.other = ndl.Tensor([3.0], dtype="float64", requires_grad=False)


def write_into(box: Box) -> None:
    box.scale[0] = 5.0


def replace_data(box: Box) -> None:
    box.scale.data = box.scale + 1


def exchange_tensors(box: Box) -> None:
    box.scale = box.other


def make_another(box: Box) -> None:
    box.scale = ndl.Tensor([7.0], dtype="float64", requires_grad=False)


CHANGES = [write_into, replace_data, exchange_tensors, make_another]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("inside", [False, True], ids=["from outside", "made inside"])
def test_what_a_step_reads_is_changed_before_the_gradient(change, inside):
    box = Box()

    def run(x, early):
        if inside:
            make_another(box)
        if early:
            change(box)
        h, _ = ndl.scan(lambda h, x: (ndl.tanh(h * box.scale + x), None), x[0], x)  # here
        if not early:
            change(box)
        return [h, *ndl.grad((h * h).sum(), [x])]

    x = tensor(STEPS, INPUTS)
    with pytest.raises(TraceError, match=r"other data than in the forward pass.*\n.*# here"):
        ndl.jit(run)(x, False)
    box = Box()
    actual = ndl.jit(run)(x, True)
    box = Box()
    assert_close(actual, run(x, True))


def test_a_gradient_of_a_gradient_reads_what_the_gradient_has_read():
    box = Box()

    def run(x):
        h, _ = ndl.scan(lambda h, x: (ndl.tanh(h * box.scale + x), None), x[0], x)  # here
        (g,) = ndl.grad((h * h).sum(), [x])
        replace_data(box)
        return ndl.grad((g * g).sum(), [x])

    with pytest.raises(TraceError, match=r"# here"):
        ndl.jit(run)(tensor(STEPS, INPUTS))


def test_the_mode_of_a_module_is_changed_before_the_gradient():
    norm = nn.BatchNorm1d(INPUTS)

    def run(x, early):
        norm.eval()
        h, _ = ndl.scan(lambda h, x: (norm(h + x), None), x[0], x)  # here
        norm.train(not early)
        return [h, *ndl.grad((h * h).sum(), [x])]

    x = tensor(STEPS, BATCH, INPUTS, dtype="float32")
    with pytest.raises(TraceError, match=r"BatchNorm1d is in training mode when .*\n.*# here"):
        ndl.jit(run)(x, False)
    assert_close(ndl.jit(run)(x, True), run(x, True), 1e-5)


def test_what_the_first_run_makes_is_there_in_the_second():
    """A step may keep a constant that it has made."""
    kept = {}

    def run(x):
        def step(h, x):
            if "mask" not in kept:
                kept["mask"] = ndl.Tensor(np.arange(INPUTS) % 2, dtype="float64")
            return ndl.tanh(h * kept["mask"] + x * ndl.Tensor([2.0], dtype="float64")), None

        h, _ = ndl.scan(step, x[0], x)
        return [h, *ndl.grad((h * h).sum(), [x])]

    x = tensor(STEPS, INPUTS)
    expected = run(x)
    kept.clear()
    assert_close(ndl.jit(run)(x), expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_dicts_in_another_order_are_named(compiled):
    def run(x):
        init = {"a": x[0] * 0, "b": x[0] * 0 + 7}
        return ndl.scan(lambda c, x: ({"b": c["b"], "a": c["a"] + x}, None), init, x)[0]

    with pytest.raises(ValueError, match="like the old one"):
        (ndl.jit(run) if compiled else run)(tensor(3, 1))


def test_a_bad_index_is_found_before_anything_is_updated():
    table, count = tensor(6, 4), tensor(3, 4) * 0

    @ndl.jit
    def run(i, x):
        h, _ = ndl.scan(lambda h, i: (ndl.tanh(h + ndl.take(table, i, 0)), None), x[0], i)
        count.data = count + x[0] * 0 + 1
        return h

    x, good, bad = tensor(2, 3, 4), [[0, 1, 2], [3, 4, 5]], [[0, 1, 2], [3, 4, 9]]
    run(ndl.Tensor(np.array(good)), x)
    with pytest.raises(IndexError):
        run(ndl.Tensor(np.array(bad)), x)
    np.testing.assert_array_equal(count.numpy(), np.ones((3, 4)))


# ---- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda h, x: h, 0, 1), TypeError, "init must consist of Tensors .* got a int"),
        ((lambda h, x: (h, x), None, None), TypeError, "xs must have at least one Tensor"),
        ((lambda h, x: (h, x), None, (3, 4)), ValueError, r"length at least 1, got \[\(3,\), \(4,"),
        ((lambda h, x: (h, x), None, (0,)), ValueError, "length at least 1"),
        ((lambda h, x: x, None, (3,)), TypeError, r"must return \(carry, y\), got a Tensor"),
        ((lambda h, x: (h, 1), None, (3,)), TypeError, "y must consist of Tensors"),
        ((lambda h, x: (x, x), (2,), (3, 4)), ValueError, "like the old one: expected .*2,.* got"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_mistakes_are_named(arguments, error, message, compiled):
    function, init, xs = arguments
    if error is ValueError and xs == (3, 4) and init is None:
        xs = (tensor(3), tensor(4))
    elif isinstance(xs, tuple):
        xs = tensor(*xs)
    init = tensor(*init) if isinstance(init, tuple) else init

    def run():
        return ndl.scan(function, init, xs)

    with pytest.raises(error, match=message):
        (ndl.jit(run) if compiled else run)()


def test_a_value_of_a_step_used_after_the_loop():
    kept = []

    def run(x):
        def step(h, x):
            kept.append(h + x)
            return h, None

        ndl.scan(step, x[0], x)
        return kept[-1] + 1

    with pytest.raises(TraceError, match=r"inside the function of ndl\.scan is used after it"):
        ndl.jit(run)(tensor(STEPS, BATCH))
