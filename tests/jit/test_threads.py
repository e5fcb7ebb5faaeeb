"""What other threads do while a function is traced: it is as ever, and no part of the trace."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Barrier, Event, Thread
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import init, nn, optim
from needle.jit.frontend.trace import Trace, Tracing

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
    got: SimpleQueue[Any] = SimpleQueue()  # what a trace puts into it stays there

    def run(x):
        y = x * 2
        state = np.random.get_state()  # whoever moves it during a trace counts as the function
        got.put(elsewhere(work))
        np.random.set_state(state)
        return y + 1

    trace = traced(run, ndl.Tensor([1.0]))
    for ours, theirs in zip(got.get(), work(), strict=True):
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


def in_threads(work: Callable[[int], Any], count: int = 4) -> list[Any]:
    """What `work(i)` gives in each of some threads that begin together and take turns often."""
    start, results = Barrier(count), {}

    def run(i: int) -> None:
        start.wait()
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [Thread(target=run, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return [results[i] for i in range(count)]


@pytest.mark.parametrize("mode", ["on", "evaluate", "check"])
def test_threads_that_train_get_the_bits_of_one(mode, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", mode)

    def prepare(seed: int) -> Callable[[], list[np.ndarray]]:
        rng = np.random.RandomState(seed)
        np.random.seed(seed)
        model = nn.Sequential(
            nn.Linear(6, 5 + seed), nn.BatchNorm1d(5 + seed), nn.Linear(5 + seed, 3)
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        batches = [[ndl.Tensor(rng.rand(n, k)) for k in (6, 3)] for n in (4, 7, 4)]

        @ndl.jit
        def step(x, y):
            loss = ((model(x) - y) ** 2).mean()
            optimizer.reset_grad()
            loss.backward()
            optimizer.step()
            return loss

        def train() -> list[np.ndarray]:
            losses = [step(x, y).numpy() for x, y in batches]
            assert step.compilations == 2
            return [*losses, *(p.numpy() for p in model.state_dict().values())]

        return train

    expected = [prepare(seed)() for seed in range(2)]
    trainings = [prepare(seed) for seed in range(2)]
    for ours, theirs in zip(in_threads(lambda i: trainings[i](), 2), expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_compiled_function_in_several_threads():
    total = ndl.Tensor([0.0])

    @ndl.jit
    def add(x):
        total.data = total + x.sum()
        return x * 2.0

    def work(i: int) -> None:
        for k in range(30):
            n = 1 + (k + i) % 3
            assert add(ndl.Tensor(np.full(n, i + 1.0))).tolist() == [2.0 * (i + 1)] * n

    in_threads(work)
    assert total.item() == sum((i + 1) * (1 + (k + i) % 3) for i in range(4) for k in range(30))
    assert add.compilations == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_during_a_trace_of_another_thread():
    tracing, go_on = Event(), Event()

    @ndl.jit
    def slow(x):
        tracing.set()
        go_on.wait(30)
        return x * 2.0

    thread = Thread(target=slow, args=(ndl.Tensor([1.0]),))
    thread.start()
    tracing.wait(30)
    child = os.fork()
    if child == 0:
        try:
            right = slow._function is not None and ndl.cpu().ones((2,)).numpy().sum() == 2
            go_on.set()
            right = right and slow(ndl.Tensor([3.0])).item() == 6
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    go_on.set()
    thread.join()
    end = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.05)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)
