"""Kill a run again and again, resume it, and compare its end with that of an undisturbed one.

    python benchmarks/soak/kill_and_resume.py digits --kills 50 --out results.json

A child process trains; it is killed by SIGKILL at random moments and started again, until it was
killed often enough. Checkpoints are written all the time, so that many kills fall into one. After
each kill every checkpoint must be whole; at the end weights, optimizer, random numbers and rows
must be those of the undisturbed run, bit for bit, and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import needle as ndl
from needle import data, models, nn, optim
from needle.train import Checkpoint, RunFolder, Trainer, read_checkpoint
from needle.train.checkpoints import step_of

VARYING = ("seconds", "samples_per_second", "memory")  # of rows
PARTS = ("model", "optimizer", "schedule", "random", "progress")


class NextToken(nn.Module):
    """A language model as a classifier of tokens."""

    def __init__(self, model: models.GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: ndl.Tensor) -> ndl.Tensor:
        return self.model.predict_tokens(x)


def digits(epochs: int) -> tuple[nn.Module, Any, Any]:
    """Digits with random crops, loaded by two threads; a network with dropout and batch norm."""
    crop = data.RandomCrop(1)
    train = data.DataLoader(
        data.DigitsDataset(train=True, transforms=[crop]), 50, shuffle=True, num_workers=2
    )
    test = data.DataLoader(data.DigitsDataset(train=False), 100)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(64, 10),
    )  # fmt: skip
    return model, train, test


def text(epochs: int) -> tuple[nn.Module, Any, Any]:
    """The characters of this repository's README, windows in random order; a small GPT."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    ids = data.CharTokenizer.from_text(readme).encode(readme)
    windows = [
        (ids[i : i + 16], ids[i + 1 : i + 17]) for i in range(0, min(len(ids) - 17, 4000), 4)
    ]
    train = data.DataLoader(windows, 20, shuffle=True, collate_fn=_collate)
    test = data.DataLoader(windows[:100], 50, collate_fn=_collate)
    model = models.GPT(int(ids.max()) + 1, 16, width=32, num_layers=2, num_heads=2, dropout=0.1)
    return NextToken(model), train, test


def _collate(samples: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = (np.stack(part) for part in zip(*samples, strict=True))
    return inputs, targets.reshape(-1)


TASKS = {"digits": digits, "text": text}


def train(task: str, folder: Path, epochs: int, seed: int) -> None:
    """The child: train, or go on with what is in the folder."""
    ndl.manual_seed(seed)
    random.seed(seed)
    model, batches, validation = TASKS[task](epochs)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    schedule = optim.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=epochs * len(batches), cycle_momentum=False
    )
    trainer = Trainer(
        model, optimizer, nn.SoftmaxLoss(), schedule=schedule, clip=1.0, log_every=10,
        run=RunFolder(folder), callbacks=[Checkpoint(every_seconds=0.02)],
    )  # fmt: skip
    if trainer.run is not None and trainer.run.checkpoint_files():
        trainer.resume()
    print("ready", flush=True)
    trainer.fit(batches, validation, epochs=epochs)


def start(task: str, folder: Path, epochs: int, seed: int) -> subprocess.Popen[str]:
    """Start the child."""
    command = [
        sys.executable, __file__, task, "--child", str(folder), "--epochs", str(epochs),
        "--seed", str(seed),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def newest_step(run: RunFolder) -> int:
    """The step of the newest checkpoint, 0 for none."""
    files = run.checkpoint_files()
    return step_of(files[-1]) if files else 0


def wait_for_moment(
    child: subprocess.Popen[str], run: RunFolder, chance: random.Random, steps: float
) -> None:
    """Wait for about so many steps and a few milliseconds, one time in ten for no step at all."""
    if chance.random() < 0.1:
        time.sleep(chance.uniform(0.0, 0.5))
        return
    target = newest_step(run) + chance.uniform(0.0, 1.8) * steps
    while child.poll() is None and newest_step(run) < target:
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.03))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """All numbers of a nesting by their paths."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value.numpy() if isinstance(value, ndl.Tensor) else value}
    return {p: v for name, item in items for p, v in flat(item, f"{path}.{name}").items()}


def differences(a: Path, b: Path) -> list[str]:
    """What differs between the ends of two runs."""
    states = [read_checkpoint(path) for path in (a, b)]
    mine, others = (flat({part: state[part] for part in PARTS}) for state in states)
    names = {name for name in mine.keys() | others.keys() if name != ".progress.seconds"}
    found = [
        name
        for name in sorted(names)
        if name not in mine or name not in others or not np.array_equal(mine[name], others[name])
    ]
    rows = [
        [{k: v for k, v in row.items() if k not in VARYING} for row in RunFolder(path).rows()]
        for path in (a, b)
    ]
    return [*found, *(["rows"] if rows[0] != rows[1] else [])]


def run(task: str, kills: int, epochs: int, seed: int) -> dict[str, Any]:
    """One soak: the undisturbed run, the killed one, and what was found."""
    chance = random.Random(seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        whole, killed = Path(parent) / "whole", Path(parent) / "killed"
        child = start(task, whole, epochs, seed)
        child.communicate()
        if child.returncode:
            raise SystemExit("the undisturbed run failed")
        total = read_checkpoint(whole)["progress"]["step"]
        newest = done = during_saving = damaged = 0
        steps: list[int] = []
        while True:
            child = start(task, killed, epochs, seed)
            assert child.stdout is not None
            child.stdout.readline()
            if done == kills:
                child.communicate()
                break
            wait_for_moment(child, RunFolder(killed), chance, (total - newest) / (kills - done + 1))
            child.kill()
            child.communicate()
            if child.returncode == 0:
                raise SystemExit(f"the run ended after {done} kills: give it more --epochs")
            done += 1
            run = RunFolder(killed)
            newest = newest_step(run)
            during_saving += any(run.checkpoints.glob("*.part"))
            for file in run.checkpoint_files():
                try:
                    steps.append(read_checkpoint(file)["progress"]["step"])
                except ValueError:
                    damaged += 1
        different = differences(whole, killed) if child.returncode == 0 else ["it failed"]
        return {
            "task": task,
            "epochs": epochs,
            "steps": total,
            "kills": done,
            "kills while a checkpoint was written": during_saving,
            "steps at which it went on": len(set(steps)),
            "damaged checkpoints": damaged,
            "temporary files left": len(list(killed.rglob("*.part"))),
            "differences from the undisturbed run": different,
            "seconds": round(time.monotonic() - began, 1),
        }


def main() -> None:
    """Parse the arguments, run, print and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file that results are added to")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        train(arguments.task, arguments.child, arguments.epochs, arguments.seed)
        return
    result = run(arguments.task, arguments.kills, arguments.epochs, arguments.seed)
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        held = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
        held = [entry for entry in held if entry["task"] != arguments.task]
        arguments.out.write_text(json.dumps([*held, result], indent=2) + "\n")
    if (
        result["differences from the undisturbed run"]
        or result["damaged checkpoints"]
        or result["temporary files left"]
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
