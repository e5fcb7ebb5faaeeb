"""The settings of a training: of the loop, of the schedule, and what a model starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..typing import Json

OPTIMIZERS = ("adamw", "adam", "sgd", "lion", "muon")
SCHEDULES = ("onecycle", "cosine", "linear", "constant")


@dataclass(frozen=True)
class Training:
    """The settings of the loop: the table [training] of a configuration.

    Training ends after `epochs`, `steps` or `time`, whichever is first; 0 stands for no limit.

    Attributes
    ----------
    epochs, steps : int
        Passes over the data, and steps of the optimizer.
    time : float
        Seconds of training.
    batch_size : int
        Samples a batch; a step has `accumulate` batches.
    optimizer : str
        One of `OPTIMIZERS`.
    lr : float
        The highest learning rate.
    weight_decay : float
    momentum : float
        Of sgd.
    clip : float
        The largest norm of all gradients together; 0 limits nothing.
    label_smoothing : float
        The part of each target's probability that is spread over all classes, in [0, 1).
    ema : float
        The decay of a moving average of the weights that is evaluated in their place; 0 keeps none.
    amp : str
        "none", "bfloat16" or "float16".
    accumulate : int
        Batches a step.
    workers : int
        Threads that fetch batches ahead.
    validate_every : int
        Steps between validations; 0 validates after each epoch.
    compiled : bool
        Whether steps are compiled programs.

    Examples
    --------
    >>> from needle.train import Training
    >>> Training(epochs=3).batch_size
    100
    """

    epochs: int = 0
    steps: int = 0
    time: float = 0.0
    batch_size: int = 100
    optimizer: str = "adamw"
    lr: float = 1e-2
    weight_decay: float = 1e-2
    momentum: float = 0.9
    clip: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    amp: str = "none"
    accumulate: int = 1
    workers: int = 0
    validate_every: int = 0
    compiled: bool = True

    def check(self) -> None:
        """Raise ValueError, which names the setting, for one that is out of range."""
        for name in ("epochs", "steps", "time", "weight_decay", "clip", "workers"):
            require(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "at least 0")
        for name in ("batch_size", "accumulate"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        require("lr", self.lr, 0 < self.lr < math.inf, "above 0")
        require("validate_every", self.validate_every, self.validate_every >= 0, "at least 0")
        for name in ("label_smoothing", "ema", "momentum"):
            require(name, getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("amp", self.amp, ("none", "bfloat16", "float16"))
        if not (self.epochs or self.steps or self.time):
            raise ValueError("[training] give epochs, steps or time: one of them must be above 0")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over the training: the table [schedule].

    Attributes
    ----------
    name : str
        "onecycle" rises and falls in two half cosines to 1/250,000 of the highest rate, "cosine"
        and "linear" rise linearly and fall to `last`, "constant" rises and stays.
    warmup : float
        The part of the training in which the rate rises, in [0, 1).
    last : float
        The last rate of "cosine" and "linear", as a part of the highest.

    Examples
    --------
    >>> from needle.train import Schedule
    >>> factor = Schedule("linear", warmup=0.5, last=0.0).factor()
    >>> [factor(part) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    name: str = "onecycle"
    warmup: float = 0.3
    last: float = 0.0

    def check(self) -> None:
        """Raise ValueError, which names the setting, for one that is out of range."""
        choose("schedule.name", self.name, SCHEDULES)
        require("schedule.warmup", self.warmup, 0 <= self.warmup < 1, "in [0, 1)")
        require("schedule.last", self.last, 0 <= self.last <= 1, "in [0, 1]")

    def factor(self) -> Callable[[float], float]:
        """The factor of the highest rate, a function of the part of the training that is done."""
        first, last = (1 / 25, 1 / 250_000) if self.name == "onecycle" else (0.0, self.last)
        rises = _cosine if self.name == "onecycle" else _line
        falls = {"linear": _line, "constant": _stay}.get(self.name, _cosine)

        def factor(part: float) -> float:
            part = min(max(part, 0.0), 1.0)
            if part < self.warmup:
                return rises(first, 1.0, part / self.warmup)
            return falls(1.0, last, (part - self.warmup) / (1.0 - self.warmup))

        return factor


@dataclass(frozen=True)
class Settings:
    """What a model is trained with on a task unless something else is asked for.

    Attributes
    ----------
    options : dict
        The model's own options.
    training : Training
    schedule : Schedule

    Examples
    --------
    >>> from needle.train import Settings, Training
    >>> Settings({"width": 64}, Training(epochs=10)).schedule.name
    'onecycle'
    """

    options: Json
    training: Training
    schedule: Schedule = field(default_factory=Schedule)


def _line(start: float, end: float, part: float) -> float:
    return start + (end - start) * part


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def _stay(start: float, end: float, part: float) -> float:
    return start


def require(name: str, value: object, holds: bool, expected: str) -> None:
    """Raise ValueError, which names the setting, unless the condition holds."""
    if not holds:
        raise ValueError(f"[training] {name} must be {expected}, got {value}")


def choose(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError, which names the setting, for a value that is not among the known ones."""
    if value not in known:
        raise ValueError(f"[training] {name} must be one of {', '.join(known)}, got {value!r}")
