"""Reductions on the GPU where their kernels differ: packs or elements, parts, rows or columns."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray import NDArray

# What is reduced, over which axes, from which column on.
CASES = [
    ((70003,), (0,), 0),  # packs and parts
    ((70003,), (0,), 1),  # parts of what is not aligned
    ((3, 5000), (1,), 0),  # rows in packs
    ((3, 5001), (1,), 0),  # rows that do not begin at packs
    ((40, 1032), (1,), 4),
    ((5, 7, 36), (0, 2), 0),
    ((5001, 3), (0,), 0),
    ((40000, 32), (0,), 0),  # columns, in more parts than one thread adds up
    ((300, 66), (0,), 2),
    ((9, 4, 300), (1,), 0),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_and_largest(case, dtype, gpu):
    shape, axes, first = case
    x = (np.random.RandomState(0).rand(*shape) * 5 - 1).astype(dtype)
    there = NDArray(x, device=gpu, dtype=dtype)[..., first:]
    x = x[..., first:]
    wanted = x.sum(axes, dtype=np.float64)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(there.sum(axes).numpy(), wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(there.max(axes).numpy(), x.max(axes))


@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_a_nan_is_found_anywhere(case, gpu):
    shape, axes, _ = case
    for place in (0, 1, shape[-1] // 2, shape[-1] - 1):
        x = np.zeros(shape, np.float32)
        x[..., place] = np.nan
        assert np.isnan(NDArray(x, device=gpu).max(axes).numpy()).all()


def test_a_reduction_is_the_same_each_time(gpu):
    x = ndl.Tensor(np.random.RandomState(1).randn(70003).astype("float32"), device=gpu)
    assert len({x.sum().item() for _ in range(3)}) == 1
