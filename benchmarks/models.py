"""Training steps of image, sequence and attention models, eager needle against eager PyTorch.

    python benchmarks/models.py [resnet9 lstm lstm-large gpt]

The same weights and batches; losses of the first 8 steps must agree to 1e-4. PyTorch runs the
convolutional network in its default layout and channels last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Step, Workload, measure, torch_or_none

import needle as ndl
from needle import models, nn, optim

# Some gradients are zero but for rounding (a bias before a batch norm, that of attention's keys).
# Adam would blow the rounding up to whole steps; eps keeps it small in every contender, and so does
# a low learning rate where a rounding decides whether a ReLU lets a gradient through.
ADAM = {"lr": 3e-5, "weight_decay": 0.01, "eps": 1e-4}


def needle_step(logits: Callable[[], ndl.Tensor], labels: Any, optimizer: optim.Optimizer) -> Step:
    """One eager step: forward, backward, update."""

    def step() -> float:
        loss = ndl.cross_entropy(logits(), labels)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(torch: Any, logits: Callable[[], Any], labels: Any, optimizer: Any) -> Step:
    """The same in PyTorch."""

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(logits(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def resnet9() -> dict[str, Step]:
    """The course's ResNet9, batch 128, AdamW."""
    rng = np.random.default_rng(0)
    x, y = rng.random((128, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 128)
    np.random.seed(0)
    model = models.ResNet9()
    steps: dict[str, Step] = {}
    torch: Any = torch_or_none()
    if torch:
        for name, layout in (
            ("PyTorch", torch.contiguous_format), ("PyTorch channels last", torch.channels_last),
        ):  # fmt: skip
            peer = _torch_resnet9(torch)
            _copy_weights(torch, model, peer)
            peer = peer.to(memory_format=layout)
            images = torch.from_numpy(x).contiguous(memory_format=layout)
            adam = torch.optim.AdamW(peer.parameters(), **ADAM)
            steps[name] = torch_step(
                torch, lambda p=peer, i=images: p(i), torch.from_numpy(y), adam
            )
    images = ndl.Tensor(x, requires_grad=False)
    optimizer = optim.AdamW(model.parameters(), **ADAM)
    return {"needle": needle_step(lambda: model(images), y, optimizer), **steps}


def _torch_resnet9(torch: Any) -> Any:
    t = torch.nn

    class Residual(t.Module):
        def __init__(self, body: Any) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    def block(a: int, b: int, kernel: int, stride: int) -> Any:
        return t.Sequential(t.Conv2d(a, b, kernel, stride, kernel // 2), t.BatchNorm2d(b), t.ReLU())

    def residual(c: int) -> Any:
        return Residual(t.Sequential(block(c, c, 3, 1), block(c, c, 3, 1)))

    return t.Sequential(
        block(3, 16, 7, 4), block(16, 32, 3, 2), residual(32), block(32, 64, 3, 2),
        block(64, 128, 3, 2), residual(128), t.Flatten(), t.Linear(128, 128), t.ReLU(),
        t.Linear(128, 10),
    )  # fmt: skip


def _copy_weights(torch: Any, model: nn.Module, peer: Any) -> None:
    """needle's weights, in the order of parameters, brought into PyTorch's shapes."""
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), peer.parameters(), strict=True):
            value = ours.numpy()
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif value.ndim == 2 and theirs.ndim == 2 and not _is_embedding(peer, theirs):
                value = value.T
            theirs.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(theirs.shape))


def _is_embedding(peer: Any, parameter: Any) -> bool:
    return any(type(m).__name__ == "Embedding" and m.weight is parameter for m in peer.modules())


def lstm(
    vocabulary: int = 10_000, embedding: int = 100, hidden: int = 100, layers: int = 1,
    length: int = 40, batch: int = 16,
) -> dict[str, Step]:  # fmt: skip
    """An LSTM language model, SGD."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, vocabulary, (length, batch))
    y = rng.integers(0, vocabulary, length * batch)
    np.random.seed(0)
    model = models.LanguageModel(embedding, vocabulary, hidden, layers, "lstm")
    model.embedding.weight.data = model.embedding.weight.data * 0.1
    tokens = ndl.Tensor(x)
    sgd = optim.SGD(model.parameters(), lr=0.5)
    steps = {"needle": needle_step(lambda: model(tokens)[0], y, sgd)}
    if torch := torch_or_none():
        steps["PyTorch"] = _torch_lstm(torch, model, (vocabulary, embedding, hidden, layers), x, y)
    return steps


def _torch_lstm(torch: Any, model: Any, sizes: tuple[int, ...], x: Any, y: Any) -> Step:
    t, (vocabulary, embedding, hidden, layers) = torch.nn, sizes

    class Model(t.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = t.Embedding(vocabulary, embedding)
            self.seq_model = t.LSTM(embedding, hidden, layers)
            self.linear = t.Linear(hidden, vocabulary)

        def forward(self, tokens: Any) -> Any:
            states, _ = self.seq_model(self.embedding(tokens))
            return self.linear(states.flatten(0, 1))

    peer = Model()
    _copy_weights(torch, model, peer)
    sgd = torch.optim.SGD(peer.parameters(), lr=0.5)
    tokens = torch.from_numpy(x)
    return torch_step(torch, lambda: peer(tokens), torch.from_numpy(y), sgd)


def lstm_large() -> dict[str, Step]:
    """Embedding 256, hidden 512, two layers, 35 steps, batch 32."""
    return lstm(embedding=256, hidden=512, layers=2, length=35, batch=32)


def gpt() -> dict[str, Step]:
    """4 layers, width 128, 4 heads, 64 tokens, batch 12, vocabulary 65, ReLU, AdamW."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 65, (12, 64)), rng.integers(0, 65, 12 * 64)
    np.random.seed(0)
    model = models.GPT(65, 64, 128, 4, 4, activation="relu", tied=False)
    tokens = ndl.Tensor(x)
    optimizer = optim.AdamW(model.parameters(), **ADAM)
    steps = {"needle": needle_step(lambda: model.predict_tokens(tokens), y, optimizer)}
    if torch := torch_or_none():
        steps["PyTorch"] = _torch_gpt(torch, model, x, y)
    return steps


def _torch_gpt(torch: Any, model: Any, x: Any, y: Any) -> Step:
    t, attend = torch.nn, torch.nn.functional.scaled_dot_product_attention

    class Block(t.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.in_proj = t.LayerNorm(128), t.Linear(128, 384)
            self.out_proj, self.norm2 = t.Linear(128, 128), t.LayerNorm(128)
            self.mlp = t.Sequential(t.Linear(128, 512), t.ReLU(), t.Linear(512, 128))

        def forward(self, x: Any) -> Any:
            b, n, _ = x.shape
            qkv = self.in_proj(self.norm1(x)).view(b, n, 3, 4, 32).permute(2, 0, 3, 1, 4)
            seen = attend(*qkv, is_causal=True).transpose(1, 2).reshape(b, n, 128)
            x = x + self.out_proj(seen)
            return x + self.mlp(self.norm2(x))

    class Model(t.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = t.Embedding(65, 128), t.Embedding(64, 128)
            self.blocks = t.Sequential(*(Block() for _ in range(4)))
            self.norm, self.head = t.LayerNorm(128), t.Linear(128, 65, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
            return self.head(self.norm(self.blocks(x))).flatten(0, 1)

    peer = Model()
    _copy_weights(torch, model, peer)
    adam = torch.optim.AdamW(peer.parameters(), **ADAM)
    tokens = torch.from_numpy(x)
    return torch_step(torch, lambda: peer(tokens), torch.from_numpy(y), adam)


WORKLOADS: dict[str, Workload] = {
    "resnet9": (resnet9, "<= 1.2 x fastest"),
    "lstm": (lstm, "<= 1.0 x PyTorch"),
    "lstm-large": (lstm_large, "<= 0.9 x PyTorch"),
    "gpt": (gpt, "<= 1.0 x PyTorch"),
}


def main(names: list[str]) -> None:
    """Check and time the workloads of these names (all by default) and print the table."""
    measure({name: WORKLOADS[name] for name in names or WORKLOADS})


if __name__ == "__main__":
    main(sys.argv[1:])
