"""From a configuration to a trainer, and from a run to its trained model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import nn, optim
from ..autograd import no_grad
from ..random import manual_seed
from ..typing import Json
from .callbacks import EMA, Callback, Checkpoint, ConfusionFile, CSVLog, StopAtNaN, TensorBoard
from .checkpoints import newest
from .config import Config
from .layout import check_fit
from .limits import part_done
from .metrics import Confusion
from .run import RunFolder
from .settings import Training
from .steps import call, samples_of, split
from .task_state import TaskState
from .tasks import Batches, Task, errors_named, is_in_current_folder, make_model
from .text_samples import TextSamples
from .trainer import Trainer

# Checkpoints after epochs are at least so many steps apart: one of the digits takes as long as an
# epoch of 14 steps.
SAVED_STEPS = 100
MOST_CLASSES = 100  # that a confusion matrix is kept of
LEAST_STEPS = 4  # of an epoch, where the size of a batch is needle's choice


def build_model(config: Config) -> nn.Module:
    """The freshly drawn model of a `completed` configuration.

    Raises ValueError or TypeError for options that make none.

    Examples
    --------
    >>> from needle.train import build_model, completed, load_task, resolve
    >>> config = resolve("digits")
    >>> model = build_model(completed(config, load_task(config)))
    >>> sum(p.size for p in model.parameters())
    38860
    """
    options = {key: value for key, value in config.model.items() if key != "name"}
    return make_model(config.model["name"], options)


def make_trainer(
    config: Config,
    task: Task,
    run: RunFolder | None = None,
    callbacks: Iterable[Callback] = (),
    model: nn.Module | None = None,
) -> Trainer:
    """A trainer with everything that a `completed` configuration says.

    Parameters
    ----------
    config : Config
    task : Task
    run : RunFolder, optional
        The run's folder; nothing is written without one.
    callbacks : iterable of Callback
        Further callbacks.
    model : Module, optional
        A trained model; by default a new one is drawn, with the configuration's seed.

    Returns
    -------
    Trainer

    Raises
    ------
    ValueError
        If a batch is larger than the data, settings contradict each other, or a model of one's own
        does not take the data.

    Examples
    --------
    >>> from needle.train import completed, load_task, make_trainer, resolve
    >>> config = resolve("digits")
    >>> task = load_task(config)
    >>> trainer = make_trainer(completed(config, task), task)
    >>> sorted(trainer.metrics)
    ['accuracy', 'confusion']
    """
    training = config.training
    _check_batches(training, task)
    manual_seed(config.run.seed)
    model = build_model(config) if model is None else model
    device = config.run.device or None
    if device is not None:
        model.to(device)
    optimizer = make_optimizer(training, model)
    clock = _Clock(training, _steps_in_all(training, task.train(training.batch_size, 0)))
    factor = config.schedule.factor()
    trainer = Trainer(
        model, optimizer, _loss(task, training.label_smoothing), validation_loss=task.loss,
        metrics=_metrics(task),
        schedule=optim.LambdaLR(optimizer, lambda step: factor(clock.part_done(step))),
        callbacks=[*callbacks, *_callbacks(config, task, run)],
        amp=None if training.amp == "none" else training.amp, accumulate=training.accumulate,
        clip=training.clip or None, device=device, run=run, compiled=training.compiled,
        state={"task": TaskState(task.state)},
    )  # fmt: skip
    clock.trainer = trainer
    trainer.config = config.to_dict()
    if ":" in config.model["name"]:
        _try(trainer, task, config.model["name"])
    return trainer


def with_fitting_batches(config: Config, task: Task) -> Config:
    """The configuration with a smaller batch where the data are few: an epoch has some steps.

    Examples
    --------
    >>> from needle.train import load_task, resolve, with_fitting_batches
    >>> config = resolve("digits", changes={"training.batch_size": 1000})
    >>> with_fitting_batches(config, load_task(config)).training.batch_size
    250
    """
    size = config.training.batch_size
    while size > 1 and len(task.train(size, 0)) < LEAST_STEPS:  # type: ignore[arg-type]
        size //= 2
    return replace(config, training=replace(config.training, batch_size=size))


def train_batches(config: Config, task: Task) -> Batches:
    """The training batches of a configuration."""
    return task.train(config.training.batch_size, config.training.workers)


def limits(training: Training) -> dict[str, Any]:
    """The arguments of `Trainer.fit` that say how long it trains and when it validates."""
    return {
        "epochs": training.epochs or None, "steps": training.steps or None,
        "time": training.time or None, "validate_every": training.validate_every or None,
    }  # fmt: skip


def make_optimizer(training: Training, model: nn.Module) -> optim.Optimizer:
    """The optimizer that the settings name, for the parameters of a model."""
    lr, decay, parameters = training.lr, training.weight_decay, model.parameters()
    if training.optimizer == "muon":
        return optim.MuonWithAdamW(optim.muon_groups(model), lr=lr, weight_decay=decay)
    if training.optimizer == "sgd":
        return optim.SGD(
            parameters, lr=lr, momentum=training.momentum, nesterov=training.momentum > 0,
            weight_decay=decay,
        )  # fmt: skip
    kinds: dict[str, Callable[..., optim.Optimizer]] = {
        "adamw": optim.AdamW, "adam": optim.Adam, "lion": optim.Lion
    }  # fmt: skip
    return kinds[training.optimizer](parameters, lr=lr, weight_decay=decay)


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with everything that is known of it.

    Attributes
    ----------
    path : Path
        The checkpoint's file.
    model : Module
        The model with its trained weights; those of the moving average where one was kept.
    config : Config
    checkpoint : dict
        Everything that `read_checkpoint` has read.
    """

    path: Path
    model: nn.Module
    config: Config
    checkpoint: Json

    @property
    def state(self) -> Json:
        """The `Task.state`: vocabulary, classes or columns."""
        found: Json = self.checkpoint["objects"]["task"]["state"]
        return found


def load_run(run_or_checkpoint: str | os.PathLike[str], model: str | None = None) -> LoadedRun:
    """The trained model of a run, or of one checkpoint. Its data are not read.

    Parameters
    ----------
    run_or_checkpoint : str or path
        A run's folder, which stands for its best checkpoint, or a file.
    model : str, optional
        "package.module:function", where the checkpoint's model is made by a function outside of
        the current folder: a checkpoint alone cannot make a program run other code.

    Returns
    -------
    LoadedRun

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If it is damaged, or its tensors are not those of the model that it names. Nothing is built
        then.
    """
    where = Path(os.fsdecode(run_or_checkpoint))
    best = RunFolder(where).best
    path, checkpoint = newest(best if where.is_dir() and best.exists() else where)
    try:
        config = Config.from_dict(checkpoint["config"])
        if model is not None:
            config = replace(config, model={**config.model, "name": model})
        name = config.model["name"]
        if ":" in name and model is None and not is_in_current_folder(name):
            raise ValueError(
                f"its model is made by code outside of the current folder; if you trust it, say so "
                f"with --model {name}"
            )
        options = {key: value for key, value in config.model.items() if key != "name"}
        weights = {**checkpoint["model"], **_averages(checkpoint)}
        check_fit(name, options, weights)
        _check_state(checkpoint)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"[load_run] {str(path)!r}: {error}") from None
    found = build_model(config)
    found.load_state_dict(weights)
    return LoadedRun(path.resolve(), found, config, checkpoint)


def _averages(checkpoint: Json) -> Json:
    """The weights of the moving average, where one was kept."""
    averages = checkpoint["callbacks"].get("EMA", {}).get("averages", {})
    return {name: value.astype(checkpoint["model"][name].dtype) for name, value in averages.items()}


def _check_state(checkpoint: Json) -> None:
    state = checkpoint["objects"].get("task", {}).get("state")
    if not isinstance(state, dict):
        raise ValueError("it lacks what its data need: it was not written by `needle train`")


class _Clock:
    """How much of a training is done: by steps, or by time, whichever is further."""

    def __init__(self, training: Training, steps: int | None) -> None:
        self.steps, self.seconds = steps, training.time
        self.trainer: Trainer | None = None

    def part_done(self, step: int) -> float:
        """In [0, 1]; 0 without a limit."""
        seconds = 0.0 if self.trainer is None else self.trainer.progress.seconds
        return part_done(step, self.steps, seconds, self.seconds) or 0.0


def _steps_in_all(training: Training, batches: Batches) -> int | None:
    limits = [
        n for n in (training.steps, training.epochs * _steps_an_epoch(training, batches)) if n
    ]
    return min(limits, default=None)


def _steps_an_epoch(training: Training, batches: Batches) -> int:
    return -(-len(batches) // training.accumulate)  # type: ignore[arg-type]


def _check_batches(training: Training, task: Task) -> None:
    if not len(task.train(training.batch_size, 0)):  # type: ignore[arg-type]
        raise ValueError(
            f"[train] a batch of {training.batch_size:,} is larger than the data, "
            f"{task.train_size:,} {task.unit}: give a smaller --batch-size"
        )


def _try(trainer: Trainer, task: Task, name: str) -> None:
    """Measure one batch with a model of one's own, eagerly: its mistakes are told at once."""
    inputs, target = split(next(iter(task.validation)), trainer.device, name)
    training = trainer.model.training
    trainer.model.eval()
    with errors_named(name), no_grad():
        output = call(trainer.model, inputs)
    expected = (samples_of(inputs, target), len(task.classes or ()))
    if task.classes and output.shape != expected:
        raise ValueError(
            f"[model] {name}: the output must have the shape {expected}, a score for each class, "
            f"got {output.shape}"
        )
    with errors_named(name), no_grad():
        trainer.criterion(output, target)
    trainer.model.train(training)


def _loss(task: Task, smoothing: float) -> Any:
    if not smoothing:
        return task.loss
    if not isinstance(task.loss, nn.CrossEntropyLoss):
        raise ValueError("[train] label_smoothing is for classes, and these data have none")
    return nn.SoftmaxLoss(label_smoothing=smoothing)


def _metrics(task: Task) -> dict[str, Any]:
    classes = len(task.classes or ())
    confusion = {"confusion": Confusion(classes)} if 2 <= classes <= MOST_CLASSES else {}
    return {**task.metrics, **confusion}


def _callbacks(config: Config, task: Task, run: RunFolder | None) -> list[Callback]:
    found: list[Callback] = [EMA(config.training.ema)] if config.training.ema else []
    if run is None:
        return found
    saving, training = config.checkpoints, config.training
    steps = _steps_an_epoch(training, task.train(training.batch_size, 0))
    found += [
        CSVLog(), TensorBoard(), StopAtNaN(keep_weights=False),
        ConfusionFile(task.classes, f"{task.validation_size:,} validation {task.unit}"),
        Checkpoint(
            saving.every, every_epochs=-(-SAVED_STEPS // steps), keep=saving.keep,
            best=saving.best,
            on_error="stop" if saving.on_error == "stop" else "warn",
        ),
    ]  # fmt: skip
    if task.unit in ("characters", "tokens"):
        found.append(TextSamples(task.state))
    return found
