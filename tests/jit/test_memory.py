"""The memory of compiled steps: what is never stored, and what is updated in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import models, nn, optim
from needle.jit.frontend.options import bytes_of
from needle.jit.frontend.trace import Tracing
from needle.jit.ir.evaluate import evaluate
from needle.jit.passes import optimize
from needle.jit.schedule.budget import outside_bytes, plan_within
from needle.jit.schedule.planned import Planned, plan_graph
from needle.jit.schedule.target import CPU

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")

ROWS, WIDTH = 64, 8
LABELS = np.array([3, 5, 3, 3, 63, 0])  # a row that occurs three times


def planned(step: Callable[..., Any], *arguments: ndl.Tensor) -> Planned:
    """The schedule of a step on a CPU, without compiling it."""
    graph = Tracing().run(step, arguments, {}, list(arguments)).graph
    return plan_graph(optimize(graph), CPU)


# ---- rows of tables ---------------------------------------------------------------------------


class Lookup:
    """An embedding, trained; `step` compiled or not."""

    def __init__(self, jit: bool, body: Callable[[Lookup, ndl.Tensor], Any], **options: Any):
        self.table = nn.Parameter(np.random.default_rng(0).normal(size=(ROWS, WIDTH)))
        self.optimizer = optim.SGD([self.table], **{"lr": 0.1, **options})
        self.body = body
        self.step = ndl.jit(self.train) if jit else self.train

    def train(self, index: ndl.Tensor) -> Any:
        return self.body(self, index)

    def rows(self, index: ndl.Tensor) -> ndl.Tensor:
        return nn.functional.embedding(index, self.table)

    def descend(self, loss: ndl.Tensor) -> ndl.Tensor:
        self.optimizer.reset_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def plain(it: Lookup, index: ndl.Tensor) -> Any:
    return it.descend((it.rows(index) ** 2).sum())


def seen(it: Lookup, index: ndl.Tensor) -> Any:
    loss = (it.rows(index) ** 2).sum()
    it.optimizer.reset_grad()
    loss.backward()
    gradient = it.table.grad * 1.0
    it.optimizer.step()
    return loss, gradient


def tied(it: Lookup, index: ndl.Tensor) -> Any:
    return it.descend(((it.rows(index) @ it.table.transpose()) ** 2).sum())


def read_afterwards(it: Lookup, index: ndl.Tensor) -> Any:
    before = it.table.detach()
    loss = it.descend((it.rows(index) ** 2).sum())
    return loss, before * 2.0


def sums_rows(it: Lookup, index: ndl.Tensor) -> bool:
    """Whether the step adds rows to the table itself and has no loop over all of it."""
    plan = planned(it.train, index)
    nodes = [node for unit in plan.units for node in unit.nodes]
    (scatter,) = (node for node in nodes if node.op == "scatter_add_rows")
    whole = [node for node in nodes if any(v.size == ROWS * WIDTH for v in node.outputs)]
    place = plan.plan.where(scatter.outputs[0].value)[0]
    return place == "state" and whole == [scatter]


CASES = [
    (plain, {}, True),
    (plain, {"momentum": 0.9}, False),
    (plain, {"weight_decay": 0.01}, False),
    (seen, {}, False),
    (tied, {}, False),
    (read_afterwards, {}, False),
]


@pytest.mark.parametrize(("body", "options", "rows"), CASES)
def test_a_gradient_step_changes_the_rows_that_were_looked_up(body, options, rows):
    index = ndl.Tensor(LABELS)
    compiled, eager = Lookup(True, body, **options), Lookup(False, body, **options)
    for _ in range(2):  # momentum is there from the second call on
        for ours, theirs in zip(*(_numbers(x.step(index)) for x in (compiled, eager)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            compiled.table.numpy(), eager.table.numpy(), rtol=1e-5, atol=1e-6
        )
    assert sums_rows(eager, index) == rows


def _numbers(result: Any) -> list[np.ndarray]:
    return [x.numpy() for x in (result if isinstance(result, tuple) else (result,))]


def test_many_rows_are_summed_before_the_table_is_updated():
    index = ndl.Tensor(np.arange(ROWS))
    assert not sums_rows(Lookup(False, plain), index)


def test_a_snapshot_of_a_table_keeps_its_numbers():
    it, index = Lookup(True, plain), ndl.Tensor(LABELS)
    it.step(index)
    snapshot = it.table.detach()
    before = snapshot.numpy().copy()
    it.step(index)
    np.testing.assert_array_equal(snapshot.numpy(), before)
    assert (it.table.numpy() != before).any(1).sum() == len(set(LABELS))


def test_a_row_out_of_range_leaves_the_table_as_it_was():
    it, index = Lookup(True, plain), ndl.Tensor(LABELS)
    it.step(index)
    before = it.table.numpy().copy()
    with pytest.raises(IndexError):
        it.step(ndl.Tensor(np.where(LABELS == 0, ROWS, LABELS)))
    np.testing.assert_array_equal(it.table.numpy(), before)


# ---- the arena --------------------------------------------------------------------------------


def step_of(model: nn.Module, logits: Callable[[ndl.Tensor], ndl.Tensor]) -> Callable[..., Any]:
    optimizer = optim.Adam(model.parameters(), lr=0.001)

    def step(x, y):
        loss = ndl.cross_entropy(logits(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def networks() -> dict[str, tuple[Callable[..., Any], np.ndarray, np.ndarray]]:
    """Small networks of each kind, with a batch."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, (4, 16))
    mlp, resnet = models.MLPResNet(64, 32, drop_prob=0.0), models.ResNet9()
    gpt = models.GPT(50, 16, 32, 2, 2)
    lstm = models.LanguageModel(16, 50, 32, 1, "lstm")
    images, labels = rng.random((4, 3, 32, 32), np.float32), rng.integers(0, 10, 4)
    return {
        "mlp": (step_of(mlp, mlp), images.reshape(4, -1)[:, :64], labels),
        "resnet9": (step_of(resnet, resnet), images, labels),
        "gpt": (step_of(gpt, gpt.predict_tokens), tokens, tokens.reshape(-1)),
        "lstm": (step_of(lstm, lambda x: lstm(x)[0]), tokens, tokens.reshape(-1)),
    }


@pytest.mark.parametrize("name", ["mlp", "resnet9", "gpt", "lstm"])
def test_an_arena_is_hardly_larger_than_what_is_needed_at_one_time(name):
    step, x, y = networks()[name]
    plan = planned(step, ndl.Tensor(x, requires_grad=False), ndl.Tensor(y)).plan
    assert plan.live_bytes() <= plan.arena_bytes <= 1.05 * plan.live_bytes()
    assert not plan.copies


# ---- a budget ---------------------------------------------------------------------------------


def gpt_step() -> tuple[nn.Module, Callable[..., Any], list[ndl.Tensor]]:
    np.random.seed(0)
    gpt = models.GPT(50, 64, 32, 4, 2)
    tokens = np.random.default_rng(0).integers(0, 50, (8, 64))
    step = step_of(gpt, gpt.predict_tokens)
    return gpt, step, [ndl.Tensor(tokens), ndl.Tensor(tokens.reshape(-1))]


def test_a_step_keeps_to_its_budget():
    model, step, batch = gpt_step()
    plan = planned(step, *batch)
    budget = int(0.8 * (outside_bytes(plan.graph) + plan.plan.arena_bytes))
    expected = [step(*batch).item() for _ in range(3)]
    ours, again, _ = gpt_step()
    compiled = ndl.jit(again, memory=budget)
    np.testing.assert_allclose([compiled(*batch).item() for _ in range(3)], expected, rtol=1e-4)
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-3)
    line = compiled.explain().splitlines()[-1]
    limit, peak, count, extra = map(float, re.findall(r"\d+\.?\d*", line))
    assert peak <= limit == pytest.approx(budget / 2**20, abs=1e-3)
    assert count > 0
    assert 0 < extra < 35  # at most all of the forward pass, a third of the step


def test_a_budget_that_cannot_be_met_is_refused_before_anything_runs():
    plain, x, y = networks()["mlp"]
    batch = [ndl.Tensor(x, requires_grad=False), ndl.Tensor(y)]
    trace = Tracing().run(plain, batch, {}, batch)
    before = [state.tensor.numpy().copy() for state in trace.states]
    with pytest.raises(ValueError, match=r"needs at least [\d,]+ bytes") as error:
        ndl.jit(plain, memory="10KB")(*batch)
    for state, array in zip(trace.states, before, strict=True):
        np.testing.assert_array_equal(state.tensor.numpy(), array)
        assert state.tensor.grad is None
    least = int(re.search(r"at least ([\d,]+)", str(error.value))[1].replace(",", ""))
    assert plan_within(optimize(trace.graph), CPU, least).budget.peak == least


@pytest.mark.parametrize("name", ["mlp", "resnet9", "lstm"])
def test_a_graph_with_recomputed_values_gives_the_same_numbers(name):
    step, x, y = networks()[name]
    batch = [ndl.Tensor(x, requires_grad=False), ndl.Tensor(y)]
    trace = Tracing().run(step, batch, {}, batch)
    graph = optimize(trace.graph)
    arena = plan_graph(graph, CPU).plan.arena_bytes
    budgets = (outside_bytes(graph) + part * arena // 20 for part in range(19, 9, -1))
    tight = None
    for budget in budgets:
        try:
            tight = plan_within(graph, CPU, budget)
        except ValueError:
            break
    if tight is None:
        return  # every array of its peak is read there
    assert tight.budget.recomputed
    tight.graph.check()
    arrays = [t.numpy() for t in batch], [s.tensor.numpy() for s in trace.states]
    (results, updates), (results2, updates2) = (evaluate(g, *arrays) for g in (graph, tight.graph))
    for ours, theirs in zip(results, results2, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for i, array in updates.items():
        np.testing.assert_array_equal(array, updates2[i])


@pytest.mark.parametrize(
    ("memory", "size"),
    [("2GB", 2 * 10**9), ("1.5 MiB", 3 * 2**19), ("10kb", 10**4), (7, 7), ("12", 12)],
)
def test_a_number_of_bytes(memory, size):
    assert bytes_of(memory) == size


@pytest.mark.parametrize("memory", ["", "two GB", "2 gallons", "-1GB", 0, -3, "0"])
def test_no_number_of_bytes(memory):
    with pytest.raises(ValueError, match=r"^\[jit\] memory must be"):
        ndl.jit(memory=memory)


@pytest.mark.parametrize("memory", [2.5, True, [1]])
def test_memory_of_another_type(memory):
    with pytest.raises(TypeError, match=r"^\[jit\] memory must be"):
        ndl.jit(lambda x: x, memory=memory)
