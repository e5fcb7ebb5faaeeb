"""The matrix product on tensor cores: every layout, on buffers of 2-byte numbers and of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray.cuda import kernels

from .two_bytes import download, rounded, upload


def mma_source(kind: str, a_turned: bool, b_turned: bool) -> str:
    """The kernel for matrices without a batch."""
    parameters = ["Shape<1> batch", *(f"int64_t {name}" for name in "mnk")]
    names = ["batch", "m", "n", "k"]
    for name in ("a", "b", "out"):
        const = "" if name == "out" else "const "
        parameters += [f"Array<{const}{kind}, 1> {name}"]
        parameters += [f"int64_t {name}_row", f"int64_t {name}_col"]
        names += [name, f"{name}_row", f"{name}_col"]
    flags = ", ".join(str(flag).lower() for flag in (a_turned, b_turned))
    return kernels.source(
        "gemm_mma.cuh",
        [*parameters, f"const {kind}* bias", "int64_t bias_stride"],
        f"gemm_mma<{flags}>({', '.join([*names, 'bias', 'bias_stride'])});",
        resident="1",
    )


def multiply(
    gpu: ndl.Device, kind: str, a: np.ndarray, b: np.ndarray, bias: Any, turned: tuple[bool, bool]
) -> np.ndarray:
    """a @ b + bias from bits; `turned` operands lie column by column for a, row by row for b."""
    (batch, m, k), n = a.shape, b.shape[-1]
    left = upload(gpu, a.swapaxes(1, 2) if turned[0] else a)
    right = upload(gpu, b if turned[1] else b.swapaxes(1, 2))
    out, added = upload(gpu, np.zeros((batch, m, n), a.dtype)), upload(gpu, bias)
    values = [
        (batch,), m, n, k,
        (left.address, m * k), *((1, m) if turned[0] else (k, 1)),
        (right.address, k * n), *((n, 1) if turned[1] else (1, k)),
        (out.address, m * n), n, 1, added.address, 1,
    ]  # fmt: skip
    blocks = batch * -(-m // 128) * -(-n // 128)
    text = mma_source(kind, *turned)
    gpu.context.launch("gemm_mma", text, blocks, kernels.THREADS, values)
    return download(gpu, out, (batch, m, n), kind)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float"])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("sizes", [(1, 136, 144, 72), (2, 13, 37, 5)], ids=str)
def test_all_layouts(sizes, turned, kind, emulated):
    batch, m, n, k = sizes
    random = np.random.RandomState(m)
    (a, x), (b, y) = (
        rounded(random.randn(*shape), kind) for shape in ((batch, m, k), (batch, k, n))
    )
    bias, z = rounded(random.randint(-4, 4, n), kind)
    ours = multiply(emulated, kind, a, b, bias, turned)
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3, "float": 1e-5}[kind]
    np.testing.assert_allclose(ours, x @ y + z, rtol=tolerance, atol=tolerance)
