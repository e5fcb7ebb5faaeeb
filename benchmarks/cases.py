"""The training steps that the benchmarks compare: a batch, a network, an optimizer.

Every call of a case's function gives the same batch and a new model with the same weights, so that
each contender trains one of its own from the same start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import roofline

import needle as ndl
from needle import models, nn

# Some gradients are zero but for rounding (a bias before a batch norm, that of attention's keys).
# Adam would blow the rounding up to whole steps; eps keeps it small in every contender, and so does
# a low learning rate where a rounding decides whether a ReLU lets a gradient through.
ADAMW = {"lr": 3e-5, "weight_decay": 0.01, "eps": 1e-4}


@dataclass(frozen=True)
class Case:
    """One step: the cross-entropy of `logits(x)` with labels `y`, its gradients, an update.

    `network` and `sizes` name the same network in `torch_networks` and `jax_networks`, the
    optimizer's name and options are those of `needle.optim` and `torch.optim` alike.
    """

    x: np.ndarray
    y: np.ndarray
    model: nn.Module
    logits: Callable[[ndl.Tensor], ndl.Tensor]
    network: str
    optimizer: str
    options: Mapping[str, float]
    work: roofline.Work
    sizes: Mapping[str, Any] = field(default_factory=dict)


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of random images and labels of ten classes."""
    rng = np.random.default_rng(0)
    return rng.random(shape, dtype=np.float32), rng.integers(0, 10, shape[0])


def tokens(vocabulary: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of random tokens and, for every one, a token to predict."""
    rng = np.random.default_rng(0)
    return rng.integers(0, vocabulary, shape), rng.integers(0, vocabulary, shape).reshape(-1)


def _mlp(batch: int, widths: tuple[int, ...], bias: bool) -> Case:
    np.random.seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    return Case(
        *images(batch, widths[0]), model, model, "mlp", "SGD", {"lr": 0.1},
        roofline.mlp(batch, widths), {"widths": widths, "bias": bias},
    )  # fmt: skip


def two_layer(batch: int = 100) -> Case:
    """784-100-10, ReLU, no biases, SGD."""
    return _mlp(batch, (784, 100, 10), bias=False)


def wide_mlp(batch: int = 256, hidden: int = 1024) -> Case:
    """784-hidden-hidden-10, ReLU, SGD."""
    return _mlp(batch, (784, hidden, hidden, 10), bias=True)


def mlp_resnet(batch: int = 100) -> Case:
    """MLPResNet 784-100, inner 50, 3 blocks, Adam. Without dropout: draws differ."""
    np.random.seed(0)
    model = models.MLPResNet(784, drop_prob=0.0)
    return Case(
        *images(batch, 784), model, model, "mlp_resnet", "Adam", {"lr": 1e-3},
        roofline.mlp(batch, (784, 100, *[50, 100] * 3, 10)),
    )  # fmt: skip


def resnet9(batch: int = 128) -> Case:
    """The course's ResNet9, AdamW."""
    np.random.seed(0)
    model = models.ResNet9()
    return Case(
        *images(batch, 3, 32, 32), model, model, "resnet9", "AdamW", ADAMW, roofline.resnet9(batch)
    )


def lstm(
    vocabulary: int = 10_000, embedding: int = 100, hidden: int = 100, layers: int = 1,
    length: int = 40, batch: int = 16,
) -> Case:  # fmt: skip
    """An LSTM language model, SGD."""
    np.random.seed(0)
    model = models.LanguageModel(embedding, vocabulary, hidden, layers, "lstm")
    model.embedding.weight.data = model.embedding.weight.data * 0.1
    sizes = dict(vocabulary=vocabulary, embedding=embedding, hidden=hidden, layers=layers)
    return Case(
        *tokens(vocabulary, length, batch), model, lambda x: model(x)[0], "lstm", "SGD",
        {"lr": 0.5}, roofline.lstm(length, batch, **sizes), sizes,
    )  # fmt: skip


def lstm_large() -> Case:
    """Embedding 256, hidden 512, two layers, 35 steps, batch 32."""
    return lstm(embedding=256, hidden=512, layers=2, length=35, batch=32)


def gpt(
    vocabulary: int = 65, length: int = 64, width: int = 128, layers: int = 4, heads: int = 4,
    batch: int = 12,
) -> Case:  # fmt: skip
    """A GPT with ReLU, AdamW."""
    np.random.seed(0)
    sizes = dict(vocabulary=vocabulary, length=length, width=width, layers=layers, heads=heads)
    model = models.GPT(*sizes.values(), activation="relu", tied=False)
    return Case(
        *tokens(vocabulary, batch, length), model, model.predict_tokens, "gpt", "AdamW", ADAMW,
        roofline.gpt(batch, **sizes), sizes,
    )  # fmt: skip


def gpt2(length: int = 1024, batch: int = 4) -> Case:
    """A GPT of GPT-2 small's shape: 12 layers, width 768, 12 heads."""
    return gpt(vocabulary=50257, length=length, width=768, layers=12, heads=12, batch=batch)


def gpt2_short() -> Case:
    """The same network on 2 texts of 256 tokens."""
    return gpt2(length=256, batch=2)


def mlp(batch: int = 64, width: int = 128, depth: int = 3) -> Case:
    """`depth` linear layers: 784 inputs, `width` in between, 10 classes; ReLU, SGD."""
    return _mlp(batch, (784, *[width] * (depth - 1), 10), bias=True)
