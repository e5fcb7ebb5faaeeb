"""Training steps of needle and its peers, on the same weights and batches, in one process.

    python benchmarks/steps.py [two-layer mlp-resnet softmax-regression]

Losses of the first 8 steps must agree to 1e-4 before anything is timed. Then the contenders take
turns in blocks of steps; the table shows medians and needle's time over each peer's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Step, Workload, jax_or_none, measure, torch_or_none

import needle as ndl
from needle import nn, optim
from needle.models import MLPResNet
from needle.simple_ml import reference


def batch(features: int = 784, size: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, the same for every contender."""
    rng = np.random.default_rng(0)
    images = rng.random((size, features), dtype=np.float32)
    return images, rng.integers(0, 10, size)


def needle_step(
    model: Callable[[ndl.Tensor], ndl.Tensor],
    optimizer: optim.Optimizer,
    x: np.ndarray,
    y: np.ndarray,
) -> Step:
    """One eager training step of a needle model."""
    images, labels = ndl.Tensor(x, requires_grad=False), ndl.Tensor(y)
    loss_fn = nn.SoftmaxLoss()

    def step() -> float:
        loss = loss_fn(model(images), labels)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(model: object, optimizer: object, x: np.ndarray, y: np.ndarray) -> Step:
    """One eager training step of a PyTorch model."""
    import torch

    images, labels = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(images), labels)  # type: ignore[operator]
        optimizer.zero_grad()  # type: ignore[attr-defined]
        loss.backward()
        optimizer.step()  # type: ignore[attr-defined]
        return loss.item()

    return step


def two_layer() -> dict[str, Step]:
    """784-100-10, ReLU, batch 100, SGD."""
    x, y = batch()
    rng = np.random.default_rng(1)
    weights = [
        (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for shape in ((784, 100), (100, 10))
    ]
    w1, w2 = (nn.Parameter(w) for w in weights)
    steps = {
        "needle": needle_step(lambda t: ndl.relu(t @ w1) @ w2, optim.SGD([w1, w2], lr=0.1), x, y)
    }
    if torch := torch_or_none():
        v1, v2 = (torch.nn.Parameter(torch.from_numpy(w.copy())) for w in weights)
        sgd = torch.optim.SGD([v1, v2], lr=0.1)
        steps["PyTorch"] = torch_step(lambda t: torch.relu(t @ v1) @ v2, sgd, x, y)
    if (jax := jax_or_none()) is not None:
        steps["JAX (jit)"] = _jax_two_layer(jax, weights, x, y)
    return steps


def _jax_two_layer(jax: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Step:
    np_, state = jax.numpy, [jax.numpy.asarray(w) for w in weights]

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        logits = jax.nn.relu(x @ weights[0]) @ weights[1]
        return -np_.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(weights, x, y)
        return loss, [w - 0.1 * g for w, g in zip(weights, grads, strict=True)]

    images, labels = np_.asarray(x), np_.asarray(y)

    def step() -> float:
        loss, state[:] = update(state, images, labels)
        return float(loss)

    return step


def mlp_resnet() -> dict[str, Step]:
    """MLPResNet 784-100, inner 50, 3 blocks, batch 100, Adam. Without dropout: draws differ."""
    x, y = batch()
    np.random.seed(0)
    model = MLPResNet(784, drop_prob=0.0)
    weights = [p.numpy() for p in model.parameters()]
    steps = {"needle": needle_step(model, optim.Adam(model.parameters(), lr=1e-3), x, y)}
    if torch := torch_or_none():
        peer = _torch_mlp_resnet(torch)
        for p, w in zip(peer.parameters(), weights, strict=True):
            p.data = torch.from_numpy(np.ascontiguousarray(w.T if w.ndim == 2 else w))
            if p.ndim == 2 and p.shape[1] == 1:
                p.data = p.data.reshape(-1)
        adam = torch.optim.Adam(peer.parameters(), lr=1e-3)
        steps["PyTorch"] = torch_step(peer, adam, x, y)
    return steps


def _torch_mlp_resnet(torch: object) -> object:
    t = torch.nn  # type: ignore[attr-defined]

    class Residual(t.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = t.Sequential(
                t.Linear(100, 50), t.BatchNorm1d(50), t.ReLU(), t.Dropout(0.0),
                t.Linear(50, 100), t.BatchNorm1d(100),
            )  # fmt: skip

        def forward(self, x: object) -> object:
            return torch.relu(x + self.body(x))  # type: ignore[attr-defined]

    blocks = [Residual() for _ in range(3)]
    return t.Sequential(t.Linear(784, 100), t.ReLU(), *blocks, t.Linear(100, 10))


def softmax_regression() -> dict[str, Step]:
    """An epoch of softmax regression on 10,000 images, batch 100: C++ against NumPy."""
    rng = np.random.default_rng(0)
    x = rng.random((10_000, 784), dtype=np.float32)
    y = rng.integers(0, 10, 10_000).astype(np.uint8)

    def contender(epoch: Callable[..., None]) -> Step:
        theta = np.zeros((784, 10), dtype=np.float32)

        def step() -> float:
            epoch(x, y, theta, lr=0.1, batch=100)
            # einsum, because a product by BLAS would leave its idle workers in the way.
            return float(reference.softmax_loss(np.einsum("ij,jk", x[:10], theta), y[:10]))

        return step

    return {
        "needle": contender(reference.softmax_regression_epoch_cpp),
        "NumPy": contender(reference.softmax_regression_epoch),
    }


WORKLOADS: dict[str, Workload] = {
    "two-layer": (two_layer, "<= 1.0 x PyTorch"),
    "mlp-resnet": (mlp_resnet, "<= 1.0 x PyTorch"),
    "softmax-regression": (softmax_regression, "<= 0.5 x NumPy"),
}


def main(names: list[str]) -> None:
    """Check and time the workloads of these names (all by default) and print the table."""
    measure({name: WORKLOADS[name] for name in names or WORKLOADS})


if __name__ == "__main__":
    main(sys.argv[1:])
