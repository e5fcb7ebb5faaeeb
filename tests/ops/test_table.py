"""Every operator of the table: values, layouts, first and second gradients, PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import check_gradients
from op_table import CASES, RUNS, Case

import needle as ndl

IDS = [f"{case.name} {' '.join(map(str, shapes))}".strip() for case, shapes in RUNS]
# A few dozen roundings: float32 2⁻²⁴ ≈ 6e-8, float64 2⁻⁵³ ≈ 1e-16. 1e-6 and 1e-14 absolute where
# sums cancel.
TOLERANCES = {
    "float32": {"rtol": 4e-6, "atol": 2e-6},
    "float64": {"rtol": 1e-13, "atol": 1e-13},
}
every_run = pytest.mark.parametrize(("case", "shapes"), RUNS, ids=IDS)


def tensors(arrays, device, dtype="float64"):
    return [ndl.Tensor(x, device=device, dtype=dtype) for x in arrays]


def spread(x: np.ndarray, device, dtype) -> ndl.Tensor:
    """The same values in a layout with gaps, reversed and transposed."""
    wide = np.zeros(tuple(2 * n for n in reversed(x.shape)))
    view = wide[(slice(None, None, -2),) * x.ndim].transpose() if x.ndim else wide
    view[...] = x
    data = ndl.Tensor(wide, device=device, dtype=dtype).realize_cached_data()
    if x.ndim:
        data = data[(slice(None, None, -2),) * x.ndim].transpose()
    assert x.size < 2 or x.ndim == 0 or not data.is_compact()
    return ndl.Tensor.make_const(data, requires_grad=True)


def assert_value(actual: ndl.Tensor, expected: np.ndarray, dtype: str) -> None:
    assert isinstance(actual, ndl.Tensor)
    assert actual.shape == np.shape(expected)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual.numpy(), expected, **TOLERANCES[dtype])


@every_run
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value(case: Case, shapes, dtype, device):
    arrays = [x.astype(dtype).astype("float64") for x in case.inputs(shapes)]
    inputs = tensors(arrays, device, dtype)
    result = case.needle(*inputs)
    assert result.device == device
    assert_value(result, case.numpy(*arrays), dtype)
    for x, array in zip(inputs, arrays, strict=True):
        np.testing.assert_array_equal(x.numpy(), array, err_msg="the op changed its input")


@every_run
def test_value_and_gradient_of_strided_inputs(case: Case, shapes, device):
    arrays = case.inputs(shapes)
    inputs = [spread(x, device, "float64") for x in arrays]
    result = case.needle(*inputs)
    assert_value(result, case.numpy(*arrays), "float64")
    if not case.grad:
        return
    compact = tensors(arrays, device)
    case.needle(*compact).sum().backward()
    result.sum().backward()
    for x, y in zip(inputs, compact, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12, atol=1e-12)


@every_run
def test_gradient(case: Case, shapes, device):
    if not case.grad:
        inputs = [ndl.Tensor(x, device=device, dtype="float64") for x in case.inputs(shapes)]
        result = case.needle(*inputs)
        if result.requires_grad:
            result.backward(ndl.ones_like(result))
            assert [x.grad.shape for x in inputs] == [x.shape for x in inputs]
        return
    check_gradients(case.needle, case.inputs(shapes), device)


@pytest.mark.parametrize("case", [c for c in CASES if c.grad], ids=lambda c: c.name)
def test_gradient_of_the_gradient(case: Case):
    """The derivative along a direction of the first gradient, on the reference device."""
    device = ndl.cpu_numpy()
    arrays = case.inputs(case.shapes[0])

    def first_gradients(*inputs: ndl.Tensor) -> ndl.Tensor:
        with ndl.enable_grad():
            live = [x if x.requires_grad else ndl.Tensor(x) for x in inputs]
            result = case.needle(*live)
            weights = np.random.RandomState(3).randn(*result.shape)
            seed = ndl.Tensor(weights, device=device, dtype="float64", requires_grad=False)
            # The squares make the result depend on its inputs even where the op is linear.
            total = (result * result * seed).sum()
            return sum((g * g).sum() for g in ndl.grad(total, live))

    check_gradients(first_gradients, arrays, device, tolerance=2e-4)


@pytest.mark.parametrize(
    ("case", "shapes"),
    [run for run in RUNS if run[0].torch],
    ids=[name for run, name in zip(RUNS, IDS, strict=True) if run[0].torch],
)
def test_against_torch(case: Case, shapes, device):
    torch = pytest.importorskip("torch")
    arrays = case.inputs(shapes)
    ours = tensors(arrays, device, "float32")
    theirs = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays]
    result, expected = case.needle(*ours), case.torch(*theirs)
    assert_value(result, expected.detach().numpy(), "float32")
    weights = np.asarray(np.random.RandomState(1).randn(*result.shape), dtype="float32")
    result.backward(ndl.Tensor(weights, device=device))
    expected.backward(torch.tensor(weights))
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=2e-5, atol=1e-5)
