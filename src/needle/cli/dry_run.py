"""`needle train --dry-run`: the configuration, the model, and what a step costs."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import nn
from ..backend_ndarray import memory_stats
from ..train import Callback, Config, Task, limits, make_trainer, toml, train_batches
from .facts import duration
from .printing import say, show_table

if TYPE_CHECKING:
    from ..train import Trainer

STEPS = 5  # that are timed, after the first, which compiles


class _Times(Callback):
    """When each step had ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, trainer: Trainer) -> None:
        """Wait for the step, and note the time."""
        trainer.loss()
        self.ends.append(time.perf_counter())


def show_dry_run(config: Config, task: Task) -> None:
    """Print what a run would be, from a few steps of a model that is thrown away."""
    say(toml.dumps(config.to_dict()))
    say(f"{task.title}: {task.train_size:,} training and {task.validation_size:,} validation "
        f"{task.unit}\n")  # fmt: skip
    training = config.training
    trainer = make_trainer(
        replace(config, training=replace(training, ema=0.0)), task, callbacks=[times := _Times()]
    )
    batches = train_batches(config, task)
    steps_an_epoch = -(-len(batches) // training.accumulate)  # type: ignore[arg-type]
    _show_model(trainer, next(iter(batches))[0])
    began = time.perf_counter()
    few = list(itertools.islice(batches, (STEPS + 1) * training.accumulate))
    trainer.fit(few, steps=STEPS + 1, epochs=STEPS + 1)
    each = (times.ends[-1] - times.ends[0]) / (len(times.ends) - 1)
    total = _steps(config, steps_an_epoch)
    rows: list[tuple[str, object]] = [("first step", f"{times.ends[0] - began:.1f} s, once")]
    rows += [("a step", f"{1e3 * each:.1f} ms"), *_cost(trainer)]
    stats = memory_stats(config.run.device)
    if "peak" in stats:
        rows.append(("memory of arrays", f"{stats['peak'] / 2**20:,.0f} MiB at most"))
    rows.append(("steps", f"{total:,} ({steps_an_epoch:,} an epoch)" if total else "by time"))
    validation = _validation_seconds(trainer, task)
    rows.append(("a validation", f"{validation:.2f} s"))
    if total:
        every = training.validate_every or steps_an_epoch
        whole = each * total + validation * max(1, total // every)
        limit = min(whole, training.time or whole)
        rows.append(("the whole training", f"about {duration(max(1.0, limit))}"))
    elif training.time:
        rows.append(("the whole training", duration(training.time)))
    show_table(rows)


def _steps(config: Config, steps_an_epoch: int) -> int | None:
    found = limits(config.training)
    known = [n for n in (found["steps"], (found["epochs"] or 0) * steps_an_epoch) if n]
    return min(known, default=None)


def _show_model(trainer: Trainer, inputs: Any) -> None:
    device = trainer.device
    dtype = str(inputs.dtype) if hasattr(inputs, "dtype") else "float32"
    if device is not None:
        trainer.model.to(device)
    try:
        say(nn.summary(trainer.model, inputs.shape, dtype))
    except (AttributeError, TypeError, ValueError):  # a model of several inputs
        parameters = sum(p.size for p in trainer.model.parameters())
        say(f"{type(trainer.model).__name__}: {parameters:,} parameters")
    say()


def _cost(trainer: Trainer) -> list[tuple[str, object]]:
    """The work of the compiled step; nothing where it runs eagerly."""
    cost = trainer.step_cost()
    if cost is None:
        return []
    flops, moved = cost.flops, cost.bytes
    return [
        ("arithmetic of a batch", f"{flops / 1e9:.3f} GFLOP"),
        ("memory traffic of a batch", f"{moved / 2**20:,.1f} MiB"),
    ]


def _validation_seconds(trainer: Trainer, task: Task) -> float:
    """How long a validation takes, from that of its first batch."""
    first = list(itertools.islice(task.validation, 1))
    trainer.evaluate(first)  # compiles
    began = time.perf_counter()
    trainer.evaluate(first)
    seconds = time.perf_counter() - began
    batches: int = len(task.validation)  # type: ignore[arg-type]
    return seconds * batches
