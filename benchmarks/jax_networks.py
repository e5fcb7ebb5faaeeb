"""The benchmarks' networks in plain JAX. Imported where JAX is there.

Each builder returns a network `(weights, x, statistics) → logits`: it takes needle's parameters,
in their order and shapes, from the iterator `weights`, and appends the mean and the variance that
each batch norm finds to the list `statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

Weights = Iterator[jax.Array]
Statistics = list[jax.Array]
Network = Callable[[Weights, jax.Array, Statistics], jax.Array]


def linear(weights: Weights, x: jax.Array) -> jax.Array:
    """x·W + b."""
    return x @ next(weights) + next(weights)


def normalize(weights: Weights, x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    """(x - mean) / √(var + eps), scaled and shifted."""
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * next(weights) + next(weights)


def batch_norm(weights: Weights, x: jax.Array, statistics: Statistics) -> jax.Array:
    """Over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    statistics += [mean, var]
    return normalize(weights, x, mean, var)


def layer_norm(weights: Weights, x: jax.Array) -> jax.Array:
    """Over the last axis."""
    return normalize(weights, x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True))


def mlp(widths: Sequence[int], bias: bool) -> Network:
    """Linear layers of these widths with ReLUs between them."""

    def network(weights: Weights, x: jax.Array, statistics: Statistics) -> jax.Array:
        for layer, _ in enumerate(pairwise(widths)):
            x = jax.nn.relu(x) if layer else x
            x = linear(weights, x) if bias else x @ next(weights)
        return x

    return network


def mlp_resnet() -> Network:
    """784-100, three residual blocks that are 50 wide inside, 10 classes."""

    def network(weights: Weights, x: jax.Array, statistics: Statistics) -> jax.Array:
        x = jax.nn.relu(linear(weights, x))
        for _ in range(3):
            inner = jax.nn.relu(batch_norm(weights, linear(weights, x), statistics))
            x = jax.nn.relu(x + batch_norm(weights, linear(weights, inner), statistics))
        return linear(weights, x)

    return network


def resnet9() -> Network:
    """The course's ResNet9; images (N, H, W, 3), the layout that XLA's convolutions want."""

    def network(weights: Weights, x: jax.Array, statistics: Statistics) -> jax.Array:
        def block(x: jax.Array, stride: int) -> jax.Array:
            kernel = next(weights)
            around = kernel.shape[0] // 2
            y = jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), [(around, around)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ) + next(weights)  # fmt: skip
            return jax.nn.relu(batch_norm(weights, y, statistics))

        def residual(x: jax.Array) -> jax.Array:
            return x + block(block(x, 1), 1)

        x = residual(block(block(x, 4), 2))
        x = residual(block(block(x, 2), 2))
        return linear(weights, jax.nn.relu(linear(weights, x.reshape((len(x), -1)))))

    return network


def lstm(vocabulary: int, embedding: int, hidden: int, layers: int) -> Network:
    """An embedding, LSTM layers and a linear map to the vocabulary: (T, B) → (T·B, vocabulary)."""

    def layer(weights: Weights, x: jax.Array) -> jax.Array:
        w_ih, w_hh, bias = next(weights), next(weights), next(weights) + next(weights)

        def step(state: Any, inputs: jax.Array) -> Any:
            h, c = state
            i, f, g, o = jnp.split(inputs + h @ w_hh, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], hidden))
        return jax.lax.scan(step, (zeros, zeros), x @ w_ih + bias)[1]

    def network(weights: Weights, tokens: jax.Array, statistics: Statistics) -> jax.Array:
        x = next(weights)[tokens]
        for _ in range(layers):
            x = layer(weights, x)
        return linear(weights, x.reshape((-1, hidden)))

    return network


def gpt(vocabulary: int, length: int, width: int, layers: int, heads: int) -> Network:
    """Token and position embeddings, blocks, a norm and a head: (B, T) → (B·T, vocabulary)."""

    def attention(weights: Weights, x: jax.Array) -> jax.Array:
        b, t, _ = x.shape
        qkv = linear(weights, x).reshape((b, t, 3, heads, width // heads))
        q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))  # each (B, heads, T, d)
        scores = jnp.where(jnp.tri(t, dtype=bool), q @ k.mT / (width // heads) ** 0.5, -jnp.inf)
        seen = jax.nn.softmax(scores) @ v
        return linear(weights, seen.swapaxes(1, 2).reshape(x.shape))

    def network(weights: Weights, ids: jax.Array, statistics: Statistics) -> jax.Array:
        x = next(weights)[ids] + next(weights)[: ids.shape[1]]
        for _ in range(layers):
            x = x + attention(weights, layer_norm(weights, x))
            x = x + linear(weights, jax.nn.relu(linear(weights, layer_norm(weights, x))))
        return (layer_norm(weights, x) @ next(weights)).reshape((-1, vocabulary))

    return network


# ---- updates ------------------------------------------------------------------------------------

Moments = list[jax.Array]


def update(
    optimizer: str, options: Mapping[str, float], weights: Moments, grads: Moments, state: Any
) -> tuple[Moments, Any]:
    """The new weights and state; `state` is from `initial_state`."""
    lr = options["lr"]
    if optimizer == "SGD":
        return [w - lr * g for w, g in zip(weights, grads, strict=True)], state
    count, ms, vs = state
    count = count + 1
    shrink = 1 - lr * options.get("weight_decay", 0.0)
    eps = options.get("eps", 1e-8)
    ms = [0.9 * m + 0.1 * g for m, g in zip(ms, grads, strict=True)]
    vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, grads, strict=True)]
    unbias_m, unbias_v = 1 - 0.9**count, 1 - 0.999**count
    weights = [
        w * shrink - lr * (m / unbias_m) / (jnp.sqrt(v / unbias_v) + eps)
        for w, m, v in zip(weights, ms, vs, strict=True)
    ]
    return weights, (count, ms, vs)


def initial_state(optimizer: str, weights: Moments) -> Any:
    """Nothing for SGD; the number of updates and two moments of every weight for Adam and AdamW."""
    if optimizer == "SGD":
        return ()
    zeros = [[jnp.zeros_like(w) for w in weights] for _ in range(2)]
    return jnp.zeros((), jnp.float32), *zeros
