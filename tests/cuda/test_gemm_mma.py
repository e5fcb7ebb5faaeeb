"""The matrix product without cuBLASLt on tensor cores: of 2-byte numbers, and of floats as TF32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numeric import PRECISION, assert_product

import needle as ndl
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.device_cuda import kernels

from .conftest import forget_libraries
from .spy import launched

STORED = ("float16", "bfloat16")


def matrices(
    gpu: ndl.Device, dtype: str, shape: tuple[int, ...], turned: bool, shift: int = 0
) -> tuple[NDArray, np.ndarray]:
    """Random ones on the GPU, column by column if `turned`, and the float32 numbers they are."""
    order = (*range(len(shape) - 2), -1, -2) if turned else tuple(range(len(shape)))
    *lead, width = (shape[i] for i in order)
    wide = np.random.RandomState(sum(shape)).randn(*lead, width + shift)
    there = NDArray(wide, device=gpu, dtype=dtype)[..., shift:].permute(order)
    numbers = there.numpy().astype("float32")
    if dtype == "float32":  # what TF32 keeps of them
        numbers = ((numbers.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
    return there, numbers


@pytest.mark.parametrize("dtype", [*STORED, "float32"])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("sizes", [(1, 136, 144, 72), (2, 13, 37, 5)], ids=str)
def test_all_layouts(sizes, turned, dtype, gpu):
    batch, m, n, k = sizes
    (a, x), (b, y) = (
        matrices(gpu, dtype, shape, turn)
        for shape, turn in zip(((batch, m, k), (batch, k, n)), turned, strict=True)
    )
    bias, _ = matrices(gpu, dtype, (1, n), False)
    out = gpu.empty((batch, m, n), dtype)
    with launched(gpu) as launches:
        kernels.matmul(gpu.context, a, b, out, bias[0], tf32=True)
    flags = ", ".join(str(flag).lower() for flag in (turned[0], not turned[1]))
    assert [f"gemm_mma<{flags}>" in launch.source for launch in launches] == [True]
    assert_product(out.numpy(), x, y, dtype, bias.numpy())


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 1, 20, 9), (2, 9, 30)), ((5, 0), (0, 4)), ((1, 40), (40, 1)), ((130, 8), (8, 130))],
    ids=str,
)
def test_batches_and_views(left, right, gpu):
    a, x = matrices(gpu, "bfloat16", left, False, shift=3)
    b, y = matrices(gpu, "bfloat16", right, True)
    a, x = a[..., ::-1, :], x[..., ::-1, :]
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    out = gpu.empty((*batch, left[-2], right[-1]), "bfloat16")
    a, b = (m.broadcast_to((*batch, *m.shape[-2:])) for m in (a, b))
    kernels.matmul(gpu.context, a, b, out, None)
    assert_product(out.numpy(), x, y, "bfloat16")


@pytest.fixture
def without_cublas(gpu: ndl.Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[ndl.Device]:
    """`cuda()` where needle multiplies by itself."""
    monkeypatch.setenv("NEEDLE_CUDA_MATMUL", "own")
    forget_libraries()
    yield gpu
    monkeypatch.undo()
    forget_libraries()


@pytest.mark.parametrize(
    ("capability", "kernel"), [((7, 5), "gemm<1, float>"), ((8, 0), "gemm_mma<false, true>")]
)
@pytest.mark.parametrize("dtype", STORED)
def test_a_linear_layer(dtype, capability, kernel, without_cublas, monkeypatch):
    gpu = without_cublas
    monkeypatch.setattr(gpu.context, "capability", capability)
    results = []
    for device in (gpu, ndl.cpu_numpy()):
        x, w, bias = (
            ndl.Tensor(np.random.RandomState(i).randn(*shape), device=device, dtype=dtype)
            for i, shape in enumerate(((6, 5), (5, 4), (4,)))
        )
        with launched(gpu) as launches:
            y = ndl.ops.linear(x, w, bias)
        if device == gpu:
            assert [kernel in launch.source for launch in launches] == [True]
        y.sum().backward()
        results.append([t.numpy().astype("float32") for t in (y, x.grad, w.grad, bias.grad)])
    for ours, theirs in zip(*results, strict=True):
        # Both round sums of up to six numbers once; they may land on neighbouring numbers.
        tolerance = 2 * PRECISION[dtype]
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
