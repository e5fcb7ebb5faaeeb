"""What `needle train NAME` trains: the data, the models and the settings that work for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, io, models, nn
from ..autograd import Tensor
from ..jit import without_memory
from ..typing import Json
from .tasks.text import NextToken, Windows
from .tasks.text import windows_side_by_side as parts

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
    state: Json
    options: Json


@dataclass(frozen=True)
class Settings:
    """How to train a model: its own options, and those of the optimizer and its schedule."""

    options: Json
    epochs: int
    batch_size: int = 100
    lr: float = 1e-2
    weight_decay: float = 1e-2
    clip: float | None = None  # the largest norm of all gradients together


def _without_state(state: Json, options: Mapping[str, object]) -> None:
    if state != {}:
        raise ValueError(f"its data must be an empty object, got {repr(state)[:80]}")


@dataclass(frozen=True)
class Recipe:
    """A data set with settings for each model that can be trained on it, the default one first.

    `data` is the data set's name, `load(folder)` gets it ready from its files; `unit` is what is
    counted ("images"). `check_state(state, options)` raises ValueError where a `Task.state` is none
    of this recipe's, or does not fit a model made with `options`.
    """

    name: str
    summary: str
    data: str
    unit: str
    load: Callable[[Path], Task]
    models: dict[str, Settings]
    check_state: Callable[[Json, Mapping[str, object]], None] = _without_state

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


def build_model(name: str, options: Json) -> nn.Module:
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


def _check_vocabulary(state: Json, options: Mapping[str, object]) -> None:
    size = len(data.CharTokenizer.from_state(state))
    if options.get("vocabulary") != size:
        raise ValueError(
            f"its text has {size} characters, its model is for {options.get('vocabulary')}"
        )


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
            _check_vocabulary,
        ),
    )
}  # fmt: skip


# ---- checkpoints ------------------------------------------------------------------------------


def save_model(
    path: str | os.PathLike[str],
    recipe: Recipe,
    name: str,
    options: Json,
    model: nn.Module,
    state: Json,
    results: Json,
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


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Module, Recipe, Json]:
    """(model, recipe, description) of a checkpoint.

    Raises ValueError, which names the file, for a description that is none of `save_model`'s or
    whose model has other tensors than the file. Nothing is built then.
    """
    checkpoint = io.load_checkpoint(path)
    description, tensors = checkpoint.description, checkpoint.tensors
    try:
        recipe, name, options = _checked_description(description)
        _check_tensors(tensors, _layout(name, options, most=len(tensors)))
        recipe.check_state(description["data"], options)
    except ValueError as error:
        raise ValueError(f"[load_model] {os.fspath(path)!r}: {error}") from None
    model = build_model(name, options)
    model.load_state_dict(tensors)
    return model, recipe, description


_COUNTS_OF_LAYERS = ("num_blocks", "num_layers")  # the options that say how often to repeat one
_SHOWN = 5  # problems in a message
_Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


def _checked_description(description: Json) -> tuple[Recipe, str, Json]:
    """(recipe, model's name, its options). Raises ValueError."""
    recipe = RECIPES.get(_entry(description, "recipe", str))
    if recipe is None:
        raise ValueError(
            f"it was made by the recipe {description['recipe']!r}; known are {sorted(RECIPES)}"
        )
    name, settings = recipe.settings(_entry(description, "model", str))
    _entry(description, "data", dict)
    options = _entry(description, "options", dict)
    for option, usual in settings.options.items():
        if option in options:
            _entry(options, option, type(usual))
    return recipe, name, options


def _entry(description: Json, key: str, kind: type) -> Any:
    if type(description.get(key)) is not kind:
        found = _short(repr(description[key])) if key in description else "none"
        raise ValueError(f"its description must have a {kind.__name__} {key!r}, found {found}")
    return description[key]


def _layout(name: str, options: Json, most: int) -> _Layout:
    """The shape and dtype of each of a model's tensors, of which there should be `most`.

    Takes no memory, however large the model. Raises ValueError for options that make none.
    """
    for option in _COUNTS_OF_LAYERS:
        count = options.get(option, 0)
        if type(count) is not int or not 0 <= count <= most:
            raise ValueError(
                f"its {option} is {_short(repr(count))}, which does not fit its {most} tensors"
            )

    def layout() -> _Layout:
        model = build_model(name, options)
        return {key: (tensor.shape, tensor.dtype) for key, tensor in model.state_dict().items()}

    try:
        return without_memory(layout)
    except Exception as error:  # what layers make of arguments that are none is of many kinds
        raise ValueError(f"its options make no {name}: {_short(error)}") from None


def _check_tensors(tensors: Mapping[str, np.ndarray], layout: _Layout) -> None:
    """Raises ValueError unless the tensors are those of the layout."""
    problems = [f"{name!r} is missing" for name in layout if name not in tensors]
    problems += [f"{name!r} is unexpected" for name in tensors if name not in layout]
    for name, (shape, dtype) in layout.items():
        found = tensors.get(name)
        if found is None:
            continue
        if found.shape != shape:
            problems.append(f"{name!r} has shape {found.shape}, its options make it {shape}")
        elif found.dtype.kind != np.dtype(dtype).kind:
            problems.append(f"{name!r} is {found.dtype}, expected {dtype}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(map(_short, problems[:_SHOWN]))
        raise ValueError(f"its tensors: {shown}{more}")


def _short(text: object) -> str:
    """The text in one line of a message, cut off where a damaged file makes it endless."""
    return " ".join(str(text).split())[:200]
