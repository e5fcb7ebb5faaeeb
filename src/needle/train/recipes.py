"""What `needle train NAME` trains: the data, the models and the settings that work for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import data, io, models, nn
from ..autograd import Tensor
from .text import NextToken, Windows, parts

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Task:
    """A data set ready for training.

    `train(batch_size)` gives the batches of an epoch, anew at each iteration; `test` those to
    measure on; sizes are numbers of `unit`s. `state` is what a checkpoint must keep of the data
    (a text's vocabulary) and `options` what the model must know of it.
    """

    train: Callable[[int], Batches]
    test: Batches
    train_size: int
    test_size: int
    state: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How to train a model: its own options, and those of the optimizer and its schedule."""

    options: dict[str, Any]
    epochs: int
    batch_size: int = 100
    lr: float = 1e-2
    weight_decay: float = 1e-2
    clip: float | None = None  # the largest norm of all gradients together


@dataclass(frozen=True)
class Recipe:
    """A data set with settings for each model that can be trained on it, the default one first.

    `data` is the data set's name, `load(folder)` gets it ready from its files; `unit` is what is
    counted ("images").
    """

    name: str
    summary: str
    data: str
    unit: str
    load: Callable[[Path], Task]
    models: dict[str, Settings]

    def settings(self, model: str | None) -> tuple[str, Settings]:
        """(name, settings) of a model, the first one for None. Raises ValueError for another."""
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise ValueError(f"{self.name} trains one of {', '.join(self.models)}, got {name!r}")
        return name, self.models[name]


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp_resnet": lambda **options: nn.Sequential(nn.Flatten(), models.MLPResNet(**options)),
    "resnet9": models.ResNet9,
    "gpt": lambda **options: NextToken(models.GPT(**options)),
    "lstm": lambda vocabulary, **options: NextToken(
        models.LanguageModel(output_size=vocabulary, seq_model="lstm", **options)
    ),
}


def build_model(name: str, options: dict[str, Any]) -> nn.Module:
    """A freshly drawn model of that name. Raises ValueError for an unknown one."""
    if name not in MODELS:
        raise ValueError(f"[build_model] model must be one of {sorted(MODELS)}, got {name!r}")
    return MODELS[name](**options)


# ---- data -------------------------------------------------------------------------------------


def _images(train: data.Dataset, test: data.Dataset) -> Task:
    def batches(batch_size: int) -> data.DataLoader:
        return data.DataLoader(train, batch_size, shuffle=True, drop_last=True)

    return Task(batches, data.DataLoader(test, 500), len(train), len(test), {}, {})


def _digits(folder: Path) -> Task:
    return _images(data.DigitsDataset(train=True), data.DigitsDataset(train=False))


def _mnist(folder: Path) -> Task:
    return _images(data.mnist(folder, train=True), data.mnist(folder, train=False))


def _cifar10(folder: Path) -> Task:
    augmented = [data.RandomCrop(3), data.RandomFlipHorizontal()]
    return _images(
        data.cifar10(folder, train=True, transforms=augmented), data.cifar10(folder, train=False)
    )


SHAKESPEARE_LENGTH = 128
STEPS_AN_EPOCH = 100


def _shakespeare(folder: Path) -> Task:
    train, test = data.shakespeare(folder)
    tokenizer = data.CharTokenizer.from_text(train + test)
    train_ids, test_ids = tokenizer.encode(train), tokenizer.encode(test)

    def batches(batch_size: int) -> Windows:
        return Windows(train_ids, SHAKESPEARE_LENGTH, batch_size, STEPS_AN_EPOCH)

    return Task(
        batches, parts(test_ids, SHAKESPEARE_LENGTH, 32), len(train_ids), len(test_ids),
        tokenizer.state(), {"vocabulary": len(tokenizer)},
    )  # fmt: skip


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "digits", "the 1,797 handwritten digits that come with needle", "digits", "images",
            _digits, {"mlp_resnet": Settings({"dim": 64, "hidden_dim": 100}, epochs=30)},
        ),
        Recipe(
            "mnist", "the 70,000 digits of MNIST", "mnist", "images", _mnist,
            {"mlp_resnet": Settings({"dim": 784, "hidden_dim": 256}, epochs=5, lr=5e-3)},
        ),
        Recipe(
            "cifar10", "the photographs of CIFAR-10", "cifar10", "images", _cifar10,
            {"resnet9": Settings({}, epochs=30, batch_size=128, lr=4e-3, weight_decay=0.05)},
        ),
        Recipe(
            "shakespeare", "the characters of Shakespeare's plays", "shakespeare", "characters",
            _shakespeare,
            {
                "gpt": Settings(
                    {"length": SHAKESPEARE_LENGTH, "width": 128, "num_layers": 4, "num_heads": 4},
                    epochs=30, batch_size=32, lr=3e-3, weight_decay=0.1, clip=1.0,
                ),
                "lstm": Settings(
                    {"embedding_size": 64, "hidden_size": 256, "num_layers": 2},
                    epochs=20, batch_size=32, lr=4e-3, weight_decay=0.01, clip=1.0,
                ),
            },
        ),
    )
}  # fmt: skip


# ---- checkpoints ------------------------------------------------------------------------------


def save_model(
    path: str | os.PathLike[str],
    recipe: Recipe,
    name: str,
    options: dict[str, Any],
    model: nn.Module,
    state: dict[str, Any],
    results: dict[str, Any],
) -> None:
    """Write a checkpoint from which `load_model` rebuilds the model `name` made with `options`."""
    description = {
        "recipe": recipe.name,
        "model": name,
        "options": options,
        "data": state,
        "results": results,
    }
    io.save_checkpoint(path, model.state_dict(), description)


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """(model, recipe, description) of a checkpoint. Raises ValueError for one of another kind."""
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
    return model, recipe, description
