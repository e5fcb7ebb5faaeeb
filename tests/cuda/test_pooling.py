"""Pooling and its gradients on the GPU against their definitions, in NumPy and in simpler ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, ops
from needle.backend_ndarray import NDArray, reference

# Image (N, H, W, C), kernel, stride, dilation, padding.
CASES = [
    ((2, 4, 6, 3), (2, 2), (2, 2), (1, 1), (0, 0)),
    ((1, 7, 8, 5), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 5, 5, 2), (3, 2), (1, 3), (1, 1), (1, 1)),
    ((1, 9, 11, 2), (2, 3), (2, 1), (3, 2), (1, 0)),
    ((1, 3, 3, 2), (2, 2), (3, 3), (2, 2), (1, 1)),  # windows of padding alone
    ((1, 6, 7, 70), (5, 6), (1, 1), (1, 1), (2, 3)),
    ((0, 4, 4, 2), (2, 2), (2, 2), (1, 1), (0, 0)),
]
EXTREMES = [np.nan, -np.inf, np.inf, 0.0, -0.0]


def images(shape: Any, dtype: str, seed: int = 0) -> np.ndarray:
    """Few different numbers, so that there are ties."""
    return np.random.RandomState(seed).randint(-2, 3, shape).astype(dtype)


def results(run: Any, blank: Any, case: Any, x: Any, g: Any) -> list[Any]:
    """What the four kernels leave in arrays that `blank(shape)` makes."""
    out, ties, means = (blank(g.shape) for _ in range(3))
    dx, spread = (blank(x.shape) for _ in range(2))
    run("max_pool2d")(x, out, ties, *case[1:])
    run("max_pool2d_grad")(g, x, out, ties, dx, *case[1:])
    run("avg_pool2d")(x, means, *case[1:])
    run("avg_pool2d_grad")(g, spread, *case[1:])
    return [out, ties, dx, means, spread]


def check(gpu: ndl.Device, case: Any, dtype: str, x: np.ndarray) -> list[np.ndarray]:
    """The results on the GPU, which are right, also for images of planes."""
    size = ops.Window(*case[1:]).out_size(x.shape[1:3])
    g = images((x.shape[0], *size, x.shape[3]), dtype, 1)
    wanted = results(
        lambda name: getattr(reference, name),
        np.empty,
        case,
        *(v.astype("float64") for v in (x, g)),
    )
    blank = lambda shape: gpu.full(shape, 7, dtype)  # noqa: E731
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for planes in (True, False):
        image, grad = (NDArray(v, device=gpu, dtype=dtype) for v in (x, g))
        if planes:
            image = image.permute((0, 3, 1, 2)).compact().permute((0, 2, 3, 1))
        found = [v.numpy() for v in results(gpu.fused, blank, case, image, grad)]
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pooling_and_its_gradients(case, dtype, gpu):
    check(gpu, case, dtype, images(case[0], dtype))


@pytest.mark.parametrize("case", CASES[:5], ids=str)
@pytest.mark.parametrize("value", EXTREMES, ids=str)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_extremes(value, case, gpu):
    x = images(case[0], "float32")
    x[:, ::2, 1::3] = value
    check(gpu, case, "float32", x)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("value", EXTREMES, ids=str)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_ops_share_gradients_as_their_definitions(value, compiled, gpu):
    x = images((2, 5, 6, 3), "float32")
    x[0, 1:4] = value
    x[1, 2, 3] = value

    def gradients(x):
        y = ops.max_pool2d(x, 3, 2, 1, layout="NHWC")
        z = ops.avg_pool2d(x, (2, 3), 1, 1, layout="NHWC")
        return [y, z, *ndl.grad((y * 3).sum() + (z * z).sum(), [x])]

    def values(device, function):
        given = ndl.Tensor(x, device=device, requires_grad=True)
        return [v.numpy() for v in function(given)]

    found = values(gpu, ndl.jit(gradients) if compiled else gradients)
    for a, b in zip(found, values(ndl.cpu_numpy(), gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32"])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_dtypes_are_kept_as_on_the_reference_device(name, dtype, gpu):
    x = images((2, 5, 6, 3), "float32")
    ours, wanted = (
        getattr(ops, name)(ndl.Tensor(x, device=device, dtype=dtype), 3, 2, 1)
        for device in (gpu, ndl.cpu_numpy())
    )
    assert ours.dtype == wanted.dtype
    a, b = (v.astype("float64").numpy() for v in (ours, wanted))
    np.testing.assert_allclose(a, b, rtol=2.0**-7)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(2)])
def test_layers_and_second_gradients(pool, gpu):
    images = np.random.RandomState(0).randn(2, 3, 6, 4)

    def step(device):
        x = ndl.Tensor(images, device=device, dtype="float64", requires_grad=True)
        (pool(x) ** 3).sum().backward()
        (grad,) = ndl.grad((pool(x) ** 3).sum(), [x])  # differentiable
        return [v.numpy() for v in (x.grad, grad, *ndl.grad((grad**2).sum(), [x]))]

    for a, b in zip(step(gpu), step(ndl.cpu_numpy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_order_of_threads(emulated, monkeypatch):
    case = CASES[1]
    x = images(case[0], "float32")
    forward = check(emulated, case, "float32", x)
    for order in ("reverse", "3"):
        monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
        for a, b in zip(check(emulated, case, "float32", x), forward, strict=True):
            np.testing.assert_array_equal(a, b)
