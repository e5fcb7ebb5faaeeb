"""Convolution and its gradients on the GPU against their definition in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ops import test_sizes as sizes

import needle as ndl
from needle.backend_ndarray import NDArray, reference
from needle.backend_ndarray.device_cuda import convolution
from needle.jit.frontend.trace import Tracing
from needle.jit.ir.evaluate import evaluate

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
    # Channels in packs of 16 bytes.
    ((2, 7, 6, 16), (3, 3), 40, (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    ((3, 8, 7, 48), (2, 3), 16, (2, 1), (1, 2), ((1, 0), (1, 1)), 2),
    ((1, 12, 13, 8), (3, 3), 72, (3, 2), (2, 3), ((2, 2), (3, 3)), 1),
    ((3, 9, 8, 40), (3, 3), 40, (2, 1), (1, 2), ((1, 1), (2, 2)), 40),
    ((2, 6, 6, 16), (1, 1), 136, (2, 2), (1, 1), ((0, 0), (0, 0)), 1),
]
# What is given is rounded to so many bits of a float32's 23; what two sums may differ by.
BITS = {"float16": (10, 2e-3), "bfloat16": (7, 2e-2), "TF32": (10, 1e-5), "float32": (23, 2e-4)}


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


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """x with so many bits after the first one."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(fraction, bits + 1)), exponent - bits - 1)


def check(gpu: ndl.Device, case: Any, name: str, dtype: str, planes: bool = False) -> np.ndarray:
    """The result on the GPU, which is right; the image as planes, one a channel, if `planes`."""
    a, b, out = operands(case, name, "float64")
    *_, stride, dilation, padding, groups = case
    geometry = stride, dilation, (padding[0][0], padding[1][0]), groups
    bits, tolerance = BITS.get(dtype, (52, 1e-11))
    a, b = (v if bits == 52 else rounded(v, bits) for v in (a, b))
    wanted = np.empty_like(out)
    getattr(reference, name)(a, b, wanted, *geometry)
    one_by_one = groups > 1 and out.shape[3] // groups < convolution.NARROWEST
    if dtype == "TF32" and not one_by_one:  # give bits that must be rounded off
        a, b = (v * (1 + 2.0**-13) for v in (a, b))
    stored = {"TF32": "float32"}.get(dtype, dtype)
    x, y, result = (NDArray(v, device=gpu, dtype=stored) for v in (a, b, np.full_like(out, np.nan)))
    if planes:
        x = x.permute((0, 3, 1, 2)).compact().permute((0, 2, 3, 1))
    gpu.allow_tf32 = dtype == "TF32"
    try:
        gpu.fused(name)(x, y, result, *geometry)
    finally:
        gpu.allow_tf32 = False
    found = result.astype("float64").numpy()
    np.testing.assert_allclose(
        found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max(initial=1)
    )
    return found


@pytest.mark.parametrize("dtype", [*BITS, "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_and_its_gradients(case, name, dtype, gpu):
    check(gpu, case, name, dtype)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_weight_grad"])
def test_images_of_planes(name, gpu):
    check(gpu, CASES[2], name, "float32", planes=True)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_no_pixels_are_zero(groups, gpu):
    image, kernel, grads = (
        NDArray(np.ones(shape, np.float32), device=gpu)
        for shape in ((2, 3, 3, 2), (2, 2, 2 // groups, 4), (2, 0, 3, 4))
    )
    geometry = (1, 1), (1, 1), (0, 0), groups
    gpu.fused("conv2d_weight_grad")(image, grads, kernel, *geometry)
    gpu.fused("conv2d_input_grad")(grads, kernel, image, *geometry)
    assert not kernel.numpy().any()
    assert not image.numpy().any()


@pytest.mark.parametrize("dtype", ["float32", "TF32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_threads(name, dtype, emulated, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 64)  # parts of a sum
    for case in (CASES[1], CASES[7], CASES[12]):
        forward = check(emulated, case, name, dtype)
        for order in ("reverse", "3"):
            monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
            np.testing.assert_array_equal(check(emulated, case, name, dtype), forward)
        monkeypatch.delenv("NEEDLE_EMULATOR_ORDER")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streams_that_lag_behind(dtype, lazy, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 64)
    for name in NAMES:
        check(lazy, CASES[7], name, dtype)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_strides_and_dilations(seed, groups, gpu):
    random = np.random.RandomState(seed)
    for _ in range(6):
        kernel, stride, dilation = (
            tuple(int(n) for n in random.randint(1, 5, 2)) for _ in range(3)
        )
        before, after = random.randint(0, 4, (2, 2))
        image = [
            max(dilation[i] * (kernel[i] - 1) + 1 - before[i] - after[i], 1) + random.randint(6)
            for i in (0, 1)
        ]
        padding = tuple((int(b), int(a)) for b, a in zip(before, after, strict=True))
        case = (2, *map(int, image), 4), kernel, 2, stride, dilation, padding, groups
        for name in NAMES:
            check(gpu, case, name, "float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_offsets_of_64_bits(name, dtype, gpu, monkeypatch):
    monkeypatch.setattr(convolution, "_reach", lambda x: 2**31)
    for case in (CASES[1], CASES[12]):
        check(gpu, case, name, dtype)


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


def test_16_bit_numbers_without_tensor_cores(emulated, monkeypatch):
    monkeypatch.setattr(emulated.context, "capability", (7, 5))
    x = ndl.Tensor(np.ones((1, 3, 3, 2)), device=emulated, dtype="bfloat16")
    w = ndl.Tensor(np.ones((3, 3, 2, 4)), device=emulated, dtype="bfloat16")
    y = ndl.ops.conv(x, w)
    assert y.dtype == "bfloat16"
    np.testing.assert_array_equal(
        y.astype("float32").numpy()[0, :, :, 0], [[8, 12, 8], [12, 18, 12], [8, 12, 8]]
    )


def test_images_that_begin_inside_of_a_pack(gpu):
    x, w = (ndl.Tensor(v, device=gpu) for v in (np.ones((2, 4, 4, 16)), np.ones((3, 3, 8, 8))))
    shifted = ndl.ops.conv(x[:, :, :, 1:9], w)
    np.testing.assert_array_equal(shifted.numpy(), ndl.ops.conv(x[:, :, :, :8], w).numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_graphs_of_16_bit_convolutions_mean_the_same(dtype, gpu):
    def gradients(x, w):
        y = ndl.ops.conv(x, w)
        return [y, *ndl.grad((y * y).sum(), [x, w])]

    random = np.random.RandomState(0)
    x, w = (
        ndl.Tensor(random.randn(*shape), device=gpu, dtype=dtype, requires_grad=True)
        for shape in ((2, 5, 5, 3), (3, 3, 3, 4))
    )
    graph = Tracing().run(gradients, [x, w], {}, [x, w]).graph
    assert {"conv2d", "conv2d_input_grad", "conv2d_weight_grad"} <= {n.op for n in graph.nodes}
    meant, _ = evaluate(graph, [v.astype("float32").numpy() for v in (x, w)], [])
    for ours, theirs in zip(gradients(x, w), meant, strict=True):
        found = ours.astype("float32").numpy()
        np.testing.assert_allclose(found, theirs, rtol=3e-2, atol=3e-2 * np.abs(found).max())


@pytest.mark.parametrize("name", sizes.CASES)
def test_sizes_beyond_the_kernels(name, gpu):
    sizes.assert_refused(name, gpu)


def test_the_largest_stride(gpu):
    sizes.test_the_largest_stride(gpu)


def test_empty_kernels(gpu):
    sizes.assert_empty_kernels_are_refused(gpu)


def test_softmax_of_nothing(gpu):
    sizes.assert_softmax_of_nothing(gpu)
