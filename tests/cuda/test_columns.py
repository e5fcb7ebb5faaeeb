"""Batch norm and the weights' gradients of layer norm on the GPU against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.backend_ndarray import NDArray, reference
from needle.backend_ndarray.device_cuda import columns

NAMES = ("batch_norm", "layer_norm")
SHAPES = [(1, 1), (2, 5), (700, 1), (3000, 3), (513, 32), (260, 33), (97, 100), (2100, 48)]
EPS = 1e-3


def results(run: Any, name: str, x: Any, g: Any, weight: Any, bias: Any) -> dict[str, Any]:
    """What the two kernels of a normalization leave in arrays like the operands."""
    statistics = [x[0] * 0, x[0] * 0] if name == "batch_norm" else [x[:, 0] * 0, x[:, 0] * 0]
    out, dx, dweight, dbias = (v * 0 for v in (x, x, weight, bias))
    run(name)(x, weight, bias, EPS, out, *statistics)
    options = [EPS] if name == "batch_norm" else []
    run(f"{name}_grad")(g, x, weight, *statistics, *options, dx, dweight, dbias)
    names = ("out", "mean", "spread", "dx", "dweight", "dbias")
    return dict(zip(names, (out, *statistics, dx, dweight, dbias), strict=True))


def check(
    gpu: ndl.Device, name: str, shape: tuple[int, int], dtype: str, mean: float = 0.0
) -> dict[str, np.ndarray]:
    """The results on the GPU, which are right."""
    random = np.random.RandomState(0)
    x, g = random.randn(*shape) + mean, random.randn(*shape)
    weight, bias = random.randn(shape[1]), random.randn(shape[1])
    arrays = [v.astype(dtype) for v in (x, g, weight, bias)]
    wanted = results(
        lambda kernel: getattr(reference, kernel), name, *(v.astype("float64") for v in arrays)
    )
    found = results(gpu.fused, name, *(NDArray(v, device=gpu, dtype=dtype) for v in arrays))
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for key, values in wanted.items():
        size = max(np.abs(values).max(), 1.0) * (1 + abs(mean))
        np.testing.assert_allclose(
            found[key].numpy(), values, rtol=0, atol=tolerance * size, err_msg=key
        )
    return {key: values.numpy() for key, values in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_normalization_and_its_gradients(name, shape, dtype, gpu):
    check(gpu, name, shape, dtype)


def test_a_variance_far_from_zero(gpu):
    """Its error is eps times the mean by the deviation; sums of squares would leave nothing."""
    x = np.random.RandomState(0).randn(4000, 5).astype("float32") + np.float32(1e4)
    y = np.full((4000, 1), 1e20, np.float32)
    for values, tolerance in ((x, 1e4 * 2.0**-24), (y, 0)):
        data = NDArray(values, device=gpu)
        out, (mean, var) = data * 0, (data[0] * 0 for _ in range(2))
        one = var + 1
        gpu.fused("batch_norm")(data, one, var * 0, EPS, out, mean, var)
        np.testing.assert_allclose(mean.numpy(), values.mean(0, dtype="float64"), rtol=1e-6)
        np.testing.assert_allclose(var.numpy(), values.var(0, dtype="float64"), rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_threads(name, emulated, monkeypatch):
    monkeypatch.setattr(columns, "LEAST_ROWS", 2)
    forward = check(emulated, name, (300, 37), "float32")
    for order in ("reverse", "3"):
        monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
        found = check(emulated, name, (300, 37), "float32")
        for key, values in forward.items():
            np.testing.assert_array_equal(found[key], values, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_streams_that_lag_behind(name, lazy):
    check(lazy, name, (600, 20), "float32")


def test_weights_of_no_rows_have_no_gradient(gpu):
    rows, row, column = (NDArray(np.ones(s, np.float32), device=gpu) for s in ((0, 3), (3,), (0,)))
    dweight, dbias = row + 1, row + 1
    gpu.fused("layer_norm_grad")(rows, rows, row, column, column, rows, dweight, dbias)
    assert not dweight.numpy().any()
    assert not dbias.numpy().any()


def test_a_layer_trains_as_on_the_reference_device(gpu):
    images = np.random.RandomState(0).randn(3, 4, 5, 6)

    def step(device):
        layer = nn.BatchNorm2d(4, device=device, dtype="float64")
        x = ndl.Tensor(images, device=device, dtype="float64", requires_grad=True)
        y = layer(x)
        (y**3).sum().backward()
        values = [y, x.grad, layer.weight.grad, layer.running_mean, layer.running_var]
        (grad,) = ndl.grad((layer(x) ** 3).sum(), [x])  # differentiable, by the definition
        return [v.numpy() for v in (*values, *ndl.grad((grad**2).sum(), [x, layer.weight]))]

    for a, b in zip(step(gpu), step(ndl.cpu_numpy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
