"""What is checked before training starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..nn import Module
from ..optim import Optimizer
from .callbacks.base import Callback
from .callbacks.checkpoint import Checkpoint
from .loaders import is_one_pass, length
from .metrics import Metric
from .numbers import check_number
from .rows import CIRCUMSTANCES, PLACE
from .state import KINDS


def check_parts(
    model: object, optimizer: object, losses: Mapping[str, object], schedule: object
) -> None:
    """Raises TypeError for a part that is of another kind, ValueError for parts of another whole.

    Losses and `schedule` may be of any class that has the methods.
    """
    for name, value, kind in (("model", model, Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            wanted = "a Module" if kind is Module else "an Optimizer"
            raise TypeError(f"[Trainer] {name} must be {wanted}, got {_kind(value)}")
    assert isinstance(model, Module)
    assert isinstance(optimizer, Optimizer)
    for name, function in losses.items():
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"[Trainer] {name} must be a function of output and target, as nn.MSELoss() is, "
                f"got {_kind(function)}"
            )
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for p in optimizer.params):
        raise ValueError(
            "[Trainer] optimizer has none of the model's parameters: make it of model.parameters()"
        )
    if schedule is None:
        return
    if isinstance(schedule, type) or not (
        hasattr(schedule, "step") and hasattr(schedule, "state_dict")
    ):
        raise TypeError(
            f"[Trainer] schedule must be a Schedule, as optim.StepLR(optimizer, 10) is, got "
            f"{_kind(schedule)}"
        )
    if getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise ValueError("[Trainer] schedule is that of another optimizer")


def check_arguments(
    metrics: Mapping[str, Metric],
    amp: str | None,
    accumulate: int,
    clip: float | None,
    compiled: bool,
    log_every: int | None,
    objects: Mapping[str, Any],
) -> None:
    """Raises TypeError or ValueError, which name the argument."""
    for name, given in (("metrics", metrics), ("state", objects)):
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise TypeError(f"[Trainer] {name} must be a dict by names, got {_kind(given)}")
    for name, metric in metrics.items():
        if not isinstance(metric, Metric):
            raise TypeError(
                f"[Trainer] metrics[{name!r}] must be a Metric, as Accuracy() is, got "
                f"{_kind(metric)}"
            )
    taken = [name for name in metrics if name in ("loss", *PLACE, *CIRCUMSTANCES)]
    if taken:
        raise ValueError(f"[Trainer] metrics cannot be called {', '.join(map(repr, taken))}")
    if amp not in (None, "bfloat16", "float16"):
        raise ValueError(f"[Trainer] amp must be None, 'bfloat16' or 'float16', got {amp!r}")
    for name, value in (("accumulate", accumulate), ("log_every", log_every)):
        if value is not None or name == "accumulate":
            check_number("Trainer", name, value, least=1)
    if clip is not None and (not isinstance(clip, Real) or not clip > 0):
        raise ValueError(f"[Trainer] clip must be a positive number, got {clip!r}")
    if not isinstance(compiled, bool):
        raise TypeError(f"[Trainer] compiled must be True or False, got {compiled!r}")
    for name, value in objects.items():
        has_state = hasattr(value, "state_dict") and hasattr(value, "load_state_dict")
        if isinstance(value, type) or not (has_state or isinstance(value, KINDS)):
            raise TypeError(
                f"[Trainer] state[{name!r}] must have state_dict and load_state_dict, or be a "
                f"generator of random numbers, got {_kind(value)}"
            )


def checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """A list of them. Raises TypeError for what is no Callback, ValueError for two Checkpoints."""
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, type):
        raise TypeError(f"[Trainer] callbacks must be a list of them, got {_kind(callbacks)}")
    found = list(callbacks)
    wrong = next((c for c in found if not isinstance(c, Callback)), None)
    if wrong is not None:
        raise TypeError(f"[Trainer] callbacks must be Callbacks, got {_kind(wrong)}")
    if sum(isinstance(c, Checkpoint) for c in found) > 1:
        raise ValueError("[Trainer] callbacks may hold one Checkpoint, got several")
    return found


def _kind(value: object) -> str:
    """What a value is: `the class Adam`, or the name of its type."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_limits(
    epochs: int | None, steps: int | None, seconds: float | None, validate_every: int | None
) -> None:
    limits = {"epochs": epochs, "steps": steps, "time": seconds}
    if all(limit is None for limit in limits.values()):
        raise ValueError("[fit] give epochs, steps or time: how long to train")
    for name, limit in {**limits, "validate_every": validate_every}.items():
        if limit is not None:
            least = 1 if name == "validate_every" else 0
            check_number("fit", name, limit, least=least, whole=name != "time")


def check_batches(what: str, **arguments: object) -> None:
    """Raises TypeError for an argument that gives no batches, ValueError for one without any."""
    for name, batches in arguments.items():
        is_data = isinstance(batches, (Tensor, np.ndarray, str, bytes, Mapping))
        if is_data or not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
            raise TypeError(
                f"[{what}] {name} must give batches when it is gone through, as a DataLoader or a "
                f"list does, got {type(batches).__name__}"
            )
        if length(batches) == 0:
            raise ValueError(f"[{what}] {name} gave no batch")


def check_data(
    train: object,
    validation: object,
    epochs: int | None,
    done: int,
    validate_every: int | None,
) -> None:
    """Raises TypeError or ValueError unless `fit` can train on these batches, and measure."""
    check_batches("fit", train=train)
    if epochs is not None and epochs - done > 1:
        check_repeatable("train", train, f"for each of {epochs} epochs")
    if validation is not None:
        check_batches("fit", validation=validation)
        check_repeatable("validation", validation, "whenever it measures")
    elif validate_every is not None:
        raise ValueError("[fit] validate_every needs validation: the batches to measure on")


def check_repeatable(name: str, batches: object, times: str) -> None:
    """Raises ValueError for batches that come once and are wanted several times."""
    if is_one_pass(batches):
        raise ValueError(
            f"[fit] {name} must give its batches anew {times}, but a {type(batches).__name__} "
            "gives them once; pass a DataLoader, a list, or an object whose __iter__ makes a new "
            "iterator"
        )
