"""What is checked before training starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .loaders import is_one_pass
from .metrics import Metric
from .state import KINDS

# What rows hold besides the loss and the metrics.
NOT_MEASURES = ("step", "epoch", "seconds", "split", "lr", "samples_per_second", "memory")


def check_arguments(
    metrics: Mapping[str, Metric],
    amp: str | None,
    accumulate: int,
    clip: float | None,
    log_every: int | None,
    objects: Mapping[str, Any],
) -> None:
    taken = [name for name in metrics if name in ("loss", *NOT_MEASURES)]
    if taken:
        raise ValueError(f"[Trainer] metrics cannot be called {', '.join(map(repr, taken))}")
    if amp not in (None, "bfloat16", "float16"):
        raise ValueError(f"[Trainer] amp must be None, 'bfloat16' or 'float16', got {amp!r}")
    for name, value in (("accumulate", accumulate), ("log_every", log_every)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"[Trainer] {name} must be an int of at least 1, got {value!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"[Trainer] clip must be positive, got {clip}")
    for name, value in objects.items():
        has_state = hasattr(value, "state_dict") and hasattr(value, "load_state_dict")
        if not has_state and not isinstance(value, KINDS):
            raise TypeError(
                f"[Trainer] state[{name!r}] must have state_dict and load_state_dict, or be a "
                f"generator of random numbers, got {type(value).__name__}"
            )


def check_limits(
    epochs: int | None, steps: int | None, seconds: float | None, validate_every: int | None
) -> None:
    limits = {"epochs": epochs, "steps": steps, "time": seconds}
    if all(limit is None for limit in limits.values()):
        raise ValueError("[fit] give epochs, steps or time: how long to train")
    for name, limit in {**limits, "validate_every": validate_every}.items():
        least = 1 if name == "validate_every" else 0
        if limit is not None and not limit >= least:
            raise ValueError(f"[fit] {name} must be at least {least}, got {limit}")


def check_batches(what: str, **arguments: object) -> None:
    """Raises TypeError, which names the argument, for one that cannot be gone through."""
    for name, batches in arguments.items():
        if not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
            raise TypeError(
                f"[{what}] {name} must give batches when it is gone through, as a DataLoader or a "
                f"list does, got {type(batches).__name__}"
            )


def check_repeatable(name: str, batches: object, times: str) -> None:
    """Raises ValueError for batches that come once and are wanted several times."""
    if is_one_pass(batches):
        raise ValueError(
            f"[fit] {name} must give its batches anew {times}, but a {type(batches).__name__} "
            "gives them once; pass a DataLoader, a list, or an object whose __iter__ makes a new "
            "iterator"
        )
