"""What `needle train NAME` trains: the data, the model and the settings that work for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import data, io, models, nn
from ..data import Dataset

MODELS: dict[str, Callable[..., nn.Module]] = {"mlp_resnet": models.MLPResNet}


@dataclass(frozen=True)
class Recipe:
    """A data set with a model for it and default settings.

    `data` is the data set's name, `datasets(folder)` its training and test set from the files in
    `folder`; `model` is a name in MODELS that is built with `options`.
    """

    name: str
    summary: str
    data: str
    datasets: Callable[[Path], tuple[Dataset, Dataset]]
    model: str
    options: dict[str, Any]
    epochs: int
    batch_size: int = 100
    lr: float = 1e-2
    weight_decay: float = 1e-2

    def build(self) -> nn.Module:
        """A freshly initialized model that takes the data set's images as they are."""
        return build_model(self.model, self.options)


def build_model(name: str, options: dict[str, Any]) -> nn.Module:
    """The model of that name on flattened images. Raises ValueError for an unknown name."""
    if name not in MODELS:
        raise ValueError(f"[build_model] model must be one of {sorted(MODELS)}, got {name!r}")
    return nn.Sequential(nn.Flatten(), MODELS[name](**options))


def _digits(folder: Path) -> tuple[Dataset, Dataset]:
    return data.DigitsDataset(train=True), data.DigitsDataset(train=False)


def _mnist(folder: Path) -> tuple[Dataset, Dataset]:
    return data.mnist(folder, train=True), data.mnist(folder, train=False)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "digits",
            "MLPResNet on the 1,797 handwritten digits that come with needle",
            "digits",
            _digits,
            "mlp_resnet",
            {"dim": 64, "hidden_dim": 100},
            epochs=30,
        ),
        Recipe(
            "mnist",
            "MLPResNet on the 70,000 digits of MNIST",
            "mnist",
            _mnist,
            "mlp_resnet",
            {"dim": 784, "hidden_dim": 256},
            epochs=5,
            lr=5e-3,
        ),
    )
}


def save_model(
    path: str | os.PathLike[str], recipe: Recipe, model: nn.Module, results: dict[str, Any]
) -> None:
    """Write a checkpoint from which `load_model` rebuilds the model."""
    description = {
        "recipe": recipe.name,
        "model": recipe.model,
        "options": recipe.options,
        "results": results,
    }
    io.save_checkpoint(path, model.state_dict(), description)


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """(model, recipe, results) of a checkpoint. Raises ValueError for one of another kind."""
    checkpoint = io.load_checkpoint(path)
    description = checkpoint.description
    recipe = RECIPES.get(description.get("recipe", ""))
    if recipe is None:
        raise ValueError(
            f"[load_model] {os.fspath(path)!r} was made by the recipe "
            f"{description.get('recipe')!r}; known are {sorted(RECIPES)}"
        )
    model = build_model(description["model"], description["options"])
    model.load_state_dict(checkpoint.tensors)
    return model, recipe, description["results"]
