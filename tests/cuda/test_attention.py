"""Attention on the GPU against its definition in NumPy, by FMAs and by tensor cores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.cuda.kernels import THREADS, source
from needle.jit import reference

from .two_bytes import download, rounded, upload

# B, heads, T, S, d, e; whether there is a mask; causal.
CASES = [
    (2, 2, 5, 7, 3, 2, False, False),
    (1, 2, 65, 130, 16, 40, True, False),
    (1, 1, 130, 70, 64, 64, False, True),
    (1, 1, 70, 130, 130, 20, True, True),
    (1, 1, 33, 64, 20, 150, False, True),
    (2, 1, 3, 0, 4, 4, False, False),
    (1, 2, 0, 5, 4, 4, False, True),
    (1, 1, 1, 100, 128, 128, False, False),
]
SCALE = 0.3


def inputs(case: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
    """g, q, k, v and a mask that hides a row; rounded to what `dtype` can hold."""
    b, h, t, s, d, e, masked, _ = case
    random = np.random.RandomState(0)
    arrays = [
        random.randn(b, h, *shape).astype(dtype) for shape in ((t, e), (t, d), (s, d), (s, e))
    ]
    mask = None
    if masked:
        mask = np.where(random.rand(b, h, t, s) < 0.7, random.randn(b, h, t, s), -np.inf)
        mask[:, :, 0] = -np.inf
        mask = mask.astype(dtype)
    return *arrays, mask


def expected(g: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool) -> list[np.ndarray]:
    """out, lse, dq, dk, dv by the definition."""
    out = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    results = [out, np.empty(q.shape[:3], q.dtype), *(np.empty_like(x) for x in (q, k, v))]
    with np.errstate(invalid="ignore"):
        reference.attention(q, k, v, mask, *results[:2], SCALE, causal)
        reference.attention_grad(g, q, k, v, mask, *results, SCALE, causal)
    return results


def array(gpu: ndl.Device, x: np.ndarray, turned: bool) -> NDArray:
    """x on the GPU, as heads that stand side by side if `turned`."""
    if not turned:
        return NDArray(x, device=gpu, dtype=x.dtype)
    there = NDArray(np.ascontiguousarray(x.swapaxes(1, 2)), device=gpu, dtype=x.dtype)
    return there.permute((0, 2, 1, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [False, True], ids=["compact", "turned"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_and_its_gradient(case, turned, dtype, gpu):
    g, q, k, v, mask = inputs(case, dtype)
    wanted = expected(g, q, k, v, mask, case[-1])
    on_gpu = [None if x is None else array(gpu, x, turned) for x in (g, q, k, v, mask)]
    results = [
        array(gpu, np.full_like(x, np.nan), turned and x.ndim == 4) for x in wanted
    ]  # fmt: skip
    gpu.fused("attention")(*on_gpu[1:], *results[:2], SCALE, case[-1])
    gpu.fused("attention_grad")(*on_gpu, *results, SCALE, case[-1])
    tolerance = 2e-4 if dtype == "float32" else 1e-10
    for ours, theirs in zip(results, wanted, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)


def test_a_broadcast_mask_and_the_order_of_threads(emulated, monkeypatch):
    def run() -> list[np.ndarray]:
        random = np.random.RandomState(0)
        q, k, v = (
            ndl.Tensor(random.randn(2, 2, 70, 8), device=emulated, dtype="float32")
            for _ in range(3)
        )
        mask = random.rand(70, 70) < 0.5
        ndl.scaled_dot_product_attention(q, k, v, mask=mask).sum().backward()
        return [x.grad.numpy() for x in (q, k, v)]

    forward = run()
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", "3")
    for ours, theirs in zip(run(), forward, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- tensor cores, on buffers of 2-byte numbers ---------------------------------------------


def heads(name: str, buffer: Any, shape: tuple[int, ...], kind: str, const: bool = True) -> Any:
    _, h, t, d = shape
    declared = f"Array<{'const ' if const else ''}{kind}, 4> {name}"
    return declared, (buffer.address, h * t * d, t * d, d, 1)


def mma_launch(gpu: ndl.Device, name: str, kind: str, wide: int, blocks: int, operands: Any):
    names = [declaration.split()[-1].lstrip("*") for declaration, _ in operands]
    text = source(
        "attention.cuh", [declaration for declaration, _ in operands],
        f"{name}<MmaTiles<{kind}, {wide}>>({', '.join(names)});", resident="1",
    )  # fmt: skip
    gpu.context.launch(name, text, blocks, THREADS, [value for _, value in operands])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "case",
    [(1, 2, 20, 70, 16, 16, True, False), (1, 1, 150, 130, 72, 40, False, True),
     (1, 1, 5, 6, 3, 70, True, True)],
    ids=str,
)  # fmt: skip
def test_attention_by_tensor_cores(case, kind, emulated):
    b, h, t, s, d, e, _, causal = case
    pairs = [None if x is None else rounded(x, kind) for x in inputs(case, np.float32)]
    wanted = expected(*(None if p is None else p[1] for p in pairs), causal)
    device = emulated
    shapes = ((b, h, t, e), (b, h, t, d), (b, h, s, d), (b, h, s, e), (b, h, t, s))
    buffers = [None if p is None else upload(device, p[0]) for p in pairs]
    given = [
        ("", (0,) * 5) if x is None else heads("", x, shape, kind)
        for x, shape in zip(buffers, shapes, strict=True)
    ]
    out, dq, dk, dv = (
        upload(device, np.zeros(shape, np.uint16))
        for shape in ((b, h, t, e), *shapes[1:4])
    )  # fmt: skip
    lse, dots = (device.wrap(np.zeros(b * h * t, np.float32)) for _ in range(2))
    x = (
        f"AttentionInput<{kind}> x",
        (h, t, s, d, e, int(causal), SCALE, *sum((value for _, value in given[1:]), ())),
    )
    wide = 64

    def blocks(rows: int, width: int) -> int:
        return b * h * -(-rows // 128) * -(-width // wide)

    g = (f"Array<const {kind}, 4> g", given[0][1])
    y = heads("y", out, (b, h, t, e), kind)
    logs = ("const float* lse", lse.address)
    mma_launch(device, "attention", kind, wide, blocks(t, e), [
        x, heads("out", out, (b, h, t, e), kind, False), ("float* lse", lse.address)])  # fmt: skip
    mma_launch(device, "attention_query_grad", kind, wide, blocks(t, d), [
        x, g, y, logs, ("float* dots", dots.address), heads("dq", dq, shapes[1], kind, False),
    ])  # fmt: skip
    mma_launch(device, "attention_key_grads", kind, wide, blocks(s, max(d, e)), [
        x, g, logs, ("const float* dots", dots.address), heads("dk", dk, shapes[2], kind, False),
        heads("dv", dv, shapes[3], kind, False),
    ])  # fmt: skip
    outs = ((out, wanted[0]), (dq, wanted[2]), (dk, wanted[3]), (dv, wanted[4]))
    ours = [download(device, buffer, like.shape, kind) for buffer, like in outs]
    tolerance = 4e-3 if kind == "float16" else 3e-2
    for result, like in zip(ours, [wanted[0], *wanted[2:]], strict=True):
        np.testing.assert_allclose(
            result, like, rtol=tolerance, atol=tolerance * np.abs(like).max()
        )


def test_two_byte_numbers_are_rounded_as_numpy_rounds(emulated):
    edges = np.array([0.0, -0.0, np.inf, -np.inf, 65504, 65519, 65520, 6e-8, 2.98e-8, 6.1e-5, 1.0])
    values = np.concatenate([edges, np.logspace(-9, 6, 800) * np.tile([1, -1], 400)])
    x = np.resize(values, (len(values) + 3) // 4 * 4).astype(np.float32)
    for kind in ("float16", "bfloat16"):
        text = source(
            "mma.cuh", (f"{kind}* bits", "float* back", "const float* x", "int64_t size"),
            "for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {",
            f"  bits[i] = narrow<{kind}>(x[i]), back[i] = widen(bits[i]);",
            "}",
        )  # fmt: skip
        bits, back = emulated.wrap(np.zeros(x.size, np.uint16)), emulated.wrap(np.zeros_like(x))
        there = emulated.wrap(x)
        emulated.context.launch(
            "rounding", text, 1, THREADS, [bits.address, back.address, there.address, x.size]
        )
        host, again = np.empty(x.size, np.uint16), np.empty_like(x)
        emulated.context.download(bits.address, host)
        emulated.context.download(back.address, again)
        with np.errstate(over="ignore"):
            wanted = rounded(x, kind)
        np.testing.assert_array_equal(host, wanted[0])
        np.testing.assert_array_equal(again, wanted[1])
