"""Checkpointed functions: the same numbers and gradients, less memory."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit.frontend.trace import TraceError, Tracing
from needle.jit.passes import optimize
from needle.jit.schedule.memory_plan import make_plan
from needle.jit.schedule.rematerialize import units_of


def block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, 2 * width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(2 * width, width)
    )


def deep_model(depth: int, width: int) -> list[nn.Module]:
    np.random.seed(0)
    return [block(width) for _ in range(depth)]


def loss_of(blocks, x, wrap=lambda f: f):
    for b in blocks:
        x = x + wrap(b)(x)
    return (x * x).sum()


def gradients(blocks, x, wrap=lambda f: f, compiled=False):
    """(loss, gradients of x and of every parameter, what NumPy draws next)."""
    parameters = [p for b in blocks for p in b.parameters()]

    def run(x):
        loss = loss_of(blocks, x, wrap)
        return [loss, *ndl.grad(loss, [x, *parameters])]

    np.random.seed(1)
    results = (ndl.jit(run) if compiled else run)(x)
    return [r.numpy() for r in results], np.random.rand()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_numbers_and_gradients_are_the_same(compiled):
    blocks, x = deep_model(3, 4), ndl.Tensor(np.random.RandomState(2).randn(5, 4))
    expected, next_draw = gradients(blocks, x)
    actual, draw = gradients(blocks, x, ndl.checkpoint, compiled)
    assert draw == next_draw, "the second run takes no random numbers of its own"
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def test_inner_values_are_not_kept():
    """A value inside lives no longer than the call."""
    x = ndl.Tensor(np.ones((64, 64)))
    before = ndl.autograd.TENSOR_COUNTER

    def inner(x):
        for _ in range(50):
            x = ndl.tanh(x)
        return x

    kept = inner(x)
    assert ndl.autograd.TENSOR_COUNTER - before >= 50
    del kept
    out = ndl.checkpoint(inner)(x)
    assert ndl.autograd.TENSOR_COUNTER - before < 5
    out.sum().backward()
    gradient = x.grad.numpy()
    inner(x).sum().backward()
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-6)


def arena_bytes(wrap) -> int:
    blocks, x = deep_model(12, 16), ndl.Tensor(np.ones((256, 16)))
    parameters = [p for b in blocks for p in b.parameters()]

    def run(x):
        loss = loss_of(blocks, x, wrap)
        return ndl.grad(loss, parameters)

    graph = optimize(Tracing().run(run, (x,), {}, [x]).graph)
    return make_plan(graph, units_of(graph)).arena_bytes


def test_a_compiled_step_needs_less_memory():
    assert arena_bytes(ndl.checkpoint) < 0.7 * arena_bytes(lambda f: f)


def test_without_gradients_it_is_the_function():
    x = ndl.Tensor([1.0])
    with ndl.no_grad():
        assert ndl.checkpoint(lambda x: x * 2.0)(x).op is None


def test_a_function_that_returns_no_tensor():
    with pytest.raises(TypeError, match="a Tensor or a tuple of Tensors, got int"):
        ndl.checkpoint(lambda x: 3)(ndl.Tensor([1.0]))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_variables_that_are_rebound_before_the_gradient(compiled):
    def run(x, *weights):
        scale = 2.0

        def scaled(y):
            return y * scale

        y, count = x, 0

        def counted():
            nonlocal count
            count += 1
            return count

        for w in weights:
            y = ndl.checkpoint(lambda y: counted() * ndl.tanh(scaled(y @ w)))(y)  # noqa: B023
        scale = 5.0
        return [y, *ndl.grad((y * y).sum(), [x, *weights])]

    def plain(x, *weights):
        y = x
        for i, w in enumerate(weights, 1):
            y = i * ndl.tanh(y @ w * 2.0)
        return [y, *ndl.grad((y * y).sum(), [x, *weights])]

    inputs = [ndl.Tensor(np.random.RandomState(i).randn(3, 3)) for i in range(4)]
    for a, e in zip((ndl.jit(run) if compiled else run)(*inputs), plain(*inputs), strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-4, atol=1e-5)


def test_functions_that_share_a_variable_share_it_in_the_second_run():
    def run(x):
        count = 0

        def advance():
            nonlocal count
            count += 1

        def step(x):
            advance()
            return ndl.tanh(x * count)

        y = ndl.checkpoint(step)(x)
        z = ndl.checkpoint(step)(x)
        return ndl.grad((y + z).sum(), [x])[0]

    x = ndl.Tensor([0.5, 0.25])
    expected = 1 / np.cosh(x.numpy()) ** 2 + 2 / np.cosh(2 * x.numpy()) ** 2
    np.testing.assert_allclose(run(x).numpy(), expected, rtol=1e-5)


def test_the_mode_of_a_module_is_changed_before_a_compiled_gradient():
    norm = nn.BatchNorm1d(4)
    block = ndl.checkpoint(lambda x: norm(x))  # here

    def run(x):
        norm.eval()
        y = block(x)
        norm.train()
        return ndl.grad((y * y).sum(), [x])

    with pytest.raises(TraceError, match=r"BatchNorm1d is in training mode when .*\n.*# here"):
        ndl.jit(run)(ndl.Tensor(np.ones((5, 4))))
