"""A run that was stopped and resumed ends as one that was never stopped, bit for bit."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn, optim
from needle.data import DataLoader, Dataset, IterableDataset, random_state
from needle.train import Callback, Interrupted, RunFolder, Trainer, read_checkpoint

SAMPLES, BATCH, STEPS = 26, 4, 7  # an epoch has seven batches, the last one short
X = np.random.default_rng(0).normal(size=(SAMPLES, 5)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, SAMPLES)


class Noisy(Dataset):
    """Samples with noise that is drawn when they are loaded, as by augmentation."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: Any) -> tuple[np.ndarray, np.int64]:
        return X[i] + random_state().normal(size=5).astype("float32"), Y[i]


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        for i in range(SAMPLES):
            yield X[i] + random_state().normal(size=5).astype("float32"), Y[i]


class Windows:
    """Batches drawn as they are asked for."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        for _ in range(STEPS):
            rows = np.random.randint(SAMPLES, size=BATCH)
            yield ndl.tensor(X[rows]), ndl.tensor(Y[rows])


class LazySampler:
    """Indices drawn one by one, also while workers fetch ahead."""

    def __iter__(self) -> Iterator[int]:
        for _ in range(SAMPLES):
            yield int(np.random.randint(SAMPLES))

    def __len__(self) -> int:
        return SAMPLES


class Average(Callback):
    """An average of the weights, which only the callback knows."""

    value: np.ndarray | None = None

    def on_step_end(self, trainer: Trainer) -> None:
        now = np.concatenate([p.numpy().ravel() for p in trainer.optimizer.params])
        self.value = now if self.value is None else 0.9 * self.value + 0.1 * now
        self.value = self.value + random.random() * 1e-3

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Stop(Callback):
    """Sends this process Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), *layers, nn.Linear(8, 3))


def adam(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(model.parameters(), lr=0.01)


def sgd(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)


def one_cycle(optimizer: optim.Optimizer) -> Any:
    return optim.OneCycleLR(optimizer, max_lr=0.05, total_steps=40)


def plateau(optimizer: optim.Optimizer) -> Any:
    return optim.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.5)


def shuffled(**options: Any) -> Callable[[], Any]:
    return lambda: DataLoader(Noisy(), BATCH, shuffle=True, **options)


def seeded(seed: int, **options: Any) -> Callable[[], Any]:
    return lambda: DataLoader(
        Noisy(), BATCH, shuffle=True, generator=np.random.default_rng(seed), **options
    )


Case = dict[str, Any]
DROPOUT: Case = {"model": lambda: network(nn.Dropout(0.3))}
CASES: dict[str, Case] = {
    "dropout": DROPOUT,
    "compiled": {**DROPOUT, "compiled": "on"},
    "momentum": {"optimizer": sgd, "clip": 0.1, "compiled": "evaluate"},
    "threads": {**DROPOUT, "train": shuffled(num_workers=2, persistent_workers=True)},
    "processes": {"train": shuffled(num_workers=2, multiprocessing_context="fork")},
    "own generator": {"train": seeded(3)},
    "own generator, threads": {"train": seeded(3, num_workers=2)},
    "needle's generator": {
        "train": lambda: DataLoader(Noisy(), BATCH, shuffle=True, generator=ndl.Generator(5))
    },
    "lazy sampler, threads": {
        **DROPOUT,
        "train": lambda: DataLoader(Noisy(), BATCH, sampler=LazySampler(), num_workers=2),
    },
    "stream": {**DROPOUT, "train": lambda: DataLoader(Stream(), BATCH)},
    "stream, threads": {"train": lambda: DataLoader(Stream(), BATCH, num_workers=1)},
    "stream, processes": {
        "train": lambda: DataLoader(Stream(), 2, num_workers=2, multiprocessing_context="fork")
    },
    "windows": {**DROPOUT, "train": Windows, "compiled": "evaluate"},
    "accumulate": {**DROPOUT, "accumulate": 3, "compiled": "evaluate"},
    "accumulate, eager": {"accumulate": 2},
    "float16": {"amp": "float16", "compiled": "evaluate"},
    "bfloat16": {"amp": "bfloat16", "clip": 1.0, "compiled": "evaluate"},
    "one cycle": {"schedule": one_cycle, "optimizer": sgd},
    "plateau": {"schedule": plateau, "validate_every": 2},
    "callback": {"callbacks": Average},
    "one epoch of steps": {"limits": {"steps": STEPS}},
    "lbfgs": {"optimizer": lambda m: optim.LBFGS(m.parameters(), lr=0.3, max_iter=3)},
    "module's generator": {
        "model": lambda: network(nn.Dropout(0.3, generator=ndl.Generator(7))),
        "compiled": "evaluate",
    },
}  # fmt: skip


def make(case: Case, **options: Any) -> tuple[Trainer, Callable[[], list[Any]]]:
    """A trainer of fresh objects, and the function that trains it to its end."""
    ndl.manual_seed(0)
    random.seed(0)
    model = case.get("model", network)()
    optimizer = case.get("optimizer", adam)(model)
    schedule = case["schedule"](optimizer) if "schedule" in case else None
    callbacks = [case["callbacks"]()] if "callbacks" in case else []
    others = {name: case[name] for name in ("clip", "accumulate", "amp") if name in case}
    trainer = Trainer(
        model, optimizer, nn.SoftmaxLoss(), schedule=schedule, log_every=2,
        compiled="compiled" in case, callbacks=[*callbacks, *options.pop("stop", [])],
        **others, **options,
    )  # fmt: skip

    def fit() -> list[Any]:
        train = case.get("train", shuffled())()
        validation = DataLoader(Noisy(), 13, num_workers=0)
        every = case.get("validate_every")
        limits = case.get("limits", {"epochs": 3})
        return trainer.fit(train, validation, validate_every=every, **limits).rows

    return trainer, fit


def everything(trainer: Trainer) -> dict[str, Any]:
    """All numbers of a trainer, by their paths."""
    found: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                walk(f"{path}.{name}", item)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                walk(f"{path}.{i}", item)
        else:
            found[path] = value.numpy() if isinstance(value, ndl.Tensor) else value

    state = trainer.state_dict()
    for part in ("model", "optimizer", "schedule", "scaler", "callbacks", "random"):
        walk(part, state[part])
    return found


def same(a: Trainer, b: Trainer) -> None:
    assert (a.progress.epoch, a.progress.batch) == (b.progress.epoch, b.progress.batch)
    mine, others = everything(a), everything(b)
    names = mine.keys() | others.keys()
    own = {name for name in names if name.startswith(("callbacks.Stop", "callbacks.Checkpoint"))}
    assert mine.keys() - own == others.keys() - own
    for name in mine.keys() - own:
        np.testing.assert_array_equal(mine[name], others[name], err_msg=name)


def measured(rows: list[Any]) -> list[Any]:
    varying = ("seconds", "samples_per_second", "memory")
    return [{k: v for k, v in row.items() if k not in varying} for row in rows]


AT_THE_END = (  # of an epoch
    "dropout", "processes", "stream, threads", "accumulate", "plateau", "one epoch of steps",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stop"), [*((name, 4) for name in CASES), *((name, STEPS) for name in AT_THE_END)]
)
def test_a_resumed_run_is_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: int
) -> None:
    case = CASES[name]
    # The evaluator of graphs takes the compiled path without the compiler's seconds.
    monkeypatch.setenv("NEEDLE_JIT", case.get("compiled", "off"))
    whole, fit = make(case)
    rows = fit()
    if "accumulate" in case:
        stop = -(-stop // case["accumulate"])
    _, fit = make(case, run=tmp_path / "run", stop=[Stop(stop)])
    with pytest.raises(Interrupted, match=f"stopped at step {stop}; go on with resume"):
        fit()
    resumed, fit = make(case)
    ndl.manual_seed(99)  # nothing of the process is taken over
    random.seed(99)
    resumed.resume(tmp_path / "run")
    assert resumed.progress.step == stop
    assert measured(fit()) == measured(rows)
    assert measured(RunFolder(tmp_path / "run").rows()) == measured(rows)
    same(whole, resumed)
    assert RunFolder(tmp_path / "run").state() == "finished"


def test_it_can_be_stopped_at_every_step(tmp_path: Path) -> None:
    case = CASES["threads"]
    whole, fit = make(case)
    rows = fit()
    run = tmp_path / "run"
    for stop in range(1, 3 * STEPS):
        trainer, fit = make(case, stop=[Stop(stop)], run=run if stop == 1 else None)
        if stop > 1:
            trainer.resume(run)
        with pytest.raises(Interrupted):
            fit()
    last, fit = make(case)
    last.resume(run)
    assert measured(fit()) == measured(rows)
    same(whole, last)
    assert len(RunFolder(run).checkpoint_files()) <= 4
    assert read_checkpoint(run / "last")["progress"]["step"] == 3 * STEPS
