"""The models that `--model` names: needle's, and functions of the user's own modules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import models, nn
from ...typing import Json
from ..options import check_options, options_of, takes_any_option, unknown
from .text import NextToken

Maker = Callable[..., nn.Module]
_NEEDLE = Path(nn.__file__).parents[1]


def _mlp_resnet(
    dim: int,
    hidden_dim: int = 100,
    num_blocks: int = 3,
    num_classes: int = 10,
    drop_prob: float = 0.1,
) -> nn.Module:
    net = models.MLPResNet(dim, hidden_dim, num_blocks, num_classes, drop_prob=drop_prob)
    return nn.Sequential(nn.Flatten(), net)


def _gpt(
    vocabulary: int,
    length: int,
    width: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    dropout: float = 0.0,
    activation: str = "gelu",
    tied: bool = True,
) -> nn.Module:
    return NextToken(
        models.GPT(vocabulary, length, width, num_layers, num_heads, dropout, activation, tied)
    )


def _lstm(
    vocabulary: int, embedding_size: int = 64, hidden_size: int = 256, num_layers: int = 2
) -> nn.Module:
    return NextToken(
        models.LanguageModel(embedding_size, vocabulary, hidden_size, num_layers, "lstm")
    )


# A model is made by the options of [model] in the configuration, which these functions name.
MODELS: dict[str, Maker] = {
    "mlp_resnet": _mlp_resnet,
    "resnet9": models.ResNet9,
    "small_resnet": models.SmallResNet,
    "gpt": _gpt,
    "lstm": _lstm,
    "tabular": models.Tabular,
}


def find_model(name: str) -> Maker:
    """The function that makes the model `name`: one of `MODELS`, or "package.module:function".

    Modules are looked for in the current folder, too. Raises ValueError where there is none.
    """
    if name in MODELS:
        return MODELS[name]
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise ValueError(
            f"[model] {unknown('needle', 'model', name, MODELS)}; a model of your own is "
            "package.module:function"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        function = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
    except Exception as error:
        raise ValueError(f"[model] {name!r} cannot be had: {described(error)}") from error
    if not callable(function):
        raise ValueError(f"[model] {name!r} must be a function that returns a model")
    return function


def is_in_current_folder(name: str) -> bool:
    """Whether "package.module:function" is code of the current folder. Imports nothing."""
    package = name.partition(":")[0].partition(".")[0]
    here = Path.cwd()
    return (here / f"{package}.py").is_file() or (here / package).is_dir()


def model_options(name: str, given: Mapping[str, Any], of_data: Mapping[str, Any]) -> Json:
    """The options that a model is made with: its defaults, what its data say, and what is given.

    Of what the data say it gets what it has options for. Raises ValueError for an unknown option or
    one that is missing, TypeError for a value of the wrong type.
    """
    maker = find_model(name)
    known, what = options_of(maker), f"[model] {name}"
    offered = {k: v for k, v in of_data.items() if k in known or takes_any_option(maker)}
    given = check_options(maker, given, what)
    for key in offered.keys() & given.keys():
        if given[key] != offered[key]:
            raise ValueError(
                f"{what}: {key} is {offered[key]!r} by the data, it cannot be {given[key]!r}; "
                "leave it out"
            )
    options = {**known, **offered, **given}
    missing = [k for k, v in options.items() if v is None and k not in _optional(maker)]
    if missing:
        raise ValueError(f"{what} needs {', '.join(missing)}: --set model.{missing[0]}=…")
    return {key: value for key, value in options.items() if value is not None}


def make_model(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A freshly drawn model. Raises ValueError or TypeError for options that make none."""
    maker = find_model(name)
    with errors_named(name):
        model = maker(**options)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"[model] {name} must return a needle.nn.Module, got {type(model).__name__}"
        )
    return model


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """An error in a model of the user's own is a ValueError that says where it is."""
    try:
        yield
    except Exception as error:
        if name in MODELS:
            raise
        raise ValueError(f"[model] {name}: {described(error)}") from error


def described(error: Exception) -> str:
    """An error in one line, with the line of the user's code that it came from."""
    said = " ".join(str(error).split())
    if not isinstance(error, ValueError) or not said.startswith("["):
        said = f"{type(error).__name__}: {said}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    return f"{said} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else said


def _is_library(file: str) -> bool:
    """Whether a file is needle's or Python's, and not the user's."""
    path = Path(file)
    folders = (_NEEDLE, Path(os.__file__).parent)
    return file.startswith("<") or "site-packages" in path.parts or any(
        path.is_relative_to(folder) for folder in folders
    )  # fmt: skip


def _optional(maker: Maker) -> set[str]:
    import inspect

    parameters = inspect.signature(maker).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty}
