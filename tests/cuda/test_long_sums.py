"""Sums of millions of numbers on the GPU, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from backend_ndarray import test_long_sums as long_sums
from numeric import assert_sums

import needle as ndl
from needle import ops
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.device_cuda.columns import layer_norm_weight_grads


@pytest.fixture
def few_blocks(gpu: ndl.Device, monkeypatch: pytest.MonkeyPatch) -> ndl.Device:
    """`cuda()` where a thread adds hundreds of numbers one after the other, but not plainly."""
    monkeypatch.setattr(gpu.context, "multiprocessors", 1)
    monkeypatch.setattr(long_sums, "ROUNDINGS", 16)
    return gpu


@pytest.mark.parametrize("name", long_sums.VIEWS)
def test_sums(name, few_blocks):
    long_sums.test_sums(name, few_blocks)


@pytest.mark.parametrize(("shape", "axis"), [((2**18,), 0), ((2**17, 2), 0), ((2, 2**17), 1)])
def test_running_sums(shape, axis, gpu, monkeypatch):
    monkeypatch.setattr(long_sums, "VALUES", long_sums.VALUES[: 2**18])
    long_sums.test_running_sums(shape, axis, gpu)


@pytest.mark.parametrize(
    "test",
    [
        long_sums.test_moments_of_a_batch,
        long_sums.test_softmax_of_a_long_row,
        long_sums.test_what_is_infinite_stays_so,
    ],
)
def test_kernels(test: Callable[[ndl.Device], None], few_blocks):
    test(few_blocks)


def test_a_softmax_of_numbers_that_rise(gpu):
    """Each number is the largest so far: what a scaling of the sum loses may not add up.

    A thread's numbers rise by 2^-12 from load to load, of which exp loses half a roundoff.
    """
    n = 2**21
    x = 1 + np.arange(n, dtype="float32")[None] / np.float32(n)
    powers = np.exp(x.astype("float64") - x.max())
    found = ops.softmax(ndl.Tensor(x, device=gpu), 1).numpy()
    share = powers / powers.sum()
    assert_sums(found, share, share, long_sums.ROUNDINGS, "float32")


def test_rows_that_are_added_to_one(gpu):
    values = np.full((2**15, 2), 0.1, np.float32)
    total, index = (
        NDArray(np.zeros((1, 2), np.float32), device=gpu),
        np.zeros(len(values), np.int64),
    )
    rows = NDArray(index, device=gpu, dtype="int64")
    gpu.scatter_add_rows(total, rows, NDArray(values, device=gpu))
    exact = values.astype("float64").sum(0, keepdims=True)
    assert_sums(total.numpy(), exact, exact, 1, "float32")


def test_gradients_of_weights(few_blocks):
    rows = 2**20
    ones, halves = np.ones(rows, np.float32), np.full(rows, 0.5, np.float32)
    g = long_sums.VALUES[: 4 * rows].reshape(rows, 4)
    x = np.full((rows, 4), 0.8, np.float32)
    arrays = [NDArray(v, device=few_blocks) for v in (g, x, halves, ones)]
    dweight, dbias = (NDArray(np.empty(4, np.float32), device=few_blocks) for _ in range(2))
    layer_norm_weight_grads(few_blocks.context, *arrays, dweight, dbias)
    exact = g.astype("float64").sum(0)
    assert_sums(dbias.numpy(), exact, exact, long_sums.ROUNDINGS, "float32")
    exact *= np.float64(np.float32(0.8)) - 0.5
    assert_sums(dweight.numpy(), exact, exact, long_sums.ROUNDINGS, "float32")


def test_layer_norm_of_a_long_row(gpu):
    """Half of the row is 0.1, half 0.3; the gradient of the one is 1, that of the other 3."""
    n = 2**20
    x, g = (np.tile(np.float32(v), n // 2)[None] for v in ([0.1, 0.3], [1, 3]))
    one, zero = np.ones(n, np.float32), np.zeros(n, np.float32)
    arrays = [NDArray(v, device=gpu) for v in (x, one, zero)]
    out, mean, rstd = (NDArray(np.empty(s, np.float32), device=gpu) for s in (x.shape, 1, 1))
    gpu.fused("layer_norm")(*arrays, 0.0, out, mean, rstd)
    exact = x.astype("float64")
    for found, wanted in ((mean, exact.mean(1)), (rstd, 1 / exact.std(1))):
        assert_sums(found.numpy(), wanted, wanted, long_sums.ROUNDINGS, "float32")
    dx, dweight, dbias = (NDArray(np.empty(s, np.float32), device=gpu) for s in (x.shape, n, n))
    there = NDArray(g, device=gpu)
    gpu.fused("layer_norm_grad")(there, *arrays[:2], mean, rstd, dx, dweight, dbias)
    # It is a difference of numbers of size g/deviation that cancel: 1 and 3 follow from x.
    size = np.full(x.shape, 3 / exact.std())
    assert_sums(dx.numpy(), np.zeros(x.shape), size, 4 * long_sums.ROUNDINGS, "float32")


# ---- compiled ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", long_sums.VIEWS)
def test_compiled_sums(name, few_blocks):
    shape, view, axes = long_sums.VIEWS[name]
    values = long_sums.VALUES.reshape(shape)
    x = ndl.Tensor(values, device=few_blocks, requires_grad=False)
    exact = view(values).astype("float64").sum(axes)
    size = view(values).size // exact.size
    found = ndl.jit(lambda x: [view(x).sum(axes), ops.mean(view(x), axes)])(x)
    for ours, wanted in zip(found, (exact, exact / size), strict=True):
        assert_sums(ours.numpy(), wanted, wanted, long_sums.ROUNDINGS, "float32")


# Shapes of loops: rows of a warp and of a block, columns in one block and in parts.
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize(
    "shape", [(2**12, 300), (2**7, 2**13), (500, 2000), (2**16, 8), (2**17, 5)], ids=str
)
def test_sums_in_loops(shape, axis, few_blocks):
    values = np.full(shape, 0.1, np.float32)
    x = ndl.Tensor(values, device=few_blocks, requires_grad=False)

    def function(x):
        return [(x * 0.5).sum(axis), ((x * 0.5).sum(1) * 2).sum()]

    halves = values.astype("float64") / 2
    wanted = halves.sum(axis), halves.sum() * 2
    for ours, exact in zip(ndl.jit(function)(x), wanted, strict=True):
        assert_sums(ours.numpy(), exact, exact, 2 * long_sums.ROUNDINGS, "float32")


def test_compiled_moments(few_blocks):
    compiled = ndl.jit(long_sums.moments)
    values = np.tile(np.float32([[0.1], [0.3]]), (2**16, 8)).astype("float32")
    mean, var = compiled(ndl.Tensor(values, device=few_blocks, requires_grad=False))
    wide = values.astype("float64")
    assert_sums(mean.numpy(), wide.mean(0), wide.mean(0), long_sums.ROUNDINGS, "float32")
    assert_sums(var.numpy(), wide.var(0), wide.var(0), 4 * long_sums.ROUNDINGS, "float32")


def test_infinities_in_loops(few_blocks):
    values = long_sums.VALUES[: 2**17].copy()
    compiled = ndl.jit(lambda x: [(x * 1).sum(), (x * 1).sum(0), (x * 1).sum(1)])
    for bad, expected in (([np.inf], np.inf), ([np.inf, -np.inf], np.nan), ([3e38, 3e38], np.inf)):
        values[1000 : 1000 + 40000 * len(bad) : 40000] = bad
        x = values.reshape(-1, 8)
        found = compiled(ndl.Tensor(x, device=few_blocks, requires_grad=False))
        with np.errstate(all="ignore"):
            wanted = [x.astype("float64").sum(axis).astype("float32") for axis in (None, 0, 1)]
        assert np.isclose(wanted[0], expected, equal_nan=True)
        for ours, exact in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours.numpy(), exact, rtol=long_sums.ROUNDINGS * 2.0**-24)
