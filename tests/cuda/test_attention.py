"""Attention on the GPU against its definition in NumPy, by FMAs and by tensor cores."""

from __future__ import annotations

from typing import Any

import attention_masks
import numpy as np
import pytest

import needle as ndl
from needle import models, nn, optim
from needle.backend_ndarray import NDArray, is_stored, reference, widened

from .spy import launched

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
    (1, 1, 150, 70, 100, 90, True, False),
]
SCALE = 0.3
TOLERANCES = {"float32": 2e-4, "float64": 1e-10, "float16": 4e-3, "bfloat16": 3e-2}


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """x as `dtype` holds it, in a dtype that NumPy computes in."""
    there = NDArray(x, device=ndl.cpu_numpy(), dtype=dtype)
    return there.astype(widened(there.dtype)).numpy()


def inputs(case: tuple[int, ...], dtype: str) -> tuple[Any, ...]:
    """g, q, k, v and a mask that hides a row; rounded to what `dtype` can hold."""
    b, h, t, s, d, e, masked, _ = case
    random = np.random.RandomState(0)
    arrays = [
        rounded(random.randn(b, h, *shape), dtype) for shape in ((t, e), (t, d), (s, d), (s, e))
    ]
    mask = None
    if masked:
        mask = np.where(random.rand(b, h, t, s) < 0.7, random.randn(b, h, t, s), -np.inf)
        mask[:, :, 0] = -np.inf
        mask = mask.astype(arrays[0].dtype)
    return *arrays, mask


def expected(g: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool) -> list[np.ndarray]:
    """out, lse, dq, dk, dv by the definition."""
    out = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    results = [out, np.empty((*q.shape[:3], 2), q.dtype), *(np.empty_like(x) for x in (q, k, v))]
    with np.errstate(invalid="ignore"):
        reference.attention(q, k, v, mask, *results[:2], SCALE, causal)
        reference.attention_grad(g, q, k, v, mask, *results, SCALE, causal)
    return results


def array(gpu: ndl.Device, x: np.ndarray, dtype: Any, turned: bool) -> NDArray:
    """x on the GPU, as heads that stand side by side if `turned`."""
    if not turned:
        return NDArray(x, device=gpu, dtype=dtype)
    there = NDArray(np.ascontiguousarray(x.swapaxes(1, 2)), device=gpu, dtype=dtype)
    return there.swapaxes(1, 2)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("turned", [False, True], ids=["compact", "turned"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_and_its_gradient(case, turned, dtype, gpu):
    *arrays, mask = inputs(case, dtype)
    wanted = expected(*arrays, mask, case[-1])
    g, q, k, v = (array(gpu, x, dtype, turned) for x in arrays)
    there = None if mask is None else array(gpu, mask, mask.dtype, turned)
    results = [array(gpu, np.full_like(x, np.nan), dtype, turned) for x in wanted]
    results[1] = array(gpu, np.full_like(wanted[1], np.nan), wanted[1].dtype, False)  # lse
    with launched(gpu) as launches:
        gpu.fused("attention")(q, k, v, there, *results[:2], SCALE, case[-1])
        gpu.fused("attention_grad")(g, q, k, v, there, *results, SCALE, case[-1])
    tiles = "MmaTiles" if is_stored(q.dtype) and max(case[4:6]) <= 128 else "FmaTiles"
    kernels = [launch.source for launch in launches if launch.what.startswith("attention")]
    assert all(tiles in source for source in kernels)
    for ours, theirs in zip(results, wanted, strict=True):
        tolerance = TOLERANCES[ours.dtype.name]
        largest = np.abs(theirs).max(initial=1) if is_stored(ours.dtype) else 1
        np.testing.assert_allclose(
            ours.numpy(), theirs, rtol=tolerance, atol=tolerance * largest
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_broadcast_mask_and_the_order_of_threads(dtype, emulated, monkeypatch):
    def run() -> list[np.ndarray]:
        random = np.random.RandomState(0)
        q, k, v = (
            ndl.Tensor(random.randn(2, 2, 70, 8), device=emulated, dtype=dtype) for _ in range(3)
        )
        mask = random.rand(70, 70) < 0.5
        ndl.scaled_dot_product_attention(q, k, v, mask=mask).sum().backward()
        return [x.grad.numpy() for x in (q, k, v)]

    forward = run()
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", "3")
    for ours, theirs in zip(run(), forward, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- 16 bits ----------------------------------------------------------------------------------


def gpt_step(gpu: ndl.Device) -> Any:
    """A step of training in bfloat16, and its arguments."""
    np.random.seed(0)
    model = models.GPT(13, 6, width=16, num_layers=1, num_heads=2).to(gpu)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    ids = np.random.RandomState(0).randint(0, 13, (2, 6))
    arguments = [ndl.Tensor(i, device=gpu, dtype="int64") for i in (ids, np.roll(ids, -1, 1))]

    def step(x, y):
        with ndl.amp.autocast("bfloat16"):
            loss = nn.CrossEntropyLoss()(model(x).reshape((-1, 13)), y.reshape((-1,)))
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, arguments


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_step_under_autocast_multiplies_in_16_bits(compiled, fake, emulated):
    step, arguments = gpt_step(emulated)
    run = ndl.jit(step) if compiled else step
    with launched(emulated) as launches:
        losses = [run(*arguments).item() for _ in range(2)]
    assert losses[1] < losses[0]
    calls = fake.emulator_calls().decode().splitlines()
    products = [call for call in calls if call.startswith("cublasLtMatmul ")]
    assert products
    assert all("of type 14 compute 68" in call for call in products)
    kernels = [launch for launch in launches if launch.what.startswith("attention")]
    assert len(kernels) == (3 if compiled else 6)  # a captured graph is launched again
    assert all("<MmaTiles<bfloat16, 16, 64, 16>>" in launch.source for launch in kernels)
    before = launches[: launches.index(kernels[0])]
    assert not any(launch.what.startswith("copy of bfloat16") for launch in before)


def test_without_tensor_cores_attention_is_float32(emulated, monkeypatch):
    q = ndl.Tensor(np.random.RandomState(0).randn(1, 2, 5, 4), device=emulated, dtype="float16")
    attend = lambda: ndl.scaled_dot_product_attention(q, q, q, causal=True)  # noqa: E731
    there = attend().numpy()
    monkeypatch.setattr(emulated.context, "capability", (7, 5))
    with launched(emulated) as launches:
        result = attend()
    kernels = [x.source for x in launches if x.what.startswith("attention")]
    assert ["<FmaTiles<float, 16>>" in source for source in kernels] == [True]
    assert result.dtype == "float16"
    np.testing.assert_allclose(result.numpy(), there, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_gradients_of_16_bits(dtype, gpu):
    results = []
    for device in (gpu, ndl.cpu_numpy()):
        q, k, v = (
            ndl.Tensor(np.random.RandomState(i).randn(1, 1, 4, 3), device=device, dtype=dtype)
            for i in range(3)
        )
        mask = np.random.RandomState(3).randn(4, 4)
        y = ndl.scaled_dot_product_attention(q, k, v, mask=mask)
        (first,) = ndl.grad((y * y).sum(), [q])
        (second,) = ndl.grad((first * first).sum(), [k])
        results.append([x.astype("float32").numpy() for x in (first, second)])
    tolerance = 3 * TOLERANCES[dtype]
    for ours, theirs in zip(*results, strict=True):
        largest = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_evaluator_has_16_bit_attention(dtype, gpu, monkeypatch):
    def attend(q, k, v):
        y = ndl.scaled_dot_product_attention(q, k, v, mask=mask, causal=True)
        return [y, *ndl.grad(y, [q, k, v])]

    mask = np.random.RandomState(3).rand(7, 7) < 0.7
    tensors = [
        ndl.Tensor(np.random.RandomState(i).randn(1, 2, 7, 4), device=gpu, dtype=dtype)
        for i in range(3)
    ]
    compiled = [x.numpy().astype("float32") for x in ndl.jit(attend)(*tensors)]
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    results = ndl.jit(attend)(*tensors)
    assert {x.dtype.name for x in results} == {dtype}
    for ours, evaluated in zip(compiled, results, strict=True):
        np.testing.assert_allclose(
            ours, evaluated.numpy().astype("float32"), rtol=TOLERANCES[dtype],
            atol=4 * TOLERANCES[dtype],
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_masks_of_all_kinds(causal, dtype, gpu):
    for masked in attention_masks.masks():
        q, k, v, g = (ndl.Tensor(x, device=gpu, dtype=dtype) for x in attention_masks.inputs())
        out = ndl.scaled_dot_product_attention(q, k, v, masked.mask, causal)
        out.backward(g)
        wanted = attention_masks.attention(masked.added, causal)
        ours = out, q.grad, k.grad, v.grad
        for x, y in zip(ours, (wanted.out, wanted.dq, wanted.dk, wanted.dv), strict=True):
            attention_masks.close(x.numpy(), y, masked.name)


@pytest.mark.parametrize("size", [1e3, 1e8, 3e38])
def test_large_scores(size, gpu):
    steps = np.array([1, 1, 1 - 2.0**-23, 0.5, -1, 0], np.float32)
    q, k = np.zeros((1, 1, 5, 4)), np.zeros((1, 1, 6, 4))
    q[..., 0], k[..., 0] = 1, steps * np.float32(size)
    v = np.random.RandomState(0).randn(1, 1, 6, 4)
    there = [ndl.Tensor(x, device=gpu, dtype="float32") for x in (q, k, v)]
    out = ndl.scaled_dot_product_attention(*there, scale=1.0)
    out.sum().backward()
    scores = (steps * np.float32(size)).astype(np.float64)
    p = np.exp(scores - scores.max())
    p /= p.sum()
    tolerance = 64 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(out.numpy()[0, 0], np.tile(p @ v[0, 0], (5, 1)), atol=tolerance)
    wanted = np.repeat(5 * p[:, None], 4, 1)
    np.testing.assert_allclose(there[2].grad.numpy()[0, 0], wanted, atol=5 * tolerance)
