"""Kernels of rows longer than what a block has under way at a time, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from needle.backend_ndarray import NDArray, reference

COLUMNS = (3, 511, 513, 1700)


def check(gpu, name, dtype, inputs, options, outputs):
    """The kernel's outputs are the definition's. Inputs are arrays, outputs shapes."""
    there = [NDArray(x, device=gpu, dtype=str(x.dtype)) for x in inputs]
    ours = [NDArray(np.full(shape, np.nan, dtype), device=gpu, dtype=dtype) for shape in outputs]
    wanted = [np.empty(shape) for shape in outputs]
    inputs = [x.astype("float64") if x.dtype.kind == "f" else x for x in inputs]
    with np.errstate(invalid="ignore"):
        if name.startswith("cross"):
            getattr(reference, name)(*inputs, *wanted, *options)
            gpu.fused(name)(*there, *ours, *options)
        else:
            getattr(reference, name)(*inputs, *options, *wanted)
            gpu.fused(name)(*there, *options, *ours)
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=COLUMNS)
def rows(request):
    """Rows of numbers that differ much, in one of them half are -inf, in one a NaN."""
    x = np.random.RandomState(0).randn(5, request.param) * 30
    x[1, ::2] = -np.inf
    x[2, -1] = np.nan
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dtype, rows, gpu):
    check(gpu, name, dtype, [rows.astype(dtype)], (), [rows.shape])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing, dtype, rows, gpu):
    x = np.where(np.isfinite(rows), rows, 1.0).astype(dtype)
    n, classes = x.shape
    labels = np.arange(n) * 7 % classes
    labels[3] = -100
    check(gpu, "cross_entropy", dtype, [x, labels], (-100, smoothing), [(n,), (n, 2)])
    top = x.max(1)
    lse = np.stack((top, np.log(np.exp(x - top[:, None]).sum(1))), 1)
    inputs = [x, labels, np.ones(n, dtype), lse.astype(dtype)]
    check(gpu, "cross_entropy_grad", dtype, inputs, (-100, smoothing), [x.shape])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm(dtype, rows, gpu):
    x = np.where(np.isfinite(rows), rows, 1.0).astype(dtype)
    n, columns = x.shape
    weight, bias = np.random.RandomState(1).randn(2, columns).astype(dtype)
    outputs = [x.shape, (n,), (n,)]
    check(gpu, "layer_norm", dtype, [x, weight, bias], (1e-5,), outputs)
    mean, rstd = x.mean(1), 1 / x.std(1)
    inputs = [np.cos(x), x, weight, mean, rstd]
    check(gpu, "layer_norm_grad", dtype, inputs, (), [x.shape, (columns,), (columns,)])
