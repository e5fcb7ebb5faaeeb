"""Digits are sorted without labels: contrastive learning (SimCLR).

Every image is moved, dimmed and partly covered twice, in different ways. The network learns to
find, among all others, the two that are one image. Then a few labels are enough: each held-out
digit gets the label of the most similar of 50 labelled ones. The digits come with needle.

T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for contrastive learning of
visual representations", 2020.

Reaches 86.9 % of the held-out digits with 50 labels (pixels alone: 84.4 %) in 12 s.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import needle as ndl
from needle import nn
from needle.nn import functional as F
from needle.optim import AdamW

TEMPERATURE = 0.2


def augmented(images: np.ndarray) -> ndl.Tensor:
    """Images (B, 8, 8), each moved by up to a pixel, dimmed, with a 2×2 square covered, noisy."""
    count = len(images)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    y, x = np.random.randint(0, 3, (2, count, 1, 1))
    rows, columns = y + np.arange(8)[:, None], x + np.arange(8)
    out = padded[np.arange(count)[:, None, None], rows, columns]
    y, x = np.random.randint(0, 7, (2, count, 1, 1))
    index = np.arange(8)
    rows = (index >= y[:, 0]) & (index < y[:, 0] + 2)
    columns = (index >= x[:, 0]) & (index < x[:, 0] + 2)
    out = np.where(rows[:, :, None] & columns[:, None, :], 0, out)
    out = out * np.random.uniform(0.7, 1.2, (count, 1, 1)) + np.random.normal(0, 0.1, out.shape)
    return ndl.tensor(out[:, None].astype("float32"))


class Encoder(nn.Module):
    """Images (B, 1, 8, 8) → what they are (B, 4·width), and where the loss compares them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 4 * width),
        )
        self.projection = nn.Sequential(nn.ReLU(), nn.Linear(4 * width, 32))

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        return F.normalize(self.projection(self.features(x)), dim=1)


def contrastive_loss(a: ndl.Tensor, b: ndl.Tensor) -> ndl.Tensor:
    """Rows i of `a` and `b` (B, 32) are one image: each must find the other among all 2·B."""
    z = ndl.cat([a, b])
    similar = z @ z.T / TEMPERATURE
    similar = similar.masked_fill(ndl.eye(len(z)) > 0, -1e9)
    partner = ndl.arange(len(z)).roll(len(a), 0)
    return F.cross_entropy(similar, partner)


def train_step(model: Encoder, optimizer: AdamW, a: ndl.Tensor, b: ndl.Tensor) -> ndl.Tensor:
    optimizer.zero_grad()
    loss = contrastive_loss(model(a), model(b))
    loss.backward()
    optimizer.step()
    return loss


def accuracy(known: np.ndarray, labels: np.ndarray, new: np.ndarray, truth: np.ndarray) -> float:
    """Each row of `new` gets the label of the row of `known` at the smallest angle."""
    known, new = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (known, new))
    return float(np.mean(labels[(new @ known.T).argmax(1)] == truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds, as in the tests")
    parser.add_argument("--eager", action="store_true", help="do not compile the step")
    args = parser.parse_args()
    ndl.manual_seed(0)
    steps, batch, width = (200, 64, 8) if args.short else (1000, 256, 16)
    images, labels = ndl.data.DigitsDataset()[:]
    test, truth = ndl.data.DigitsDataset(train=False)[:]
    images, test = images[..., 0], test[..., 0]
    model = Encoder(width)
    optimizer = AdamW(model.parameters(), lr=1e-2 if args.short else 3e-3, weight_decay=0.01)
    step = train_step if args.eager else ndl.jit(train_step)
    start = time.perf_counter()
    losses = []
    for i in range(1, steps + 1):
        chosen = images[np.random.randint(0, len(images), batch)]
        losses.append(step(model, optimizer, augmented(chosen), augmented(chosen)).item())
        if i % (steps // 5) == 0:
            print(f"step {i}: loss {losses[-1]:.3f}, {time.perf_counter() - start:.1f} s")
    few = np.concatenate([np.flatnonzero(labels == digit)[:5] for digit in range(10)])
    model.eval()
    with ndl.no_grad():
        known, new = (model.features(ndl.tensor(x[:, None])).numpy() for x in (images[few], test))
    learnt = accuracy(known, labels[few], new, truth)
    pixels = accuracy(images[few].reshape(-1, 64), labels[few], test.reshape(-1, 64), truth)
    print(f"with 50 labels: {learnt:.3f} by what was learnt, {pixels:.3f} by pixels")
    assert np.mean(losses[-10:]) < 0.9 * losses[0]
    assert args.short or learnt > pixels


if __name__ == "__main__":
    main()
