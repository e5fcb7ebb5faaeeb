"""Convolution and its gradients on the GPU against their definition in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.cuda import convolution
from needle.jit import reference

NAMES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
# Image (N, H, W, C), kernel (KH, KW), O; stride, dilation, padding before and after, groups.
CASES = [
    ((2, 5, 6, 3), (3, 3), 4, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    ((3, 9, 8, 9), (3, 2), 20, (2, 3), (1, 2), ((0, 2), (1, 0)), 1),
    ((1, 11, 13, 4), (4, 5), 6, (3, 1), (2, 1), ((2, 0), (0, 3)), 2),
    ((2, 7, 7, 5), (3, 3), 5, (2, 2), (1, 1), ((1, 1), (1, 1)), 5),
    ((2, 8, 9, 17), (1, 1), 70, (1, 1), (1, 1), ((0, 0), (0, 0)), 1),
    ((1, 3, 4, 2), (5, 5), 3, (1, 1), (1, 1), ((4, 4), (4, 4)), 1),
    ((1, 1, 1, 140), (3, 3), 130, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    ((40, 9, 7, 2), (2, 2), 34, (1, 2), (1, 1), ((0, 0), (1, 1)), 2),
    ((0, 5, 5, 2), (3, 3), 4, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    ((2, 5, 5, 0), (3, 3), 4, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    ((2, 5, 5, 2), (3, 3), 0, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
]


def operands(case: Any, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is given, and an array for what is computed."""
    image, kernel, filters, stride, dilation, padding, groups = case
    size = [
        (image[1 + i] + sum(padding[i]) - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    random = np.random.RandomState(0)
    x, w, y = (
        random.randn(*shape).astype(dtype)
        for shape in (image, (*kernel, image[3] // groups, filters), (image[0], *size, filters))
    )
    return {"conv2d": (x, w, y), "conv2d_input_grad": (y, w, x), "conv2d_weight_grad": (x, y, w)}[
        name
    ]


def check(gpu: ndl.Device, case: Any, name: str, dtype: str, planes: bool = False) -> np.ndarray:
    """The result on the GPU, which is right; the image as planes, one a channel, if `planes`."""
    a, b, out = operands(case, name, dtype)
    *_, stride, dilation, padding, groups = case
    geometry = stride, dilation, (padding[0][0], padding[1][0]), groups
    wanted = np.empty_like(out)
    getattr(reference, name)(a, b, wanted, *geometry)
    x, y, result = (NDArray(v, device=gpu, dtype=dtype) for v in (a, b, np.full_like(out, np.nan)))
    if planes:
        x = x.permute((0, 3, 1, 2)).compact().permute((0, 2, 3, 1))
    gpu.fused(name)(x, y, result, *geometry)
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(result.numpy(), wanted, rtol=tolerance, atol=tolerance)
    return result.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_and_its_gradients(case, name, dtype, gpu):
    check(gpu, case, name, dtype)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_weight_grad"])
def test_images_of_planes(name, gpu):
    check(gpu, CASES[2], name, "float32", planes=True)


def test_gradients_of_no_pixels_are_zero(gpu):
    image, kernel, grads = (
        NDArray(np.ones(shape, np.float32), device=gpu)
        for shape in ((2, 3, 3, 2), (2, 2, 2, 4), (2, 0, 3, 4))
    )
    geometry = (1, 1), (1, 1), (0, 0), 1
    gpu.fused("conv2d_weight_grad")(image, grads, kernel, *geometry)
    gpu.fused("conv2d_input_grad")(grads, kernel, image, *geometry)
    assert not kernel.numpy().any()
    assert not image.numpy().any()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_threads(name, emulated, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 64)  # parts of a sum
    for case in (CASES[1], CASES[7]):
        forward = check(emulated, case, name, "float32")
        for order in ("reverse", "3"):
            monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
            np.testing.assert_array_equal(check(emulated, case, name, "float32"), forward)
        monkeypatch.delenv("NEEDLE_EMULATOR_ORDER")


def test_streams_that_lag_behind(lazy, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 64)
    for name in NAMES:
        check(lazy, CASES[7], name, "float32")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_op_has_the_numbers_of_the_reference_device(dtype, compiled, gpu):
    def gradients(x, w):
        y = ndl.ops.conv(x, w, (2, 1), ((1, 0), (2, 1)), 1, 2)
        return [y, *ndl.grad((y * y).sum(), [x, w])]

    random = np.random.RandomState(0)
    arrays = random.randn(2, 6, 7, 4), random.randn(3, 3, 2, 6)

    def results(device, function):
        given = [ndl.Tensor(v, device=device, dtype=dtype, requires_grad=True) for v in arrays]
        return [v.astype("float64").numpy() for v in function(*given)]

    ours = results(gpu, ndl.jit(gradients) if compiled else gradients)
    tolerance = {"float32": 1e-4, "float64": 1e-10}.get(dtype, 4e-2)
    for a, b in zip(ours, results(ndl.cpu_numpy(), gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
