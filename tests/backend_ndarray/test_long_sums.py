"""Sums of millions of numbers are as right as sums of a few, on every device and in compiled code.

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
from needle.jit.runtime.compiler import NoCompiler, find_compiler

N = 2**22
# Roundings: of equal numbers half as many as are added one after the other.
ROUNDINGS = 40
# In compiled code the lanes of a vector share 1024 numbers (STRETCH in jit/codegen/cpp_loops.py):
# 64 for each of 16 lanes, 256 where the processor's compiler prefers vectors of 4.
COMPILED_ROUNDINGS = 128
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
    assert_sums(view(x).sum(axes).numpy(), exact, exact, ROUNDINGS, "float32")
    count = view(values).size // exact.size
    assert_sums(ops.mean(view(x), axes).numpy(), exact / count, exact / count, ROUNDINGS, "float32")


@pytest.mark.parametrize("shape", [(N,), (N // 4, 4), (2, N // 2)], ids=str)
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sums(shape, axis, device):
    values = VALUES.reshape(shape)
    exact = np.cumsum(values.astype("float64"), axis)
    found = ndl.Tensor(values, device=device).cumsum(axis).numpy()
    assert_sums(found, exact, exact, ROUNDINGS, "float32")


def moments(x: ndl.Tensor) -> list[ndl.Tensor]:
    layer = nn.BatchNorm1d(x.shape[1], momentum=1.0, device=x.device)
    layer(x)
    return [layer.running_mean, layer.running_var]


def test_moments_of_a_batch(device):
    """Half of each column is 0.1, half 0.3."""
    values = np.tile(np.float32([[0.1], [0.3]]), (N // 16, 8)).astype("float32")
    mean, var = moments(ndl.Tensor(values, device=device, requires_grad=False))
    wide = values.astype("float64")
    assert_sums(mean.numpy(), wide.mean(0), wide.mean(0), ROUNDINGS, "float32")
    # The deviations have the error of the mean, and the variance is unbiased or not.
    assert_sums(var.numpy(), wide.var(0), wide.var(0), 4 * ROUNDINGS, "float32")


def test_softmax_of_a_long_row(device):
    x = ndl.Tensor(np.zeros((1, N), np.float32), device=device, requires_grad=False)
    share = np.full((1, N), 1 / N)
    assert_sums(ops.softmax(x, 1).numpy(), share, share, ROUNDINGS, "float32")
    labels = ndl.Tensor(np.zeros(1, np.int64), device=device, dtype="int64", requires_grad=False)
    loss = ops.cross_entropy(x, labels).numpy()
    assert_sums(loss, np.array(np.log(N)), np.array(np.log(N)), ROUNDINGS, "float32")


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
        assert_sums(found, exact, exact, ROUNDINGS, "float32")
    size = float(np.sqrt((VALUES.astype("float64") ** 2).sum()))
    p = ndl.Tensor(VALUES, device=device)
    p.grad = ndl.Tensor(VALUES, device=device)
    norm = optim.clip_grad_norm([p], 1.0)
    assert_sums(np.array(float(norm)), np.array(size), np.array(size), ROUNDINGS, "float32")


def repeats() -> tuple[np.ndarray, np.ndarray]:
    """An index that names some of five rows very often, one of them from the end, and how often."""
    index = np.full(2**20, 3, np.int64)
    index[::3], index[1::1000], index[2] = 0, -3, 1
    return index, np.bincount(index % 5, minlength=5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_of_rows_that_repeat(dtype, device):
    index, counts = repeats()
    x = ndl.Tensor(np.zeros((5, 3)), device=device, dtype=dtype)
    labels = ndl.Tensor(index, device=device, dtype="int64", requires_grad=False)
    value = float(np.asarray(ndl.Tensor([2.0**-8 / 3], device=device, dtype=dtype).item()))
    exact = np.repeat(value * counts[:, None], 3, 1)
    for key in (labels, index, (index, slice(None))):
        gradient = ndl.Tensor(np.full((len(index), 3), value), device=device, dtype=dtype)
        (found,) = ndl.grad(x[key], [x], gradient)
        assert_sums(found.numpy(), exact, exact, ROUNDINGS, dtype)


def test_what_is_infinite_stays_so(device):
    values = VALUES[: 2**16].copy()
    for bad, expected in (([np.inf], np.inf), ([np.inf, -np.inf], np.nan), ([3e38, 3e38], np.inf)):
        values[1000 : 1000 + 20000 * len(bad) : 20000] = bad
        for shape, axis in (((2**16,), 0), ((2**13, 8), 0), ((8, 2**13), 1)):
            x = ndl.Tensor(values.reshape(shape), device=device, requires_grad=False)
            with np.errstate(all="ignore"):
                wanted = values.reshape(shape).astype("float64").sum(axis).astype("float32")
            np.testing.assert_allclose(x.sum(axis).numpy(), wanted, rtol=ROUNDINGS * 2.0**-24)
            np.testing.assert_equal(x.sum().item(), expected)


# ---- compiled code ------------------------------------------------------------------------------

try:
    find_compiler()
    COMPILES = ndl.cpu().enabled()
except NoCompiler:
    COMPILES = False
compiled = pytest.mark.skipif(not COMPILES, reason="the C++ core or a compiler is missing")


def run(function: Callable[..., Any], *arrays: np.ndarray, dtype: str = "float32") -> Any:
    """What a compiled function returns for constants of these arrays."""
    step = ndl.jit(function)
    found = step(*(ndl.Tensor(x, dtype=dtype, requires_grad=False) for x in arrays))
    assert step.source()
    return found


def assert_right(found: ndl.Tensor, exact: Any, roundings: int = COMPILED_ROUNDINGS) -> None:
    exact = np.broadcast_to(np.asarray(exact, "float64"), found.shape)
    assert_sums(np.asarray(found.numpy(), "float64"), exact, exact, roundings, found.dtype.name)


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_compiled_sums(dtype):
    """Of what a loop computes, so that the loop adds as well, in float32 whatever is stored."""

    def means(x: ndl.Tensor) -> list[ndl.Tensor]:
        found = []
        for shape, view, axes in VIEWS.values():
            part = view(x.reshape(shape)).to("float32")
            found.append(ops.mean(part * 2, axes))
        return found

    twice = 2 * float(np.asarray(ndl.Tensor(VALUES[:1], dtype=dtype).numpy(), "float64")[0])
    for found in run(means, VALUES, dtype=dtype):
        assert_right(found, twice)


@compiled
def test_compiled_totals_of_constants():
    """How the roundings add up depends on the number that is summed."""
    step = ndl.jit(lambda x: x.sum())
    for number in np.linspace(0.1, 1, 23, dtype="float32"):
        total = step(ndl.Tensor(np.full(N, number), requires_grad=False))
        assert_right(total, N * float(number), 25)


@compiled
def test_compiled_sums_of_other_shapes():
    """Stretches and groups that do not come out even, axes that cannot be joined, a sum of values
    of rows, and whole numbers, which have no roundings."""
    long, odd = 2**20 + 77, 2**19 + 5

    def sums(x: ndl.Tensor) -> list[ndl.Tensor]:
        row = x[:long].reshape((1, long))
        wide = x[: 3 * 1031 * 1021].reshape((3, 1031, 1021))
        part = wide[:, 1:, :1020] * 2
        columns = x[: 3 * odd].reshape((odd, 3)) * 2
        squares = (columns.sum((1,)) ** 2).sum()
        return [
            (row * 2).sum((1,)) / long,
            (x[:long] * 2).sum() / long,
            part.sum((1, 2)) / (1030 * 1020),
            part.sum((0, 1)) / (3 * 1030),
            part.sum((0, 2)) / (3 * 1020),
            columns.sum((0,)) / odd,
            (columns + 0.0).sum((0, 1)) / (3 * odd),
            squares / (18 * odd * float(VALUES[0])),
        ]

    for found in run(sums, VALUES):
        assert_right(found, 2 * float(VALUES[0]))
    whole = np.full(2**18 + 1, 2**40 + 1, np.int64)
    total = run(lambda x: (x * 2).sum(), whole, dtype="int64")
    assert total.item() == 2 * whole.sum()


@compiled
def test_compiled_deviations():
    """Variances, standard deviations, norms and the logarithm of a sum of exponentials."""
    values = np.tile(np.float32([[0.1], [0.3]]), (N // 16, 8))
    wide = values.astype("float64")

    def deviations(x: ndl.Tensor) -> tuple[ndl.Tensor, ...]:
        line = x.reshape((1, N))
        return (
            ops.var(x, 0),
            ops.var(line, 1),
            ops.var(x),
            ops.norm(x),
            ops.norm(x, axes=0),
            ops.logsumexp(line * 0.0, (1,)),
            ops.logsumexp(x * 0.0, (0,)),
            ops.softmax(line * 0.0, 1)[0, :3],
        )

    columns, row, total, size, sizes, log, logs, shares = run(deviations, values)
    assert_right(columns, wide.var(0, ddof=1), 4 * ROUNDINGS)
    assert_right(row, wide.var(ddof=1), 4 * ROUNDINGS)
    assert_right(total, wide.var(ddof=1), 4 * ROUNDINGS)
    assert_right(size, np.sqrt((wide**2).sum()))
    assert_right(sizes, np.sqrt((wide**2).sum(0)))
    assert_right(log, np.log(N))
    assert_right(logs, np.log(N // 8))
    assert_right(shares, 1 / N)


@compiled
def test_compiled_running_sums():
    lanes = [((N,), 0), ((N // 4, 4), 0), ((2, N // 2), 1), ((2, N // 2), 0)]
    found = run(lambda x: [(x.reshape(shape) * 2).cumsum(axis) for shape, axis in lanes], VALUES)
    for sums, (shape, axis) in zip(found, lanes, strict=True):
        assert_right(sums, 2 * np.cumsum(VALUES.reshape(shape).astype("float64"), axis))


@compiled
def test_compiled_moments_of_a_batch():
    """Of a matrix, and of what a product and a convolution make: their blocks are summed as soon
    as they are computed."""
    values = np.tile(np.float32([[0.1], [0.3]]), (2**18, 8))
    images = values.reshape(128, 64, 64, 8)
    wide = values.astype("float64")
    mean, variance = wide.mean(0), wide.var(0, ddof=1)
    identity = ndl.Tensor(np.eye(8), requires_grad=False)
    plain, after_product = (nn.BatchNorm1d(8, momentum=1.0) for _ in range(2))
    after_convolution = nn.BatchNorm2d(8, momentum=1.0)
    kernel = ndl.Tensor(np.eye(8).reshape(1, 1, 8, 8), requires_grad=False)

    def step(x: ndl.Tensor, image: ndl.Tensor) -> tuple[ndl.Tensor, ...]:
        y = ops.conv(image, kernel, padding=0)
        return (
            plain(x).sum(),
            after_product(x @ identity).sum(),
            after_convolution(y.transpose((1, 3)).transpose((2, 3))).sum(),
        )

    run(step, values, images)
    for layer in (plain, after_product, after_convolution):
        assert_right(layer.running_mean, mean)
        assert_right(layer.running_var, variance, 4 * ROUNDINGS)


@compiled
def test_compiled_gradients_and_their_norm():
    """Biases added to many rows, before a product and after; layer norm's weights; the norm."""
    rows, width = 2**18, 16
    bias, hidden, last = (ndl.Tensor(np.zeros(width)) for _ in range(3))
    layer = nn.LayerNorm1d(width, eps=0.0)
    identity = ndl.Tensor(np.eye(width), requires_grad=False)
    p = ndl.Tensor(VALUES)

    def step(x: ndl.Tensor, g: ndl.Tensor, long: ndl.Tensor) -> ndl.Tensor:
        y = ops.relu(x + hidden) @ identity + last
        ((layer(x) + bias + y) * g).sum().backward()
        p.grad = long * 2
        return optim.clip_grad_norm([p], 1.0)

    x = np.tile(np.float32([0.1, 0.3]), (rows, width // 2))
    g = VALUES[: rows * width].reshape(rows, width)
    norm = run(step, x, g, VALUES)
    for found in (bias.grad, hidden.grad, last.grad, layer.bias.grad):
        assert_right(found, g.astype("float64").sum(0))
    assert_right(layer.weight.grad.abs(), g.astype("float64").sum(0), 4 * ROUNDINGS)
    size = 2 * float(VALUES[0]) * np.sqrt(N)
    assert float(norm) == pytest.approx(size, rel=ROUNDINGS * 2.0**-23)


@compiled
def test_compiled_gradients_of_rows_that_repeat():
    index, counts = repeats()
    table = nn.Embedding(5, 3)

    def step(x: ndl.Tensor, g: ndl.Tensor) -> ndl.Tensor:
        (table(x) * g).sum().backward()
        return table.weight.grad

    labels = ndl.Tensor(index.reshape(-1, 4) % 5, dtype="int64", requires_grad=False)
    g = ndl.Tensor(np.full((*labels.shape, 3), VALUES[0]), requires_grad=False)
    compiled_step = ndl.jit(step)
    found = compiled_step(labels, g)
    assert compiled_step.source()
    assert_right(found, np.repeat(float(VALUES[0]) * counts[:, None], 3, 1))


@compiled
def test_what_is_infinite_stays_so_in_compiled_code():
    values = VALUES[: 2**16].copy()

    def sums(x: ndl.Tensor) -> list[ndl.Tensor]:
        shapes = ((2**16,), (0,)), ((2**13, 8), (0,)), ((8, 2**13), (1,))
        return [(x.reshape(shape) * 2).sum(axes) for shape, axes in shapes]

    for bad in ([np.inf], [np.inf, -np.inf], [1.5e38, 1.5e38]):
        values[1000 : 1000 + 20000 * len(bad) : 20000] = bad
        with np.errstate(all="ignore"):
            wide = 2 * values.astype("float64")
            exact = (wide.sum(), wide.reshape(-1, 8).sum(0), wide.reshape(8, -1).sum(1))
            wanted = [np.float32(x) for x in exact]
        for found, total in zip(run(sums, values), wanted, strict=True):
            np.testing.assert_allclose(found.numpy(), total, rtol=ROUNDINGS * 2.0**-24)
