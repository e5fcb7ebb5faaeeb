"""Handwritten digits with a two-layer perceptron, from Tensors and their gradients alone.

D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors",
1986.

Reaches 97.8 % of the held-out digits in 1.5 s.
"""

from __future__ import annotations

import argparse

import numpy as np

import needle as ndl
from needle.nn import functional as F


def logits(weights: list[ndl.Tensor], x: ndl.Tensor) -> ndl.Tensor:
    w1, b1, w2, b2 = weights
    return F.relu(x @ w1 + b1) @ w2 + b2


def step(weights: list[ndl.Tensor], x: ndl.Tensor, y: ndl.Tensor, rate: float) -> ndl.Tensor:
    loss = F.cross_entropy(logits(weights, x), y)
    loss.backward()
    with ndl.no_grad():
        for w in weights:
            w -= rate * w.grad
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds, as in the tests")
    parser.add_argument("--eager", action="store_true", help="do not compile the step")
    args = parser.parse_args()
    ndl.manual_seed(0)
    shapes = (64, 100), (100,), (100, 10), (10,)
    weights = [(0.1 * ndl.randn(*shape)).detach().requires_grad_() for shape in shapes]
    train, test = ndl.data.DigitsDataset(), ndl.data.DigitsDataset(train=False)
    run = step if args.eager else ndl.jit(step)
    for epoch in range(5 if args.short else 40):
        loader = ndl.data.DataLoader(train, batch_size=50, shuffle=True, drop_last=True)
        losses = [run(weights, x.reshape(50, 64), y, 0.2).item() for x, y in loader]
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}")
    x, y = test[:]
    accuracy = np.mean(logits(weights, ndl.tensor(x.reshape(-1, 64))).argmax(1).numpy() == y)
    print(f"accuracy {accuracy:.3f}")
    assert accuracy > (0.85 if args.short else 0.96)


if __name__ == "__main__":
    main()
