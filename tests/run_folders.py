"""Folders of runs that nobody trained, for the tests of what looks at runs."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from needle.train import RunFolder

TITLE = "the 1,797 handwritten digits that come with needle"


def make_run(
    parent: Path,
    name: str = "digits",
    *,
    state: str = "finished",
    epochs: int = 5,
    steps_an_epoch: int = 20,
    metric: str | None = "accuracy",
    classes: list[str] | int | None = 10,
    bad: tuple[int, ...] = (),
    seed: int = 0,
    title: str = TITLE,
) -> Path:
    """The folder of a run with a falling loss; `bad` are the epochs in which it is NaN."""
    folder, random = parent / name, np.random.RandomState(seed)
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    total = epochs * steps_an_epoch
    for epoch in range(epochs):
        for i in range(0, steps_an_epoch, 4):
            step = epoch * steps_an_epoch + i + 4
            loss = 2.3 * math.exp(-4 * step / total) + 0.02 * random.rand()
            row = {"step": step, "epoch": step / steps_an_epoch, "seconds": step * 0.05}
            row |= {"split": "train", "loss": math.nan if epoch in bad else loss}
            row |= {"lr": 0.01 * math.sin(math.pi * step / (total + 1)), "memory": 3e8}
            row |= {"samples_per_second": 8000.0 + step} | _metric(metric, loss)
            rows.append(row)
        step = (epoch + 1) * steps_an_epoch
        loss = 2.3 * math.exp(-3.5 * step / total) + 0.08 * (step / total) ** 4
        row = {"step": step, "epoch": epoch + 1.0, "seconds": step * 0.05, "split": "validation"}
        row |= {"loss": math.nan if epoch in bad else loss} | _metric(metric, loss)
        rows.append(row)
    write_rows(folder, rows)
    best = min(
        (r for r in rows if r["split"] == "validation" and r["loss"] == r["loss"]),
        key=lambda r: r["loss"],
        default=None,
    )
    status = {
        "state": state, "pid": os.getpid(), "host": os.uname().nodename, "step": total,
        "steps": total, "epoch": float(epochs), "epochs": epochs, "seconds": total * 0.05,
        "updated": time.time() - 90, "message": "", "row": rows[-1],
        "best": best and {"metric": "validation/loss", "value": best["loss"], "step": best["step"]},
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "config.toml").write_text(
        f'[run]\nname = {json.dumps(name)}\ntask = "digits"\nneedle = "0.5"\nformat = 1\n'
        f"created = 2026-11-30T12:00:00Z\nseed = {seed}\n"
        '[model]\nname = "mlp"\nwidth = 64\n'
        f'[data]\ntitle = {json.dumps(title)}\nunit = "images"\n'
        f"[training]\nepochs = {epochs}\nlr = 0.01\nbatch_size = 100\n"
        '[command]\nargv = ["needle", "train", "digits"]\n'
    )
    if classes is not None:
        names = classes if isinstance(classes, list) else [str(i) for i in range(classes)]
        matrix = np.diag(random.randint(20, 40, len(names))) + (
            random.rand(len(names), len(names)) < 0.1
        )
        confusion = {"classes": names, "matrix": matrix.tolist(), "step": total}
        (folder / "confusion.json").write_text(
            json.dumps(confusion | {"data": "validation images"})
        )
    (folder / "run.lock").touch()
    (folder / "checkpoints").mkdir()
    return folder


def _metric(name: str | None, loss: float) -> dict[str, float]:
    if name is None:
        return {}
    return {name: math.exp(loss) if name == "perplexity" else max(0.0, 1 - loss / 2.4)}


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write `metrics.jsonl` anew."""
    RunFolder(folder).keep_rows(rows)


def hold_lock(folder: Path) -> IO[str]:
    """The open file that makes the run one that a process trains, until it is closed."""
    file = open(folder / "run.lock", "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    return file
