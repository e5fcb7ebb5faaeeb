"""Attention sees only what it may: every path to it, with masks of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attention_masks
import numpy as np
import pytest
from attention_masks import Masked, close, masks

import needle as ndl
from needle import nn, ops

MASKS = list(masks())
Result = list[ndl.Tensor]


def _fused(q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, mask: Any, causal: bool) -> ndl.Tensor:
    return ops.scaled_dot_product_attention(q, k, v, mask, causal)


def _side_by_side(
    q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, mask: Any, causal: bool
) -> ndl.Tensor:
    qkv = ops.concatenate([ops.join_heads(x) for x in (q, k, v)], 2)
    return ops.split_heads(ops.self_attention(qkv, attention_masks.H, mask, causal), q.shape[1])


def _decomposed(q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, mask: Any, causal: bool) -> ndl.Tensor:
    added = None if mask is None else ops.additive_mask(mask, q, (*q.shape[:3], k.shape[2]))
    data = None if added is None else added.realize_cached_data()
    return ops.Attention(data, causal, q.shape[3] ** -0.5).decompose(q, k, v)


def _forward(q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, mask: Any, causal: bool) -> ndl.Tensor:
    return nn.MultiHeadAttention(causal=causal)(q, k, v, mask)[0]


def _attend(q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, mask: Any, causal: bool) -> ndl.Tensor:
    return nn.MultiHeadAttention(causal=causal).attend(q, k, v, mask)


PATHS = {f.__name__.strip("_"): f for f in (_fused, _side_by_side, _decomposed, _forward, _attend)}


def tensors(device: ndl.Device) -> list[ndl.Tensor]:
    return [ndl.Tensor(x, device=device) for x in attention_masks.inputs()]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("path", PATHS)
def test_results_and_gradients(path: str, causal: bool, compiled: bool, device: ndl.Device):
    """All masks in one function, so that it is compiled once."""

    def run(q: ndl.Tensor, k: ndl.Tensor, v: ndl.Tensor, g: ndl.Tensor) -> list[Result]:
        results = []
        for masked in MASKS:
            out = PATHS[path](q, k, v, masked.mask, causal)
            with ndl.no_grad():
                results.append([out, *ndl.grad(out, [q, k, v], g)])
        return results

    results = (ndl.jit(run) if compiled else run)(*tensors(device))
    for masked, ours in zip(MASKS, results, strict=True):
        wanted = attention_masks.attention(masked.added, causal)
        for x, y in zip(ours, (wanted.out, wanted.dq, wanted.dk, wanted.dv), strict=True):
            close(x.numpy(), y, masked.name)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_probabilities(causal: bool, device: ndl.Device):
    q, k, v, _ = tensors(device)
    for masked in MASKS:
        _, p = nn.MultiHeadAttention(causal=causal)(q, k, v, masked.mask)
        close(p.numpy(), attention_masks.attention(masked.added, causal).probabilities, masked.name)


@pytest.mark.parametrize("path", [name for name in PATHS if name != "decomposed"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_a_learned_bias_has_a_gradient(path: str, causal: bool, device: ndl.Device):
    q, k, v, g = tensors(device)
    for masked in MASKS:
        if masked.mask is None or masked.mask.dtype == bool:
            continue
        bias = nn.Parameter(ndl.Tensor(masked.mask, device=device))
        out = PATHS[path](q, k, v, bias, causal)
        out.backward(g)
        wanted = attention_masks.attention(masked.added, causal)
        close(out.numpy(), wanted.out, masked.name)
        for x, y in zip((q, k, v), (wanted.dq, wanted.dk, wanted.dv), strict=True):
            close(x.grad.numpy(), y, masked.name)
            x.grad = None
        lead = wanted.dmask.ndim - masked.mask.ndim
        dmask = wanted.dmask.sum(tuple(range(lead)))
        repeated = tuple(i for i, n in enumerate(masked.mask.shape) if n != dmask.shape[i])
        close(bias.grad.numpy(), dmask.sum(repeated, keepdims=True), masked.name)


def hidden_columns(masked: Masked, causal: bool) -> np.ndarray:
    """The columns of each sample and head that no row sees."""
    seen = np.isfinite(masked.added) & (np.tri(attention_masks.T, dtype=bool) | (not causal))
    return ~seen.any(2)


@pytest.mark.parametrize("path", PATHS)
def test_what_is_hidden_changes_nothing(path: str, device: ndl.Device):
    q, k, v, _ = attention_masks.inputs()
    for masked in MASKS:
        hidden = hidden_columns(masked, True)[..., None]
        results = [
            PATHS[path](*(ndl.Tensor(x, device=device) for x in (q, *kv)), masked.mask, True)
            for kv in ((k, v), (np.where(hidden, 1e9, k), np.where(hidden, -1e9, v)))
        ]
        np.testing.assert_array_equal(results[0].numpy(), results[1].numpy(), masked.name)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 40])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e8, 3e38], ids=str)
def test_large_scores(size: float, rows: int, device: ndl.Device):
    """Scores that are exact, so that the probabilities of float64 are those of float32."""
    columns, d = 6, 4
    steps = np.array([1, 1, 1 - 2.0**-23, 0.5, -1, 0], np.float32)
    q, k = np.zeros((1, 1, rows, d)), np.zeros((1, 1, columns, d))
    q[..., 0], k[..., 0] = 1, steps * np.float32(size)
    random = np.random.RandomState(0)
    v, g = random.randn(1, 1, columns, d), random.randn(1, 1, rows, d)
    there = [ndl.Tensor(x, device=device, dtype="float32") for x in (q, k, v)]
    out = ops.scaled_dot_product_attention(*there, scale=1.0)
    out.backward(ndl.Tensor(g, device=device, dtype="float32"))
    scores = (steps * np.float32(size)).astype(np.float64)
    p = np.exp(scores - scores.max())
    p = np.tile(p / p.sum(), (rows, 1))
    tolerance = 64 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(out.numpy()[0, 0], p @ v[0, 0], rtol=0, atol=tolerance)
    dv = p.T @ g[0, 0]
    np.testing.assert_allclose(there[2].grad.numpy()[0, 0], dv, rtol=0, atol=rows * tolerance)
    dp = g[0, 0] @ v[0, 0].T
    ds = p * (dp - (p * dp).sum(1, keepdims=True))
    dk = there[1].grad.numpy()[0, 0, :, 0]
    np.testing.assert_allclose(dk, ds.sum(0), rtol=0, atol=rows * tolerance)


INTEGERS: dict[str, Callable[[], Any]] = {
    "array": lambda: np.ones((5, 5), np.int64),
    "bytes": lambda: np.ones((5, 5), np.uint8),
    "list": lambda: [[1, 0, 1, 0, 1]],
    "tensor": lambda: ndl.Tensor(np.ones((5, 5)), dtype="int32", requires_grad=False),
}


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_mask_of_integers_is_refused(path: str, kind: str):
    q, k, v, _ = tensors(ndl.cpu())
    with pytest.raises(TypeError, match=r"\[attention\] mask must be bool .*got (u?int\d+);"):
        PATHS[path](q, k, v, INTEGERS[kind](), False)


@pytest.mark.parametrize("make", [ndl.cpu, ndl.cpu_numpy], ids=lambda make: make.__name__)
def test_heads_without_features_see_everything_equally(make):
    q, k = (ndl.zeros(2, 3, n, 0, device=make()) for n in (4, 5))
    v = ndl.Tensor(np.random.RandomState(0).randn(2, 3, 5, 6), device=make())
    out = ndl.scaled_dot_product_attention(q, k, v)
    np.testing.assert_allclose(out.numpy()[:, :, 0], v.numpy().mean(2), rtol=1e-5, atol=1e-6)
