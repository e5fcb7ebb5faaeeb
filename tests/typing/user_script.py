"""A program as users write it, for type checkers: every name and argument here must be known."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle import nn, optim


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def step(net: nn.Module, optimizer: optim.Optimizer, x: ndl.Tensor, y: ndl.Tensor) -> float:
    optimizer.reset_grad()
    loss: ndl.Tensor = nn.SoftmaxLoss()(net(x), y)
    loss.backward()
    optimizer.step()
    return float(loss.item())


def functions(x: ndl.Tensor) -> ndl.Tensor:
    y = ndl.relu(x) + ndl.exp(x) * 2 - x / 3 + x**2
    y = ndl.concatenate([y, ndl.tanh(x)], axis=0).reshape(-1, 2)
    y = y.sum(axis=1, keepdims=True) + y.mean(axis=0) + ndl.softmax(y, axis=-1)
    values, _indices = ndl.topk(y, 1)
    with ndl.no_grad():
        y = ndl.where(y > 0, y, 0.0) @ ndl.ones(2, 2)
    return y + values.detach()


def main() -> None:
    net = model()
    adam = optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    train = ndl.data.DataLoader(ndl.data.DigitsDataset(train=True), batch_size=32, shuffle=True)
    compiled = ndl.jit(step)
    for _x, _y in train:
        x = ndl.Tensor(np.ones((4, 8), np.float32), device=ndl.cpu(), dtype="float32")
        compiled(net, adam, x, ndl.Tensor([0, 1, 2, 0], dtype="int64"))
    with ndl.amp.autocast("bfloat16"):
        functions(ndl.zeros(4, 2))
    ndl.io.save_checkpoint("model.safetensors", net.state_dict(), {"model": "mine"})
    text: ndl.models.GPT | None = None
    ndl.set_num_threads(1)
    print(text, [p.shape for p in net.parameters()])
