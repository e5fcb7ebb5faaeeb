"""`needle train`: from a recipe and settings to a checkpoint and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from .. import data, nn, optim
from ..train import EpochResult, Recipe, fit, save_model
from ..train.plots import save_report
from .progress import download_progress, training_progress


@dataclass(frozen=True)
class Settings:
    """The options of one run; None stands for the recipe's value."""

    epochs: int | None
    batch_size: int | None
    lr: float | None
    weight_decay: float | None
    data_dir: Path | None
    out: Path
    seed: int


def load_datasets(
    recipe: Recipe, data_dir: Path | None, console: Console
) -> tuple[data.Dataset, data.Dataset]:
    """The recipe's training and test set, downloaded first where files are missing."""
    with download_progress(console) as report:
        folder = data.get(recipe.data, data_dir, report)
    return recipe.datasets(folder)


def train_recipe(recipe: Recipe, settings: Settings, console: Console) -> None:
    """Train, print a line an epoch, write `NAME.safetensors` and `NAME.png` into the out folder."""
    np.random.seed(settings.seed)
    train_set, test_set = load_datasets(recipe, settings.data_dir, console)
    epochs = settings.epochs or recipe.epochs
    train_batches = data.DataLoader(
        train_set, settings.batch_size or recipe.batch_size, shuffle=True, drop_last=True
    )
    test_batches = data.DataLoader(test_set, 500)
    model = recipe.build()
    optimizer = optim.AdamW(
        model.parameters(),
        lr=recipe.lr if settings.lr is None else settings.lr,
        weight_decay=recipe.weight_decay
        if settings.weight_decay is None
        else settings.weight_decay,
    )
    steps = len(train_batches)
    schedule = optim.OneCycleLR(optimizer, max_lr=optimizer.lr, total_steps=epochs * steps)
    count = sum(p.size for p in model.parameters())
    console.print(
        f"{recipe.summary}: {len(train_set):,} training and {len(test_set):,} test images, "
        f"{count:,} parameters",
        highlight=False,
        soft_wrap=True,
    )

    def on_epoch(epoch: int, trained: EpochResult, tested: EpochResult) -> None:
        console.print(
            f"epoch {epoch + 1:3}/{epochs}  train loss {trained.loss:.4f}  acc "
            f"{100 * trained.accuracy:6.2f} %  test loss {tested.loss:.4f}  acc "
            f"{100 * tested.accuracy:6.2f} %  {trained.samples_per_second:,.0f} images/s",
            highlight=False,
            soft_wrap=True,
        )

    with training_progress(console, epochs, steps) as on_batch:
        history, confusion = fit(
            model, train_batches, test_batches, optimizer, nn.SoftmaxLoss(), epochs, schedule,
            on_batch, on_epoch,
        )  # fmt: skip
    accuracy = history.test[-1].accuracy
    console.print(
        f"accuracy {100 * accuracy:.2f} % on {len(test_set):,} test images after "
        f"{history.seconds:.1f} s of training",
        highlight=False,
        soft_wrap=True,
    )
    checkpoint = settings.out / f"{recipe.name}.safetensors"
    picture = settings.out / f"{recipe.name}.png"
    save_model(checkpoint, recipe, model, {"accuracy": accuracy, "epochs": epochs})
    save_report(picture, history, confusion, f"{recipe.summary}: {100 * accuracy:.2f} %")
    console.print(
        f"checkpoint: {checkpoint}\npicture:    {picture}", highlight=False, soft_wrap=True
    )
