"""`needle train`: from a recipe and settings to a checkpoint and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import data, nn, optim
from ..files import check_writable
from ..train import EpochResult, Recipe, build_model, fit, save_model
from ..train.plots import save_report
from ..train.recipes import Settings, Task
from .printing import say
from .progress import download_progress, training_progress


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line; None stands for the recipe's value."""

    model: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    weight_decay: float | None
    data_dir: Path | None
    out: Path
    seed: int
    compiled: bool

    def settings(self, recipe: Recipe) -> tuple[str, Settings]:
        """The model's name and its settings with what was asked for in their place."""
        name, settings = recipe.settings(self.model)
        asked = {
            field: value
            for field in ("epochs", "batch_size", "lr", "weight_decay")
            if (value := getattr(self, field)) is not None
        }
        return name, replace(settings, **asked)


def load_task(recipe: Recipe, data_dir: Path | None) -> Task:
    """The recipe's data, downloaded first where files are missing."""
    with download_progress() as report:
        folder = data.get(recipe.data, data_dir, report)
    return recipe.load(folder)


def train_recipe(recipe: Recipe, options: Options) -> None:
    """Train, print a line an epoch, write `NAME.safetensors` and `NAME.png` into the out folder."""
    np.random.seed(options.seed)
    name, settings = options.settings(recipe)
    stem = recipe.name if options.model is None else f"{recipe.name}-{name}"
    checkpoint, picture = options.out / f"{stem}.safetensors", options.out / f"{stem}.png"
    for path in (checkpoint, picture):
        check_writable(path)  # now, not after hours of training
    task = load_task(recipe, options.data_dir)
    batches = task.train(settings.batch_size)
    model_options = {**settings.options, **task.options}
    model = build_model(name, model_options)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    epochs, steps = settings.epochs, len(batches)  # type: ignore[arg-type]
    schedule = optim.OneCycleLR(
        optimizer, max_lr=settings.lr, total_steps=epochs * steps, cycle_momentum=False
    )
    count = sum(p.size for p in model.parameters())
    title = f"{name} on {recipe.summary}"
    say(
        f"{title}: {task.train_size:,} training and {task.test_size:,} test {recipe.unit}, "
        f"{count:,} parameters"
    )

    def on_epoch(epoch: int, trained: EpochResult, tested: EpochResult) -> None:
        say(
            f"epoch {epoch + 1:3}/{epochs}  train loss {trained.loss:.4f}  acc "
            f"{100 * trained.accuracy:6.2f} %  test loss {tested.loss:.4f}  acc "
            f"{100 * tested.accuracy:6.2f} %  {trained.samples_per_second:,.0f} {recipe.unit}/s"
        )

    with training_progress(epochs, steps, recipe.unit) as on_batch:
        history, confusion = fit(
            model, batches, task.test, optimizer, nn.SoftmaxLoss(), epochs, schedule, on_batch,
            on_epoch, settings.clip, options.compiled,
        )  # fmt: skip
    last = history.test[-1]
    say(
        f"accuracy {100 * last.accuracy:.2f} %, loss {last.loss:.4f} on {task.test_size:,} test "
        f"{recipe.unit} after {history.seconds:.1f} s of training"
    )
    results = {"accuracy": last.accuracy, "loss": last.loss, "epochs": epochs}
    save_model(checkpoint, recipe, name, model_options, model, task.state, results)
    save_report(picture, history, confusion, f"{title}: {100 * last.accuracy:.2f} %")
    say(f"checkpoint: {checkpoint}\npicture:    {picture}")
