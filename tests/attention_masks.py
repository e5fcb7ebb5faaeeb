"""Masks of all kinds for attention, and its definition in float64 with the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

B, H, T, D = 3, 2, 5, 4
LENGTHS = np.array([5, 3, 0])  # of the samples; the last one is all padding


class Masked(NamedTuple):
    """A mask as attention takes it, and as numbers to add to the scores (B, H, T, T)."""

    name: str
    mask: np.ndarray | None
    added: np.ndarray


def masks() -> Iterator[Masked]:
    """Padding on either side, whole samples of it, what sees nothing, learned and random ones."""
    random = np.random.RandomState(0)
    column = np.arange(T)
    right = (column < LENGTHS[:, None])[:, None, None]
    left = (column >= T - LENGTHS[:, None])[:, None, None]
    booleans = {
        "right padding": right,
        "left padding": left,
        "all padding": np.zeros((B, 1, 1, T), bool),
        "rows that see nothing": random.rand(T, 1) < 0.5,
        "random": random.rand(B, H, T, T) < 0.4,
        "everything": np.ones((T, T), bool),
    }
    yield Masked("no mask", None, np.zeros((B, H, T, T)))
    for name, seen in booleans.items():
        yield Masked(f"{name}, bool", seen, _whole(np.where(seen, 0.0, -np.inf)))
        added = np.where(seen, random.randn(*seen.shape), -np.inf).astype(np.float32)
        yield Masked(f"{name}, float", added, _whole(added))
    lowest = np.where(left, 0, np.finfo(np.float32).min).astype(np.float32)
    yield Masked("left padding, lowest number", lowest, _whole(lowest))
    bias = random.randn(1, H, T, T).astype(np.float32)
    yield Masked("bias", bias, _whole(bias))


def _whole(added: np.ndarray) -> np.ndarray:
    return np.broadcast_to(added, (B, H, T, T)).astype(np.float64)


class Expected(NamedTuple):
    """Result, probabilities and gradients."""

    out: np.ndarray
    probabilities: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray
    dmask: np.ndarray


def inputs() -> list[np.ndarray]:
    """q, k, v and the gradient of the result, (B, H, T, D) in float32."""
    random = np.random.RandomState(1)
    return [random.randn(B, H, T, D).astype(np.float32) for _ in range(4)]


def attention(added: np.ndarray, causal: bool) -> Expected:
    """softmax(q·kᵀ/√d + added)·v of `inputs()`, where a row of -inf alone gives 0."""
    q, k, v, g = (x.astype(np.float64) for x in inputs())
    scale = D**-0.5
    scores = q @ k.swapaxes(-1, -2) * scale + added
    if causal:
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    p = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = p.sum(-1, keepdims=True)
    p = p / np.where(total == 0, 1, total)
    out, dp = p @ v, g @ v.swapaxes(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    return Expected(
        out, p, ds @ k * scale, ds.swapaxes(-1, -2) @ q * scale, p.swapaxes(-1, -2) @ g, ds
    )


def close(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    """Within the roundings of some dozen terms of a size of at most ten."""
    tolerance = 256 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)
