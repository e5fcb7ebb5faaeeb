"""Products by cuBLASLt: the emulated one, on all layouts, against needle's kernel and NumPy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import PRECISION, assert_product

import needle as ndl
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.device_cuda import CudaError, kernels

from .conftest import forget_libraries

NOT_SUPPORTED, EXECUTION_FAILED = 15, 13


@pytest.fixture
def fake(emulated, emulator_folder):
    """The emulated driver's own functions: the calls, and failures to come."""
    library = ctypes.CDLL(f"{emulator_folder}/libcuda.so.1")
    library.emulator_calls.restype = ctypes.c_char_p
    library.emulator_fail.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_int
    library.emulator_clear_calls()
    emulated.blas._plans.clear()
    yield library
    emulated.allow_tf32 = False
    emulated.blas._plans.clear()


def products(fake: Any) -> list[str]:
    """The products that cuBLASLt was given since."""
    lines = fake.emulator_calls().decode().splitlines()
    return [line for line in lines if line.startswith("cublasLtMatmul ")]


def array(gpu: ndl.Device, x: np.ndarray, dtype: str | None = None) -> NDArray:
    return NDArray(x, device=gpu, dtype=dtype or x.dtype)


def placed(
    gpu: ndl.Device, x: np.ndarray, dtype: str, turned: bool, gap: int, shift: int
) -> NDArray:
    """x on the GPU: by columns if `turned`, with a gap between lines, off the alignment."""
    host = np.ascontiguousarray(x.swapaxes(1, 2)) if turned else x
    wide = np.full((*host.shape[:-1], host.shape[-1] + gap + shift), np.nan, x.dtype)
    wide[..., shift : shift + host.shape[-1]] = host
    there = array(gpu, wide, dtype)[:, :, shift : shift + host.shape[-1]]
    return there.permute((0, 2, 1)) if turned else there


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 20), k=st.integers(1, 40), n=st.integers(1, 20), batch=st.integers(1, 3),
    turned=st.tuples(st.booleans(), st.booleans()), gap=st.integers(0, 3),
    shift=st.integers(0, 3), bias=st.booleans(), relu=st.booleans(),
    dtype=st.sampled_from(list(PRECISION)),
)  # fmt: skip
def test_all_layouts(emulated, m, k, n, batch, turned, gap, shift, bias, relu, dtype):
    random = np.random.RandomState(m * n + k)
    a, b, c = (
        array(ndl.cpu_numpy(), random.randn(*shape), dtype).numpy()
        for shape in ((batch, m, k), (batch, k, n), (n,))
    )
    left, right = (
        placed(emulated, x, dtype, turn, gap, by)
        for x, turn, by in zip((a, b), turned, (shift, 0), strict=True)
    )
    added = array(emulated, c, dtype) if bias else None
    out, own = emulated.empty((batch, m, n), dtype), emulated.empty((batch, m, n), dtype)
    taken = emulated.blas.matmul(left, right, out, added, relu)
    assert taken == (dtype != "float64" or not (bias or relu))
    kernels.matmul(emulated.context, left, right, own, added)
    c = c if bias else 0.0
    assert_product(own.numpy(), a, b, dtype, c)
    if taken:
        assert_product(
            out.numpy(), a, b, dtype, c, (lambda x: np.maximum(x, 0)) if relu else np.copy
        )


@pytest.mark.parametrize(("dtype", "type_"), [("float16", 2), ("bfloat16", 14)])
def test_16_bit_tensors_are_multiplied_as_they_are(dtype, type_, fake, emulated):
    x, w, bias = (
        ndl.Tensor(np.random.RandomState(0).randn(*shape), device=emulated, dtype=dtype)
        for shape in ((6, 5), (5, 4), (4,))
    )
    fake.emulator_clear_calls()
    ndl.ops.linear(x, w, bias).sum().backward()
    assert len(products(fake)) == 3
    assert all(f"of type {type_} compute 68" in line for line in products(fake))


def test_what_it_cannot_do_is_left_to_the_own_kernel(fake, emulated):
    x = np.random.RandomState(0).randn(6, 8).astype("float32")
    a = array(emulated, x)
    for left in (a[::-1], a[:, ::2], array(emulated, x.astype("int32"))):
        host = left.numpy()
        assert_product((left @ left.permute((1, 0))).numpy(), host, host.T, "float32")
    assert not products(fake)
    assert_product((a @ a.permute((1, 0))).numpy(), x, x.T, "float32")
    assert len(products(fake)) == 1


def test_a_kernel_is_asked_for_once(fake, emulated):
    a = array(emulated, np.ones((4, 4), "float32"))
    for _ in range(3):
        a @ a
    calls = fake.emulator_calls().decode()
    assert calls.count("cublasLtMatmulAlgoGetHeuristic") == 1
    assert len(products(fake)) == 3


def test_tf32_by_choice(fake, emulated):
    x = np.float32(1 + 2**-12) * np.ones((3, 3), np.float32)
    a = array(emulated, x)
    exact = (a @ a).numpy()
    emulated.allow_tf32 = True
    rounded = (a @ a).numpy()
    assert_product(exact, x, x, "float32")
    np.testing.assert_array_equal(rounded, np.full((3, 3), 3, np.float32))
    assert [line.split()[-1] for line in products(fake)] == ["68", "77"]


def test_no_kernel_found(fake, emulated):
    x = np.random.RandomState(0).randn(5, 5).astype("float32")
    fake.emulator_fail(b"cublasLtMatmulAlgoGetHeuristic", 0, NOT_SUPPORTED)
    a = array(emulated, x)
    assert_product((a @ a).numpy(), x, x, "float32")
    assert not products(fake)


def test_a_failed_product_names_the_shapes(fake, emulated):
    a = array(emulated, np.ones((2, 3), "float32"))
    fake.emulator_fail(b"cublasLtMatmul", 0, EXECUTION_FAILED)
    with pytest.raises(CudaError, match=r"EXECUTION_FAILED.* in matmul of float32 \(2, 3\)"):
        a @ a.permute((1, 0))


def test_inside_of_a_graph(fake, emulated):
    w = ndl.Tensor(np.random.RandomState(0).randn(4, 5), device=emulated, dtype="float32")
    step = ndl.jit(lambda x: ndl.relu(x @ w))
    x = np.random.RandomState(1).randn(3, 4).astype("float32")
    for scale in (1, 2):
        ours = step(ndl.Tensor(scale * x, device=emulated, dtype="float32")).numpy()
        assert_product(ours, scale * x, w.numpy(), "float32", finish=lambda y: np.maximum(y, 0))
    first, captured = products(fake)
    assert first == captured.removesuffix(" captured"), "its kernel is loaded before the capture"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("NEEDLE_EMULATOR_CUBLASLT", "110800", "own kernel: cuBLASLt 11.8.0 is too old"),
        ("NEEDLE_CUDA_MATMUL", "own", "own kernel: NEEDLE_CUDA_MATMUL is own"),
        ("", "", "products by cuBLASLt 13.1.0"),
    ],
)
def test_status(setting, value, message, emulated, monkeypatch):
    if setting:
        monkeypatch.setenv(setting, value)
    forget_libraries()
    try:
        assert message in ndl.cuda().status()
        a = array(ndl.cuda(), np.ones((2, 2), "float32"))
        np.testing.assert_array_equal((a @ a).numpy(), np.full((2, 2), 2.0))
    finally:
        monkeypatch.undo()
        forget_libraries()
