"""Integers on a GPU: arithmetic at the corners, comparisons and conversions, as on the CPU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from needle.backend_ndarray import NDArray, cpu_numpy

CORNERS = {
    "uint8": [0, 1, 2, 3, 128, 255],
    "int64": [0, 1, -1, 2, -3, 2**53 + 1, 2**63 - 1, -(2**63)],
}
FLOATS = [0.0, 0.9, -2.5, 300.0, -1.0, 2.0**31, 9.21e18, -(2.0**63), 1e30, np.inf, np.nan]


@pytest.mark.parametrize("dtype", CORNERS)
def test_arithmetic_at_the_corners(dtype, gpu):
    """Division by 0, quotients and powers that overflow, negative exponents."""
    pairs = itertools.product(CORNERS[dtype], CORNERS[dtype])
    a, b = (np.array(x, dtype) for x in zip(*pairs, strict=True))
    for device_op in (NDArray.__floordiv__, NDArray.__mod__, NDArray.__pow__, NDArray.__mul__):
        results = [
            device_op(*(NDArray(x, device=device, dtype=dtype) for x in (a, b))).numpy()
            for device in (gpu, cpu_numpy())
        ]
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", CORNERS)
def test_numbers_of_any_size(dtype, gpu):
    x = NDArray(np.array(CORNERS[dtype], dtype), device=gpu, dtype=dtype)
    for number in (300, -1, 2**63, 2.5, float("inf"), float("nan")):
        assert x.compare("lt", number).tolist() == [v < number for v in CORNERS[dtype]]
    assert x.clip(-(2**70), 2**70).tolist() == CORNERS[dtype]
    with pytest.raises(OverflowError, match=str(2**64)):
        x + 2**64
    with pytest.raises(OverflowError, match=str(2**64)):
        x[[0]] = 2**64


@pytest.mark.parametrize("dtype", CORNERS)
def test_floats_become_integers_through_int64(dtype, gpu):
    x, y = (NDArray(np.array(FLOATS), device=d, dtype="float64") for d in (gpu, cpu_numpy()))
    np.testing.assert_array_equal(x.astype(dtype).numpy(), y.astype(dtype).numpy())
