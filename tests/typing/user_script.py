"""A program as users write it, for type checkers: every name and argument here must be known.

`assert_type` says what a checker infers, so that a function that becomes Any is noticed.
"""

from __future__ import annotations

from typing import assert_type

import numpy as np

import needle as ndl
from needle import nn, optim
from needle.data import DataLoader, Dataset, DigitsDataset


class Net(nn.Module):
    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.norm = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(ndl.ones(width))
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, classes))

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        hidden: ndl.Tensor = self.norm(self.hidden(x.reshape(x.shape[0], -1)))
        logits: ndl.Tensor = self.head(hidden * self.scale)
        return logits


class Squares(Dataset):
    def __getitem__(self, index: int) -> tuple[float, int]:
        return index / 2, index**2

    def __len__(self) -> int:
        return 10


@ndl.jit
def step(net: nn.Module, optimizer: optim.Optimizer, x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
    optimizer.zero_grad()
    loss: ndl.Tensor = nn.CrossEntropyLoss()(net(x), y)
    loss.backward()
    optimizer.step()
    return loss


def train(net: nn.Module, epochs: int) -> list[float]:
    optimizer = optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = optim.CosineLR(optimizer, total_steps=100)
    loader = DataLoader(DigitsDataset(train=True), batch_size=32, shuffle=True, num_workers=1)
    losses: list[float] = []
    for _ in range(epochs):
        net.train()
        for x, y in loader:
            losses.append(float(step(net, optimizer, x, y).item()))
            schedule.step()
        optim.clip_grad_norm(net.parameters(), 1.0)
    return losses


def accuracy(net: nn.Module) -> float:
    net.eval()
    right = 0
    with ndl.no_grad():
        for x, y in DataLoader(DigitsDataset(train=False), batch_size=100):
            predictions = ndl.argmax(net(x), axis=1)
            assert_type(predictions, ndl.Tensor)
            right += int((predictions == y).sum().item())
    return right / len(DigitsDataset(train=False))


def functions(x: ndl.Tensor) -> ndl.Tensor:
    assert_type(ndl.relu(x) + ndl.exp(x) * 2 - x / 3 + x**2, ndl.Tensor)
    assert_type(ndl.concatenate([x, ndl.tanh(x)], axis=0), ndl.Tensor)
    assert_type(ndl.stack([x, x], axis=-1), ndl.Tensor)
    assert_type(ndl.mean(x, axis=(0, 1), keepdims=True), ndl.Tensor)
    assert_type(ndl.summation(x), ndl.Tensor)
    assert_type(x.sum(axis=1, keepdims=True), ndl.Tensor)
    assert_type(x.mean(axis=0), ndl.Tensor)
    assert_type(x.reshape(-1, 2).transpose((0, 1)), ndl.Tensor)
    assert_type(x[0, :, None], ndl.Tensor)
    assert_type(x[x > 0], ndl.Tensor)
    assert_type(ndl.softmax(x, axis=-1), ndl.Tensor)
    assert_type(ndl.where(x > 0, x, 0.0), ndl.Tensor)
    assert_type(ndl.topk(x, 1).values, ndl.Tensor)
    assert_type(ndl.sort(x, axis=0)[1], ndl.Tensor)
    assert_type(ndl.max(x), ndl.Tensor)
    assert_type(x.max(axis=1), ndl.Tensor)
    assert_type(x.max(dim=1).indices, ndl.Tensor)
    _, predicted = ndl.max(x, 1)
    assert_type(predicted, ndl.Tensor)
    assert_type(nn.functional.max_pool2d(x, 2), ndl.Tensor)
    pooled = nn.functional.max_pool2d(x, 2, return_indices=True)
    assert_type(pooled, tuple[ndl.Tensor, ndl.Tensor])
    assert_type(ndl.einsum("ij,kj->ik", x, x), ndl.Tensor)
    assert_type(ndl.gather(x, 1, ndl.argmax(x, axis=1, keepdims=True)), ndl.Tensor)
    assert_type(ndl.cross_entropy(x, np.zeros(4, np.int64)), ndl.Tensor)
    assert_type(ndl.scaled_dot_product_attention(x, x, x, mask=None, causal=True), ndl.Tensor)
    assert_type(ndl.init.kaiming_uniform(4, 2, dtype="float32"), ndl.Tensor)
    assert_type(ndl.scan(lambda h, x: (h + x, h), ndl.zeros(2), x), tuple[ndl.Tensor, ndl.Tensor])
    assert_type(x.shape, tuple[int, ...])
    return x @ ndl.ones(2, 2)


def model() -> nn.Module:
    chain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    assert_type(chain[0], nn.Module)
    assert_type(chain[:2], nn.Sequential)
    assert_type(chain.parameters()[0], nn.Parameter)
    assert_type(chain.eval(), nn.Sequential)
    assert_type(chain.state_dict(), dict[str, ndl.Tensor])
    return chain


def methods(x: ndl.Tensor) -> tuple[ndl.Tensor, list[float]]:
    y: ndl.Tensor = (2 - x.T @ x[0]).clip(0, 1).softmax(axis=-1).astype("float64")
    y += y.max() // 2
    shape: tuple[int, ...] = y.reshape(-1, 1).shape
    array: ndl.NDArray = y.realize_cached_data() * len(shape)
    host: np.ndarray = (array.sum(axis=0) >= 1).numpy()
    return y, host.tolist()


def main() -> None:
    net = Net()
    print(train(net, epochs=1), accuracy(net), len(Squares()), model())
    optim.SGD([{"params": [net.scale], "lr": 0.5}, {"params": net.parameters()[1:]}], lr=0.1)
    x = ndl.Tensor(np.ones((4, 2), np.float32), device=ndl.cpu(), dtype="float32")
    with ndl.amp.autocast("bfloat16"):
        functions(x)
    ndl.save({"model": net.state_dict(), "name": "mine"}, "model.safetensors")
    text: ndl.models.GPT | None = None
    ndl.set_num_threads(1)
    print(text, [p.shape for p in net.parameters()])
