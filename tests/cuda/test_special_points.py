"""The corners of functions, large logits and pooling on the GPU, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest
from ops import test_large_logits as large
from ops import test_special_points as special

import needle as ndl


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("table", special.TABLES)
def test_as_pytorch(table: str, compiled: bool, gpu: ndl.Device):
    special.test_as_pytorch(table, compiled, gpu)


def test_max_pooling(gpu: ndl.Device):
    special.test_max_pooling(False, gpu)


@pytest.mark.parametrize("size", [100.0, 1e8, 3e38])
@pytest.mark.parametrize("member", large.MEMBERS, ids=lambda m: m.name)
def test_large_logits(member: large.Member, size: float, gpu: ndl.Device):
    large.test_values_and_gradients(member, size, False, gpu)


def test_floor_division(gpu: ndl.Device):
    special.test_floor_division_and_remainder("floor_div", gpu)


def test_a_row_with_infinity_is_nan(gpu: ndl.Device):
    x = np.array([[np.inf, 1, 2], [-np.inf] * 3, [0, 1, -np.inf]], np.float32)
    y = ndl.softmax(ndl.Tensor(x, device=gpu)).numpy()
    np.testing.assert_array_equal(np.isnan(y), [[True] * 3, [True] * 3, [False] * 3])
