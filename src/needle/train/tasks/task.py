"""Task: a data set that is ready for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ...autograd import Tensor
from ...typing import Json
from ..metrics import Metric
from ..settings import Settings

Batches: TypeAlias = Iterable[tuple[Any, Tensor]]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A data set that is ready for training.

    Attributes
    ----------
    name, title : str
        "digits", and what was really read: "2,000 of the 10,000 test photographs of CIFAR-10".
    train : callable
        train(batch_size, workers) gives the batches of an epoch, anew at each iteration.
    validation : iterable
        The batches to measure on.
    train_size, validation_size : int
        In `unit`s.
    unit : str
        "images", "characters", "tokens" or "rows".
    loss : callable
        loss(output, target) gives a scalar.
    metrics : dict of Metric
    best : str
        What the best checkpoint is the best by: "validation/loss", "validation/accuracy", …
    classes : tuple of str or None
        The names of the classes.
    state : dict
        What a checkpoint must keep of the data: a vocabulary, names of classes, columns.
    options : dict
        What the model must know of the data.

    Examples
    --------
    >>> from needle.train import load_task, resolve
    >>> task = load_task(resolve("digits"))
    >>> task.train_size, task.unit
    (1438, 'images')
    """

    name: str
    title: str
    train: Callable[[int, int], Batches]
    validation: Batches
    train_size: int
    validation_size: int
    unit: str
    loss: Loss
    metrics: dict[str, Metric]
    best: str = "validation/loss"
    classes: tuple[str, ...] | None = None
    state: Json = field(default_factory=dict)
    options: Json = field(default_factory=dict)


@dataclass(frozen=True)
class TaskKind:
    """A name that `needle train` knows: how its data are read, and which models it has.

    Attributes
    ----------
    name, summary : str
    load : callable
        load(paths or folder, state, **options) gives the Task. `state` is the `Task.state` of a
        checkpoint, or None where training begins. The keyword options are those of the table
        [data].
    models : dict of Settings
        The models by name, the default one first.
    data : str
        The name of the data set that `needle data get` fetches; "" where paths are given.
    paths : str
        What the paths are, such as "FILE…"; "" where none are given.
    """

    name: str
    summary: str
    load: Callable[..., Task]
    models: dict[str, Settings]
    data: str = ""
    paths: str = ""


def check_paths(paths: Sequence[Path], what: str) -> None:
    """Raise FileNotFoundError, which names it, for a path that is not there."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"[{what}] there is no file or folder {str(path)!r}")
