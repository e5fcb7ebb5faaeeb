"""What Trainer's loop costs over the bare compiled step.

    python benchmarks/loop.py [--out results.json]

Both train the same network on the same batches in memory, on one thread, in blocks of steps that
take turns. What is compared is the processor's time, which other programs disturb less, and of it
the smallest of all blocks. The target is 5 %.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import needle as ndl
from needle import nn, optim
from needle.train import Trainer
from needle.train.metrics import Accuracy

ROUNDS = 15
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
    ] * 10  # an epoch of a hundred batches

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
            step(*batches[i % len(batches)])

    def fit(**options: Any) -> Callable[[], object]:
        trainer = Trainer(*parts(), **options)
        return lambda: trainer.fit(batches, steps=trainer.progress.step + steps)

    return {
        "bare step": bare,
        "Trainer": fit(),
        "Trainer with accuracy": fit(metrics={"accuracy": Accuracy()}),
    }


def least(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least seconds of processor time that a call of each function takes."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            began = time.process_time()
            function()
            times[name].append(time.process_time() - began)
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    """Measure and print a table."""
    ndl.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    for name, case in CASES.items():
        times = least(contenders(case))
        bare = times["bare step"]
        results[name] = {"µs a step": round(bare / case[2] * 1e6, 1)}
        print(f"{name}: {results[name]['µs a step']:.0f} µs a step")
        for contender, seconds in times.items():
            if contender != "bare step":
                over = seconds / bare - 1
                results[name][f"{contender}, % over it"] = round(100 * over, 1)
                print(f"  {contender}: {100 * over:+.1f} %")
    if "--out" in sys.argv:
        path = Path(sys.argv[sys.argv.index("--out") + 1])
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
