"""Learning-rate schedules: the rate as a function of the number of steps.

A schedule sets its optimizer's rates when it is made and at every `step()`, which a program calls
after the optimizer's: once an epoch or once a batch, whichever the schedule's counts mean.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex
from weakref import WeakKeyDictionary

from .. import autograd
from ..differences import tell
from ..given import shown, type_name
from .optimizer import Optimizer, Saved, State

# The rate that a schedule has set last for a group of an optimizer, and the rate it began from: a
# schedule made after another of the same optimizer has the same base.
_set_by_schedules: WeakKeyDictionary[Optimizer, dict[int, tuple[float, float]]]
_set_by_schedules = WeakKeyDictionary()

ORDER = (
    "a schedule's step() before the first optimizer.step() passes over the first learning rate: "
    "call optimizer.step() first, then the schedule's step()"
)


@autograd.watched
class Schedule:
    """Base class of learning-rate schedules; a subclass defines `rate(step, base)`.

    A group that is added to the optimizer later joins at the schedule's next step, with the rate it
    has then as its base.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    last_epoch : int, default -1
        The number of the last step of a run that goes on: the schedule begins one step later.

    Attributes
    ----------
    steps : int
        The number of steps so far; `last_epoch` is PyTorch's name of it.
    base_lrs : list of float
        The rate of each group of the optimizer before its schedules.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer.

    Examples
    --------
    >>> import needle as ndl
    >>> class Halving(ndl.optim.Schedule):
    ...     def rate(self, step, base): return base / 2**step
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=0.5)
    >>> Halving(optimizer).step(); optimizer.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"[{type(self).__name__}] optimizer must be an Optimizer, "
                f"got {type_name(optimizer)}: make it first, as in "
                "optimizer = optim.SGD(model.parameters(), lr=0.1)"
            )
        self.optimizer = optimizer
        self.steps = index_of(type(self).__name__, "last_epoch", last_epoch) + 1
        self.base_lrs: list[float] = []
        self._join()
        self._apply()

    def rate(self, step: int, base: float) -> float:
        """Return the learning rate after `step` steps of a group whose rate was `base`."""
        raise NotImplementedError(f"[{type(self).__name__}] defines no rate")

    def step(self, epoch: None = None) -> None:
        """Count one step and set the optimizer's learning rates.

        Raises TypeError where PyTorch's old argument, or a loss, is given.
        """
        if epoch is not None:
            raise TypeError(
                f"[{type(self).__name__}] step takes nothing, got {shown(epoch)}; a schedule that "
                "follows a loss is ReduceLROnPlateau, and last_epoch= begins later"
            )
        trace = autograd.current_trace()
        if trace is None or trace.has_made(self):
            self._step()
        else:
            trace.host_action(self._step)

    def _join(self) -> None:
        """Take up the groups that the optimizer got since."""
        known = _set_by_schedules.get(self.optimizer, {})
        groups = self.optimizer.param_groups
        for index in range(len(self.base_lrs), len(groups)):
            rate = groups[index]["lr"]
            last, base = known.get(index, (rate, rate))
            self.base_lrs.append(base if rate == last else rate)

    def _step(self) -> None:
        self._join()
        _tell_of_order(self.optimizer)
        steps, rates, momenta = self.steps, self.lrs, self.optimizer._momenta()
        autograd.log_undo(lambda: self._set(steps, rates, momenta))
        self._set(steps + 1, self._rates(steps + 1), self._momenta(steps + 1))

    def _rates(self, step: int) -> list[float]:
        """The rate of each group after `step` steps."""
        return [self.rate(step, base) for base in self.base_lrs]

    def _momenta(self, step: int) -> list[float] | None:
        """The momentum of each group after `step` steps; None where it stays as it is."""
        return None

    def _set(self, steps: int, rates: list[float], momenta: list[float] | None) -> None:
        self.steps = steps
        if momenta is not None:
            self.optimizer._set_momenta(momenta)
        known = _set_by_schedules.setdefault(self.optimizer, {})
        for index, group in enumerate(self.optimizer.param_groups):
            group["lr"] = rates[index]
            known[index] = (rates[index], self.base_lrs[index])

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group now: `lrs` by PyTorch's name."""
        return self.lrs

    @property
    def last_epoch(self) -> int:
        """The number of steps so far: `steps` by PyTorch's name."""
        return self.steps

    def _apply(self) -> None:
        self._set(self.steps, self._rates(self.steps), self._momenta(self.steps))

    def state_dict(self) -> State:
        """Return what `load_state_dict` needs to continue."""
        self._join()
        return {"steps": self.steps, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Saved) -> None:
        """Continue from the `state_dict` of a schedule of the same kind.

        Raises
        ------
        ValueError
            If the state has another number of parameter groups.
        """
        self._join()
        if len(state["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"[{type(self).__name__}] the state is of {len(state['base_lrs'])} parameter "
                f"groups, this optimizer has {len(self.base_lrs)}"
            )
        self.steps, self.base_lrs = int(state["steps"]), list(state["base_lrs"])
        self._apply()


class StepLR(Schedule):
    """Multiply the rate by `gamma` every `step_size` steps: base·gamma^(step // step_size).

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    step_size : int
        The number of steps between two changes.
    gamma : float, default 0.1
        The factor.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `step_size` is not an integer.
    ValueError
        If `step_size` is below 1 or `gamma` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> [schedule.rate(step, base=1.0) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = count("StepLR", "step_size", step_size)
        self.gamma = rate_of("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * self.gamma ** (step // self.step_size)


class CosineLR(Schedule):
    """Half a cosine from the base rate down to `min_lr`, which stays from then on.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    total_steps : int
        The number of steps until `min_lr`.
    min_lr : float, default 0.0
        The last rate.

    Raises
    ------
    TypeError
        If `total_steps` is not an integer.
    ValueError
        If `total_steps` is below 1 or `min_lr` is negative.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017 (without the
    restarts).

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.CosineLR(optimizer, total_steps=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, min_lr: float = 0.0) -> None:
        self.total_steps = count("CosineLR", "total_steps", total_steps)
        self.min_lr = rate_of("CosineLR", "min_lr", min_lr)
        super().__init__(optimizer)

    def rate(self, step: int, base: float) -> float:
        return cosine(base, self.min_lr, min(step / self.total_steps, 1.0))


class WarmupLR(Schedule):
    """Linear warm-up from start_factor·base to base, then a constant rate or another schedule.

    Parameters
    ----------
    after : Optimizer or Schedule
        The optimizer to warm up, or a schedule of it that starts when the warm-up ends.
    warmup_steps : int
        The number of steps of the warm-up.
    start_factor : float, default 0.0
        The part of the base rate at which the warm-up starts, in [0, 1].

    Raises
    ------
    TypeError
        If `warmup_steps` is not an integer or `after` is neither an Optimizer nor a Schedule.
    ValueError
        If `warmup_steps` is below 1 or `start_factor` is outside [0, 1].

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.WarmupLR(optimizer, warmup_steps=4)
    >>> [schedule.rate(step, base=1.0) for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, after: Optimizer | Schedule, warmup_steps: int, start_factor: float = 0.0
    ) -> None:
        self.warmup_steps = count("WarmupLR", "warmup_steps", warmup_steps)
        if not 0 <= start_factor <= 1:
            raise ValueError(f"[WarmupLR] start_factor must be in [0, 1], got {start_factor}")
        self.start_factor = float(start_factor)
        self.after = after if isinstance(after, Schedule) else None
        if self.after is None:
            super().__init__(after)  # type: ignore[arg-type]
        else:
            self.after._join()
            for group, base in zip(
                self.after.optimizer.param_groups, self.after.base_lrs, strict=True
            ):
                group["lr"] = base
            super().__init__(self.after.optimizer)

    def rate(self, step: int, base: float) -> float:
        if step >= self.warmup_steps:
            return base if self.after is None else self.after.rate(step - self.warmup_steps, base)
        top = base if self.after is None else self.after.rate(0, base)
        return line(self.start_factor * top, top, step / self.warmup_steps)


def _tell_of_order(optimizer: Optimizer) -> None:
    """Warn where gradients wait for the optimizer's first step, which is to come before."""
    states = autograd.unwatched(optimizer, "state").values()
    waits = any(p.grad is not None for p in autograd.unwatched(optimizer, "params"))
    if waits and not any(state.get("step", 1) for state in states):
        tell("order of steps", ORDER, stacklevel=4, category=UserWarning)


def cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def line(start: float, end: float, done: float) -> float:
    return start + (end - start) * done


def each_group(
    schedule: str, name: str, value: float | Sequence[float], optimizer: Optimizer
) -> list[float]:
    """A rate for each group, of one for all or of a sequence."""
    if not isinstance(value, (list, tuple)):
        return [rate_of(schedule, name, value)]
    groups = len(optimizer.param_groups)
    if len(value) != groups:
        raise ValueError(
            f"[{schedule}] {name} has {len(value)} entries for {groups} parameter groups"
        )
    return [rate_of(schedule, name, one) for one in value]


def of_group(values: list[float], index: int) -> float:
    """The group's own value, or the last one: that of all groups, and of groups added later."""
    return values[min(index, len(values) - 1)]


def index_of(schedule: str, name: str, value: SupportsIndex | float) -> int:
    if isinstance(value, float):
        if value.is_integer():  # programs write StepLR(optimizer, 1.0)
            return int(value)
        raise TypeError(f"[{schedule}] {name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"[{schedule}] {name} must be an integer, got {value!r}") from None


def count(schedule: str, name: str, value: SupportsIndex | float, least: int = 1) -> int:
    number = index_of(schedule, name, value)
    if number < least:
        raise ValueError(f"[{schedule}] {name} must be at least {least}, got {number}")
    return number


def rate_of(schedule: str, name: str, value: object) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"[{schedule}] {name} must be a number ≥ 0, got {value!r}")
    return float(value)
