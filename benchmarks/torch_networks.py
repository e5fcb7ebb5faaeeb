"""The benchmarks' networks in PyTorch; `cases.py` has needle's. Imported where PyTorch is there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


def mlp(widths: Sequence[int], bias: bool) -> nn.Module:
    """Linear layers of these widths with ReLUs between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def mlp_resnet() -> nn.Module:
    """784-100, three residual blocks that are 50 wide inside, 10 classes."""

    def block() -> nn.Module:
        body = nn.Sequential(
            nn.Linear(100, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(50, 100), nn.BatchNorm1d(100),
        )  # fmt: skip
        return nn.Sequential(Residual(body), nn.ReLU())

    blocks = [block() for _ in range(3)]
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), *blocks, nn.Linear(100, 10))


def resnet9() -> nn.Module:
    """The course's ResNet9 for 32×32 images."""

    def block(a: int, b: int, kernel: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(a, b, kernel, stride, kernel // 2)
        return nn.Sequential(conv, nn.BatchNorm2d(b), nn.ReLU())

    def residual(c: int) -> nn.Module:
        return Residual(nn.Sequential(block(c, c, 3, 1), block(c, c, 3, 1)))

    return nn.Sequential(
        block(3, 16, 7, 4), block(16, 32, 3, 2), residual(32), block(32, 64, 3, 2),
        block(64, 128, 3, 2), residual(128), nn.Flatten(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


class LanguageModel(nn.Module):
    """An embedding, LSTM layers and a linear map to the vocabulary: (T, B) → (T·B, vocabulary)."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.seq_model = nn.LSTM(embedding, hidden, layers)
        self.linear = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.seq_model(self.embedding(tokens))
        return self.linear(states.flatten(0, 1))


lstm = LanguageModel


class Block(nn.Module):
    """A pre-norm Transformer block: (B, T, width), the shape kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.in_proj = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out_proj, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, width = x.shape
        qkv = self.in_proj(self.norm1(x)).view(b, t, 3, self.heads, width // self.heads)
        seen = scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), is_causal=True)
        x = x + self.out_proj(seen.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Token and position embeddings, blocks, a norm and a head: (B, T) → (B·T, vocabulary)."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


gpt = GPT


def copy_weights(ours: Sequence[Any], network: nn.Module) -> None:
    """needle's parameters, in their order, brought into the shapes of the network's."""
    embeddings = [m.weight for m in network.modules() if isinstance(m, nn.Embedding)]
    with torch.no_grad():
        for source, theirs in zip(ours, network.parameters(), strict=True):
            value = source.numpy()
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif theirs.ndim == 2 and not any(theirs is e for e in embeddings):
                value = value.T
            theirs.copy_(torch.tensor(value).reshape(theirs.shape))
