"""The table of operators in float16 and bfloat16, by themselves and under autocast."""

from __future__ import annotations

import numpy as np
import pytest
from op_table import CASES, RUNS, Case

import needle as ndl
from needle.backend_ndarray import is_float
from needle.ops import _precision as precision

# The distance of 1 and the next number, and half of the smallest number.
STORED = {"bfloat16": (2.0**-7, 2.0**-134), "float16": (2.0**-10, 2.0**-25)}
IDS = [f"{case.name} {' '.join(map(str, shapes))}".strip() for case, shapes in RUNS]
every_run = pytest.mark.parametrize(("case", "shapes"), RUNS, ids=IDS)


def value_and_gradients(case: Case, inputs: list[ndl.Tensor], dtype: str) -> list[ndl.Tensor]:
    """The result and its gradients against weights that are the same in all dtypes."""
    result = case.needle(*inputs)
    if not case.grad or not result.requires_grad:
        return [result]
    weights = np.cos(np.arange(result.size)).reshape(result.shape)
    seed = ndl.Tensor(weights, device=result.device, dtype=dtype).astype(result.dtype)
    return [result, *(g for g in ndl.grad(result, inputs, seed) if g is not None)]


def assert_near(actual: ndl.Tensor, expected: ndl.Tensor, dtype: str, rounds: int) -> None:
    a, b = (x.numpy().astype("float64") for x in (actual, expected))
    assert a.shape == b.shape
    (epsilon, smallest), largest = STORED[dtype], np.abs(b).max(initial=0.0)
    error = rounds * epsilon
    np.testing.assert_allclose(a, b, rtol=error, atol=error * largest + smallest)


@pytest.mark.parametrize("dtype", STORED)
@every_run
def test_value_and_gradients_of_stored_tensors(case, shapes, dtype, device):
    stored = [ndl.Tensor(x, device=device, dtype=dtype) for x in case.inputs(shapes)]
    wide = [ndl.Tensor(x.numpy(), device=device, dtype="float32") for x in stored]
    actual = value_and_gradients(case, stored, dtype)
    expected = value_and_gradients(case, wide, dtype)
    assert len(actual) == len(expected)
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert_near(a, b, dtype, rounds=4 if i else 1)
        if case.name != "number @ broadcast" or i:  # which adds a float32 array
            assert a.dtype == (dtype if is_float(b.dtype) else b.dtype)


@pytest.mark.parametrize("dtype", STORED)
@every_run
def test_value_and_gradients_under_autocast(case, shapes, dtype, device):
    stored = [ndl.Tensor(x, device=device, dtype=dtype) for x in case.inputs(shapes)]
    inputs = [ndl.Tensor(x.numpy(), device=device, dtype="float32") for x in stored]
    expected = value_and_gradients(case, inputs, dtype)
    with ndl.amp.autocast(dtype):
        actual = value_and_gradients(case, inputs, dtype)
    assert len(actual) == len(expected)
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert_near(a, b, dtype, rounds=4 if i else 2)
        assert a.dtype == b.dtype or (i == 0 and a.dtype == dtype)


def test_an_op_is_in_one_row_of_the_table():
    ops = [op for row in precision.TABLE.values() for op in row]
    assert len(ops) == len(set(ops))
    assert ndl.ops.SelfAttention.precision is precision.Precision.WIDE_PRODUCT
    assert ndl.ops.EWiseAdd.precision is None


@pytest.mark.parametrize("dtype", STORED)
def test_long_sums_do_not_stall(dtype, device):
    x = ndl.Tensor(np.ones((300, 300)), device=device, dtype=dtype)
    assert x.mean().item() == 1  # 300 · 300 is beyond float16
    assert ndl.ops.var(x * 300, 1).sum().item() == 0
    assert ndl.ops.norm(x * 256).dtype == dtype
    labels = np.zeros(300, "int64")
    loss = ndl.ops.cross_entropy(x, labels)
    np.testing.assert_allclose(loss.item(), np.log(300), rtol=STORED[dtype][0])


@pytest.mark.parametrize("mode", ["stored", "autocast"])
@pytest.mark.parametrize("case", [c for c in CASES if c.grad], ids=lambda c: c.name)
def test_gradients_of_gradients(case, mode):
    """Conversions are part of what is differentiated a second time."""
    device, found = ndl.cpu_numpy(), []
    for dtype in ("float16", "float32"):
        stored = [
            ndl.Tensor(x, device=device, dtype="float16") for x in case.inputs(case.shapes[0])
        ]
        kept = "float32" if mode == "autocast" else dtype
        inputs = [ndl.Tensor(x.numpy(), device=device, dtype=kept) for x in stored]
        with ndl.amp.autocast("float16", enabled=mode == "autocast" and dtype == "float16"):
            result = case.needle(*inputs)
            weights = np.random.RandomState(3).rand(*result.shape)
            seed = ndl.Tensor(weights, device=device, dtype=result.dtype, requires_grad=False)
            first = ndl.grad((result * result * seed).sum(), inputs)
            total = sum((g * g).astype("float32").sum() for g in first if g is not None)
        found.append([None if g is None else g.numpy() for g in ndl.grad(total, inputs)])
    for low, wide in zip(*found, strict=True):
        assert (low is None) == (wide is None)
        if low is not None and np.abs(wide).max(initial=0.0) < 1e3:
            scale = max(1.0, np.abs(wide).max(initial=0.0))
            np.testing.assert_allclose(low, wide, rtol=0.02, atol=0.02 * scale)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("case", [c for c in CASES if c.torch], ids=lambda c: c.name)
def test_against_torch(case, dtype):
    torch = pytest.importorskip("torch")
    arrays = case.inputs(case.shapes[0])
    ours = [ndl.Tensor(x, dtype=dtype) for x in arrays]
    theirs = [torch.tensor(x).to(getattr(torch, dtype)) for x in arrays]
    try:
        expected = case.torch(*theirs)
    except RuntimeError as error:
        pytest.skip(f"PyTorch has no such kernel: {error}")
    result = case.needle(*ours)
    assert f"torch.{result.dtype}" == str(expected.dtype)
    # PyTorch rounds between the steps of some of them.
    assert_near(result, ndl.Tensor(expected.float().numpy()), dtype, rounds=4)
