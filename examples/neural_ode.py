"""A differential equation is learnt from a spiral that solves it: a neural ordinary differential
equation.

A small network gives the velocity dy/dt at every place. A solver (Runge-Kutta of fourth order)
follows it from points of the true spiral, and the gradient goes back through all its steps; the
loop over time stays a loop in the compiled program (`ndl.scan`).

R. Chen, Y. Rubanova, J. Bettencourt and D. Duvenaud, "Neural ordinary differential equations",
2018.

Reaches a mean distance of 0.11 from the true spiral (its radius: 2) over its whole length in 7 s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import needle as ndl
from needle import nn
from needle.optim import Adam

STEP = 0.05
TRUE = ndl.tensor([[-0.1, 2.0], [-2.0, -0.1]])


def true_velocity(y: ndl.Tensor) -> ndl.Tensor:
    return y**3 @ TRUE


def solve(velocity: Callable[[ndl.Tensor], ndl.Tensor], y0: ndl.Tensor, steps: int) -> ndl.Tensor:
    """y at the times 0, 0.05, … : (steps + 1, B, 2)."""

    def runge_kutta(y: ndl.Tensor, _: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
        k1 = velocity(y)
        k2 = velocity(y + STEP / 2 * k1)
        k3 = velocity(y + STEP / 2 * k2)
        k4 = velocity(y + STEP * k3)
        y = y + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    _, ys = ndl.scan(runge_kutta, y0, ndl.zeros(steps))
    return ndl.cat([y0.unsqueeze(0), ys])


class Velocity(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, y: ndl.Tensor) -> ndl.Tensor:
        return self.net(y**3)


def train_step(model: Velocity, optimizer: Adam, true: ndl.Tensor) -> ndl.Tensor:
    """Pieces (T, B, 2) of the spiral: the network's solution from each beginning."""
    optimizer.zero_grad()
    loss = (solve(model, true[0], len(true) - 1) - true).abs().mean()
    loss.backward()
    optimizer.step()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds, as in the tests")
    parser.add_argument("--eager", action="store_true", help="do not compile the step")
    args = parser.parse_args()
    ndl.manual_seed(0)
    steps, length, total = 100 if args.short else 4000, 10, 400
    spiral = solve(true_velocity, ndl.tensor([[2.0, 0.0]]), total).numpy()[:, 0]
    model = Velocity(50)
    optimizer = Adam(model.parameters(), lr=5e-3 if args.short else 3e-3)
    step = train_step if args.eager else ndl.jit(train_step)
    start = time.perf_counter()
    losses = []
    for i in range(1, steps + 1):
        begin = np.random.randint(0, total - length, 20)
        pieces = spiral[begin + np.arange(length + 1)[:, None]]  # (T, B, 2)
        if i == steps // 2:
            optimizer.lr /= 10
        losses.append(step(model, optimizer, ndl.tensor(pieces)).item())
        if i % (steps // 5) == 0:
            print(f"step {i}: loss {losses[-1]:.4f}, {time.perf_counter() - start:.1f} s")
    with ndl.no_grad():
        learnt = solve(model, ndl.tensor([[2.0, 0.0]]), total).numpy()[:, 0]
    distance = np.linalg.norm(learnt - spiral, axis=1).mean()
    print(f"mean distance from the true spiral {distance:.3f}")
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:5])
    assert args.short or distance < 0.3


if __name__ == "__main__":
    main()
