"""Sums of millions of numbers are as right as sums of a few, on every device.

Numbers added in blocks have an error of some dozens of roundings; the same numbers added one after
the other are off by a hundred thousand, in lanes of a vector by thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import assert_sums

import needle as ndl
from needle import nn, ops, optim

N = 2**22
# Roundings: of equal numbers half as many as are added one after the other.
EAGER = 40
# Equal numbers are the worst case: their roundings all go the same way.
VALUES = np.full(N, 0.1, np.float32)

# Shape, what is taken of it, and the axes that are summed.
VIEWS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any], Any]] = {
    "all": ((N,), lambda x: x, (0,)),
    "all of a matrix": ((N // 8, 8), lambda x: x, (0, 1)),
    "rows": ((2, N // 2), lambda x: x, (1,)),
    "columns": ((N // 32, 32), lambda x: x, (0,)),
    "three columns": ((N // 4, 4), lambda x: x[:, :3], (0,)),
    "many columns": ((N // 2048, 2048), lambda x: x, (0,)),
    "the middle": ((4, N // 16, 4), lambda x: x, (1,)),
    "the ends": ((N // 64, 8, 8), lambda x: x, (0, 2)),
    "every other": ((N,), lambda x: x[::2], (0,)),
    "a column": ((N // 4, 4), lambda x: x[:, 1], (0,)),
    "short runs": ((N // 4, 4), lambda x: x[:, 1:3], (0, 1)),
    "backwards": ((N,), lambda x: x[::-1], (0,)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_sums(name, device):
    shape, view, axes = VIEWS[name]
    values = VALUES.reshape(shape)
    x = ndl.Tensor(values, device=device, requires_grad=False)
    exact = view(values).astype("float64").sum(axes)
    assert_sums(view(x).sum(axes).numpy(), exact, exact, EAGER, "float32")
    count = view(values).size // exact.size
    assert_sums(ops.mean(view(x), axes).numpy(), exact / count, exact / count, EAGER, "float32")


@pytest.mark.parametrize("shape", [(N,), (N // 4, 4), (2, N // 2)], ids=str)
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sums(shape, axis, device):
    values = VALUES.reshape(shape)
    exact = np.cumsum(values.astype("float64"), axis)
    found = ndl.Tensor(values, device=device).cumsum(axis).numpy()
    assert_sums(found, exact, exact, EAGER, "float32")


def moments(x: ndl.Tensor) -> list[ndl.Tensor]:
    layer = nn.BatchNorm1d(x.shape[1], momentum=1.0, device=x.device)
    layer(x)
    return [layer.running_mean, layer.running_var]


def test_moments_of_a_batch(device):
    """Half of each column is 0.1, half 0.3."""
    values = np.tile(np.float32([[0.1], [0.3]]), (N // 16, 8)).astype("float32")
    mean, var = moments(ndl.Tensor(values, device=device, requires_grad=False))
    wide = values.astype("float64")
    assert_sums(mean.numpy(), wide.mean(0), wide.mean(0), EAGER, "float32")
    # The deviations have the error of the mean, and the variance is unbiased or not.
    assert_sums(var.numpy(), wide.var(0), wide.var(0), 4 * EAGER, "float32")


def test_softmax_of_a_long_row(device):
    x = ndl.Tensor(np.zeros((1, N), np.float32), device=device, requires_grad=False)
    share = np.full((1, N), 1 / N)
    assert_sums(ops.softmax(x, 1).numpy(), share, share, EAGER, "float32")
    labels = ndl.Tensor(np.zeros(1, np.int64), device=device, dtype="int64", requires_grad=False)
    loss = ops.cross_entropy(x, labels).numpy()
    assert_sums(loss, np.array(np.log(N)), np.array(np.log(N)), EAGER, "float32")


def test_gradients_of_rows_and_their_norm(device):
    """A bias added to many rows, layer norm's weights, and the norm of a long gradient."""
    layer = nn.LayerNorm1d(4, device=device)
    bias = ndl.Tensor(np.zeros(4), device=device)
    x = ndl.Tensor(np.tile(np.float32([0.1, -0.1, 0.3, -0.3]), (N // 4, 1)), device=device)
    y = layer(x)
    (y + bias).backward(ndl.Tensor(VALUES.reshape(-1, 4), device=device))
    exact = np.full(4, VALUES.astype("float64").sum() / 4)
    for gradient in (bias.grad, layer.bias.grad):
        found = gradient.numpy().reshape(-1)
        assert_sums(found, exact, exact, EAGER, "float32")
    size = float(np.sqrt((VALUES.astype("float64") ** 2).sum()))
    p = ndl.Tensor(VALUES, device=device)
    p.grad = ndl.Tensor(VALUES, device=device)
    norm = optim.clip_grad_norm([p], 1.0)
    assert_sums(np.array(float(norm)), np.array(size), np.array(size), EAGER, "float32")


def test_what_is_infinite_stays_so(device):
    values = VALUES[: 2**16].copy()
    for bad, expected in (([np.inf], np.inf), ([np.inf, -np.inf], np.nan), ([3e38, 3e38], np.inf)):
        values[1000 : 1000 + 20000 * len(bad) : 20000] = bad
        for shape, axis in (((2**16,), 0), ((2**13, 8), 0), ((8, 2**13), 1)):
            x = ndl.Tensor(values.reshape(shape), device=device, requires_grad=False)
            with np.errstate(all="ignore"):
                wanted = values.reshape(shape).astype("float64").sum(axis).astype("float32")
            np.testing.assert_allclose(x.sum(axis).numpy(), wanted, rtol=EAGER * 2.0**-24)
            np.testing.assert_equal(x.sum().item(), expected)
