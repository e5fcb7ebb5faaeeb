"""Loops of compiled code as kernels: along rows, along columns, over all."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import many_axes
import numpy as np
import pytest

import needle as ndl
from needle import ops
from needle.backend_ndarray.dtypes import FLOAT32
from needle.jit.ir.graph import Value, View
from needle.jit.schedule.gpu_nest import share_nothing


class Loop(NamedTuple):
    """A function of one array, and how many kernels it is."""

    function: Callable[[ndl.Tensor], list[ndl.Tensor]]
    shape: tuple[int, ...]
    kernels: int
    dtype: str = "float32"


def softmax(x):
    e = ndl.exp(x - ndl.max(x, axes=1, keepdims=True))
    return [e / ndl.summation(e, axes=1, keepdims=True)]


def normalized(x, axis):
    mean = ops.mean(x, axes=axis, keepdims=True)
    difference = x - mean
    variance = ops.mean(difference**2, axes=axis, keepdims=True)
    return [difference / ndl.sqrt(variance + 1e-5), mean, variance]


def sums(x, axis):
    return [f(x * 0.5 + 1, axis) for f in (ndl.summation, ndl.amax, ndl.amin)]


def log_of_sum(x):
    return [ndl.log(ndl.summation(x * x) + 1), ndl.max(x)]


def sum_of_logs(x):
    return [ndl.summation(ndl.logsumexp(x, axes=1))]


def put_together(x, axis):
    return [ops.concatenate([ndl.tanh(x), x * 2, ndl.sigmoid(x)], axis), ndl.stack([x + 1, -x], 1)]


@ndl.no_grad()
def shifted(x):
    y = x * 2
    y[1:] = y[:-1] + 1  # a thread may not read what another one writes
    y[2:5] = x[:3]
    y[4:6] = x[2:4]
    return [y]


LOOPS = {
    "short rows": Loop(softmax, (33, 5), 1),
    "rows of a warp": Loop(softmax, (9, 300), 1),
    "rows of a block": Loop(softmax, (3, 1100), 1),
    "rows of doubles": Loop(lambda x: normalized(x, 1), (20, 70), 1, "float64"),
    "columns": Loop(lambda x: normalized(x, 0), (40, 70), 1),
    "columns of doubles": Loop(lambda x: normalized(x, 0), (300, 3), 1, "float64"),
    "tall columns": Loop(lambda x: normalized(x, 0), (3000, 33), 3),
    "tall columns of few": Loop(lambda x: sums(x, 0), (2000, 3), 1),
    "few rows": Loop(lambda x: sums(x, 0), (3, 1000), 1),
    "sums of rows": Loop(lambda x: sums(x, 1), (65, 40), 1),
    "totals": Loop(lambda x: sums(x, None), (130, 70), 1),
    "a total of few": Loop(log_of_sum, (4, 3), 1),
    "totals with what follows": Loop(log_of_sum, (3000,), 1),
    "a total of rows": Loop(sum_of_logs, (50, 20), 1),
    "integers": Loop(
        lambda x: [ndl.summation(x, 0), ndl.amax(x, 0), ndl.summation(x)], (40, 30), 1, "int32"
    ),
    "arrays put together by rows": Loop(lambda x: put_together(x, 0), (8, 12), 1),
    "arrays put together by columns": Loop(lambda x: put_together(x, 1), (8, 12), 1),
    "parts that overlap": Loop(shifted, (700, 3), 5),
    "a sum over axes in the middle": Loop(lambda x: [ndl.summation(x * 2, 1)], (4, 50, 6), 2),
}


def captured(fake: ctypes.CDLL) -> str:
    """The calls that made the graph that was captured last."""
    calls = fake.emulator_calls().decode()
    return calls[calls.rindex("cuStreamBeginCapture") : calls.rindex("cuStreamEndCapture")]


def kernels_of(fake: ctypes.CDLL) -> int:
    """The kernels of that graph."""
    return captured(fake).count("cuLaunchKernel")


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop(name, emulated, fake):
    loop = LOOPS[name]
    x = np.random.RandomState(0).randn(*loop.shape) * 3
    x = ndl.Tensor(x.astype(loop.dtype), device=emulated, dtype=loop.dtype)
    compiled = ndl.jit(loop.function)
    first, again = compiled(x), compiled(x)
    assert kernels_of(fake) == loop.kernels
    expected = loop.function(ndl.Tensor(x.numpy(), device=ndl.cpu_numpy(), dtype=loop.dtype))
    limit = {"float32": 1e-5, "float64": 1e-12, "int32": 0}[loop.dtype]
    for ours, twice, theirs in zip(first, again, expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), twice.numpy())
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), limit, limit)


def test_views_that_share_nothing():
    random, value, claimed = Random(0), Value(1000, FLOAT32), 0
    for _ in range(5000):
        axes = random.randint(0, 3)
        strides = tuple(random.choice([1, 2, 3, 4, 6, 8, 12, 24]) for _ in range(axes))
        views = [
            View(
                value, tuple(random.randint(1, 4) for _ in strides), strides, random.randint(0, 40)
            )
            for _ in range(2)
        ]
        if share_nothing(*views):
            claimed += 1
            first, second = (
                {v.offset + int(np.dot(index, strides)) for index in np.ndindex(v.shape)}
                for v in views
            )
            assert not first & second, views
    assert claimed > 3000


@pytest.mark.parametrize("columns", [1, 5])
def test_rows_are_looked_up_in_loops(columns, emulated, fake):
    random = np.random.RandomState(0)
    table, wide = random.randn(6, columns), random.randn(6, 3, columns)
    index = np.array([0, -1, 5, 2, 2, -6])

    def function(table, wide, i):
        turned = ndl.take(table.transpose().reshape((-1,)), i * 0 + 1)
        return [
            ndl.summation(ndl.exp(ndl.take(table, i + 0, 0) * 2), 1),
            ndl.take(ndl.tanh(table), i, 0),  # what it reads is made by a loop of the same points
            ndl.take(ndl.zeros_like(table), i, 0) + 1,
            ndl.take(wide, i, 0) - ndl.amax(wide, 1, keepdims=True),
            turned,
        ]

    def inputs(device):
        arrays = [ndl.Tensor(a, device=device) for a in (table, wide)]
        return [*arrays, ndl.Tensor(index, device=device, dtype="int64")]

    expected = function(*inputs(ndl.cpu_numpy()))
    compiled = ndl.jit(function)
    for ours, theirs in zip(compiled(*inputs(emulated)), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-5, 1e-6)
    assert kernels_of(fake) <= 5
    bad = ndl.Tensor(np.array([0, 1, 2, 3, 6, 7]), device=emulated, dtype="int64")
    with pytest.raises(IndexError, match="the index at position 4 is out of range"):
        compiled(*inputs(emulated)[:2], bad)[0].numpy()


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("of_lines", [False, True], ids=["of points", "of lines"])
def test_an_index_is_overwritten_by_the_loop_that_reads_it(of_lines, axis, gpu):
    """Threads beyond the last line read it again, when its own may have replaced its index."""
    table = np.arange(36.0).reshape(9, 4) if of_lines else np.arange(9.0)
    numbers = np.array([7, 3, 8]) if of_lines else np.arange(12).reshape(3, 4) % 9
    index = ndl.Tensor(numbers, device=gpu, dtype="int64")

    @ndl.jit
    def step(table):
        found = table[index]
        index.data = index + 100  # before the sums: updates at the end are loops of their own
        return found.sum(axis)

    sums = step(ndl.Tensor(table, device=gpu, dtype="float32"))
    np.testing.assert_array_equal(sums.numpy(), table[numbers].sum(axis))
    np.testing.assert_array_equal(index.numpy(), numbers + 100)


def test_special_numbers(gpu):
    x = np.random.RandomState(0).randn(6, 40).astype("float32")
    x[2, 3] = x[4, 39] = np.nan
    x[3, 7], x[5, 0] = np.inf, -np.inf
    x = ndl.Tensor(x, device=gpu)

    def function(x):
        reductions = (ndl.summation, ndl.amax, ndl.amin, ops.prod)
        return [f(x * 0.5, axes) for f in reductions for axes in (0, 1, None)]

    for ours, theirs in zip(ndl.jit(function)(x), function(x), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-5)


def test_running_means_are_updated_in_place(emulated, fake):
    running = ndl.Tensor(np.zeros(70), device=emulated)
    x = ndl.Tensor(np.random.RandomState(0).randn(40, 70), device=emulated)

    @ndl.jit
    def step(x):
        mean = ops.mean(x, axes=0)
        shift = ndl.reshape(mean * running, (1, 70))
        running.data = running.data * 0.9 + mean.detach() * 0.1
        return x - ndl.broadcast_to(shift, x.shape)

    was, means = np.zeros(70), x.numpy().mean(0)
    for _ in range(3):
        y = step(x)
        np.testing.assert_allclose(y.numpy(), x.numpy() - means * was, 1e-5, 1e-5)
        was = was * 0.9 + means * 0.1
        np.testing.assert_allclose(running.numpy(), was, 1e-5, 1e-6)
    assert kernels_of(fake) == 1
    assert "cuMemcpy" not in captured(fake)


def test_an_update_in_place_waits_for_what_reads_the_state(emulated, fake):
    scale = ndl.Tensor(np.arange(8.0), device=emulated)
    x = ndl.Tensor(np.random.RandomState(0).randn(50, 8), device=emulated)

    @ndl.jit
    def step(x):
        y = ndl.tanh(x) * ndl.broadcast_to(ndl.reshape(scale, (1, 8)), x.shape)
        scale.data = scale.data * 0.5
        return y

    for i in range(2):
        np.testing.assert_allclose(
            step(x).numpy(), np.tanh(x.numpy()) * np.arange(8) * 0.5**i, 1e-5, 1e-6
        )
    np.testing.assert_array_equal(scale.numpy(), np.arange(8) * 0.25)
    assert kernels_of(fake) == 2
    assert "cuMemcpy" not in captured(fake)


def test_updates_of_all_parameters_are_one_launch(emulated, fake):
    random = np.random.RandomState(0)
    shapes = [(3, 5), (70,), (20, 30), (1,), (64, 40), (7, 7)]
    states = [ndl.Tensor(random.randn(*shape), device=emulated) for shape in shapes]
    expected = [s.numpy() for s in states]

    @ndl.jit
    def step(rate):
        for state in states:
            state.data = state.data * 0.9 - rate

    rate = ndl.Tensor(np.float32(0.25), device=emulated)
    for _ in range(2):
        step(rate)
        expected = [x * 0.9 - 0.25 for x in expected]
        for state, x in zip(states, expected, strict=True):
            np.testing.assert_allclose(state.numpy(), x, 1e-5)
    assert kernels_of(fake) == 1


def test_many_updates_are_few_launches(emulated, fake):
    states = [ndl.Tensor(np.full(i + 1, i), device=emulated) for i in range(300)]

    @ndl.jit
    def step():
        for state in states:
            state.data = state.data + 1

    step()
    for i, state in enumerate(states):
        np.testing.assert_array_equal(state.numpy(), np.full(i + 1, i + 1))
    assert 1 < kernels_of(fake) <= 3


def test_what_waits_is_launched_before_it_is_needed(emulated):
    """A product between two loops reads what the first writes and writes what it reads."""
    x = ndl.Tensor(np.random.RandomState(0).randn(8, 8), device=emulated)

    def function(x):
        for _ in range(3):
            y = x * 2 + 1
            x = ndl.tanh(y @ x) + ndl.sigmoid(x)
        return x

    np.testing.assert_allclose(ndl.jit(function)(x).numpy(), function(x).numpy(), 1e-5, 1e-6)


def test_loops_over_other_dtypes_are_other_loops(emulated, fake):
    """Their code is the same but for the types of what it reads."""
    numbers = np.arange(20) - 5
    arrays = [
        ndl.Tensor(numbers[: 12 + i], device=emulated, dtype=dtype, requires_grad=False)
        for i, dtype in enumerate(["int32", "int64", "float64"])
    ]
    results = ndl.jit(lambda arrays: [x.astype("float32") for x in arrays])(arrays)
    for ours, x in zip(results, arrays, strict=True):
        np.testing.assert_array_equal(ours.numpy(), x.numpy())
    assert kernels_of(fake) == 1


def test_what_follows_from_a_total_reads_lines_before_they_are_overwritten(gpu):
    random = np.random.RandomState(0)
    x, m, w = (
        ndl.Tensor(random.randn(*shape).astype("float32"), device=gpu, requires_grad=False)
        for shape in ((64, 32), (64, 16), (16, 1))
    )

    def function(x, m, w):
        lines = (m @ w).reshape((64,))
        sums = x.sum(1) + lines
        return sums, sums.sum() + lines[0]

    for ours, eager in zip(ndl.jit(function)(x, m, w), function(x, m, w), strict=True):
        np.testing.assert_allclose(ours.numpy(), eager.numpy(), 1e-4, 1e-4)


def test_many_axes(gpu):
    many_axes.check(gpu, False, ["every second axis"])
    many_axes.check(gpu, True, ["parts"])
