"""Train MLPResNet on MNIST: `python apps/mlp_resnet.py [data_dir]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import needle as ndl
from needle import nn
from needle.models import MLPResNet, ResidualBlock

__all__ = ["MLPResNet", "ResidualBlock", "epoch", "train_mnist"]


def epoch(
    dataloader: ndl.data.DataLoader, model: nn.Module, opt: ndl.optim.Optimizer | None = None
) -> tuple[float, float]:
    """One pass over the data, which trains `model` if `opt` is given.

    Returns the error rate and the loss, both averaged over the samples. Seeds NumPy with 4.
    """
    np.random.seed(4)
    model.train() if opt is not None else model.eval()
    loss_fn = nn.SoftmaxLoss()
    flatten = nn.Flatten()
    errors, total_loss, samples = 0, 0.0, 0
    for x, y in dataloader:
        logits = model(flatten(x))
        loss = loss_fn(logits, y)
        if opt is not None:
            opt.reset_grad()
            loss.backward()
            opt.step()
        errors += int(np.sum(logits.numpy().argmax(axis=1) != y.numpy()))
        total_loss += float(loss.numpy()) * y.shape[0]
        samples += y.shape[0]
    if samples == 0:
        raise ValueError("[epoch] the data loader yields no samples")
    return errors / samples, total_loss / samples


def train_mnist(
    batch_size: int = 100,
    epochs: int = 10,
    optimizer: type[ndl.optim.Optimizer] = ndl.optim.Adam,
    lr: float = 0.001,
    weight_decay: float = 0.001,
    hidden_dim: int = 100,
    data_dir: str = "data",
) -> tuple[float, float, float, float]:
    """Train MLPResNet on the MNIST files in `data_dir`.

    Returns the last epoch's training error and loss and the test error and loss.
    """
    np.random.seed(4)
    folder = Path(data_dir)
    train_set = ndl.data.MNISTDataset(
        str(folder / "train-images-idx3-ubyte.gz"), str(folder / "train-labels-idx1-ubyte.gz")
    )
    test_set = ndl.data.MNISTDataset(
        str(folder / "t10k-images-idx3-ubyte.gz"), str(folder / "t10k-labels-idx1-ubyte.gz")
    )
    train_loader = ndl.data.DataLoader(train_set, batch_size, shuffle=True)
    test_loader = ndl.data.DataLoader(test_set, batch_size)
    model = MLPResNet(28 * 28, hidden_dim=hidden_dim)
    opt = optimizer(model.parameters(), lr=lr, weight_decay=weight_decay)
    train_error, train_loss = float("nan"), float("nan")
    for _ in range(epochs):
        train_error, train_loss = epoch(train_loader, model, opt)
    test_error, test_loss = epoch(test_loader, model)
    return train_error, train_loss, test_error, test_loss


if __name__ == "__main__":
    start = time.perf_counter()
    result = train_mnist(data_dir=sys.argv[1] if len(sys.argv) > 1 else "data")
    print("train error {:.4f}, loss {:.4f}; test error {:.4f}, loss {:.4f}".format(*result))
    print(f"{time.perf_counter() - start:.1f} s")
