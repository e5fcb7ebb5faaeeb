"""What other threads do while a function is traced: it is as ever, and no part of the trace."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import init, nn, optim
from needle.jit.trace import Trace, Tracing

WEIGHT = np.arange(4.0).reshape(2, 2) / 4


def elsewhere(work: Callable[[], Any]) -> Any:
    """What `work()` gives in a thread of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def draw() -> list[np.ndarray]:
    np.random.seed(3)
    model = nn.Dropout(0.5)
    return [model(init.ones(4, 4)).numpy(), init.randn(3).numpy()]


def train() -> list[np.ndarray]:
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = ndl.Tensor(WEIGHT)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    schedule = optim.CosineLR(optimizer, total_steps=5)
    for _ in range(2):
        (model(ndl.Tensor(WEIGHT)) ** 2).sum().backward()
        optimizer.step()
        schedule.step()
    return [model.weight.numpy(), np.array(optimizer.lr)]


def scan() -> list[np.ndarray]:
    w, x = ndl.Tensor(WEIGHT), ndl.Tensor(np.ones((3, 2)))
    block = ndl.checkpoint(lambda h, x: ndl.tanh(h @ w + x))
    h, _ = ndl.scan(lambda h, x: (block(h.reshape(1, 2), x).reshape(2), None), x[0], x)
    h.sum().backward()
    return [h.numpy(), w.grad.numpy()]


def compile_another() -> list[np.ndarray]:
    return [ndl.jit(lambda x: x @ x)(ndl.Tensor(WEIGHT)).numpy()]


def arrays_at_once() -> list[np.ndarray]:
    with ndl.autograd.untraced():
        return [ndl.Tensor(WEIGHT).exp().numpy()]


def traced(function: Callable[..., Any], *tensors: ndl.Tensor) -> Trace:
    return Tracing().run(function, tensors, {}, list(tensors))


@pytest.mark.parametrize("work", [draw, train, scan, compile_another, arrays_at_once])
def test_work_of_another_thread_is_not_recorded(work):
    got = []

    def run(x):
        y = x * 2
        got.extend(elsewhere(work))
        return y + 1

    trace = traced(run, ndl.Tensor([1.0]))
    for ours, theirs in zip(got, work(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [node.op for node in trace.graph.nodes] == ["binary_scalar"] * 2
    for recorded in (trace.actions, trace.modules, trace.host_inputs, trace.states):
        assert not recorded
    assert not {"forward", "training", "param_groups", "state"} & {
        key for key in trace.guards._keys if isinstance(key, str)
    }


def test_a_tensor_that_is_traced_has_its_data_elsewhere():
    w, seen = ndl.Tensor([1.0, 2.0]), []

    @ndl.jit
    def run(x):
        y = x * w
        w.data = w + 1
        seen.append(elsewhere(w.numpy))
        return y * w

    result = run(ndl.Tensor([1.0, 1.0])).numpy()
    np.testing.assert_array_equal(seen[0], [1, 2])
    np.testing.assert_array_equal(result, [2, 6])


def test_data_that_another_thread_sets_is_kept():
    w = ndl.Tensor([1.0, 2.0])

    def set_data() -> None:
        w.data = ndl.Tensor([5.0, 6.0])

    @ndl.jit
    def run(x):
        y = x * w
        if not run.compilations:
            elsewhere(set_data)
        return y * w

    x = ndl.Tensor([1.0, 1.0])
    for _ in range(2):
        np.testing.assert_array_equal(run(x).numpy(), [25, 36])
        np.testing.assert_array_equal(w.numpy(), [5, 6])


def test_functions_compiled_in_several_threads():
    start, results = Barrier(4), {}

    def work(i: int) -> None:
        start.wait()
        for n in range(1, 12):
            function = ndl.jit(lambda x: (ndl.tanh(x) * i).sum())
            results[i, n] = function(ndl.Tensor(np.ones(n, "float32"))).item()

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NEEDLE_JIT", "evaluate")
        threads = [Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = {(i, n): np.tanh(1) * i * n for i in range(4) for n in range(1, 12)}
    assert results == pytest.approx(expected, rel=1e-5)
