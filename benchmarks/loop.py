"""What Trainer's loop costs over the bare compiled step.

    python benchmarks/loop.py [--out results.json]

Both train the same network on the same batches in memory, in blocks of steps that take turns. The
target is 5 %.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import turns

import needle as ndl
from needle import nn, optim
from needle.train import Trainer
from needle.train.metrics import Accuracy

Case = tuple[Callable[[], nn.Module], tuple[int, ...], int]  # network, shape of a batch, steps
CASES: dict[str, Case] = {
    "two-layer net, batch 100": (
        lambda: nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)),
        (100, 784),
        400,
    ),
    "small CNN, batch 32": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 64, 10),
        ),
        (32, 3, 32, 32),
        60,
    ),
}  # fmt: skip


def contenders(case: Case) -> dict[str, Callable[[], object]]:
    """Functions that do `steps` steps each."""
    make, shape, steps = case
    rng = np.random.default_rng(0)
    batches = [
        (
            ndl.tensor(rng.normal(size=shape).astype("float32")),
            ndl.tensor(rng.integers(0, 10, shape[0])),
        )
        for _ in range(10)
    ]

    def parts() -> tuple[nn.Module, optim.Optimizer, nn.Module]:
        ndl.manual_seed(0)
        model = make()
        return model, optim.SGD(model.parameters(), lr=0.01), nn.SoftmaxLoss()

    model, optimizer, loss_fn = parts()

    @ndl.jit
    def step(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        optimizer.reset_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def bare() -> None:
        for i in range(steps):
            step(*batches[i % 10])

    def fit(**options: Any) -> Callable[[], object]:
        trainer = Trainer(*parts(), **options)
        return lambda: trainer.fit(batches, steps=trainer.progress.step + steps)

    return {
        "bare step": bare,
        "Trainer": fit(),
        "Trainer with accuracy": fit(metrics={"accuracy": Accuracy()}),
    }


def main() -> None:
    """Measure and print a table."""
    results: dict[str, dict[str, float]] = {}
    for name, case in CASES.items():
        times = turns(contenders(case), rounds=15)
        bare = times["bare step"]
        print(f"{name}: {statistics.median(bare) / case[2] * 1e6:.0f} µs a step")
        results[name] = {"µs a step": round(statistics.median(bare) / case[2] * 1e6, 1)}
        for contender, seconds in times.items():
            if contender != "bare step":
                over = statistics.median(seconds) / statistics.median(bare) - 1
                results[name][f"{contender}, % over it"] = round(100 * over, 1)
                print(f"  {contender}: {100 * over:+.1f} %")
    if "--out" in sys.argv:
        path = Path(sys.argv[sys.argv.index("--out") + 1])
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
