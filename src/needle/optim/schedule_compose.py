"""Schedules made of schedules: one after the other, or all together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import prod

from .optimizer import Optimizer
from .schedule import Schedule


class _Composed(Schedule):
    """A schedule that steps others, all of one optimizer."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], last_epoch: int = -1
    ) -> None:
        name = type(self).__name__
        self.schedulers = list(schedulers)
        if not self.schedulers:
            raise ValueError(f"[{name}] needs at least one schedule")
        for schedule in self.schedulers:
            if not isinstance(schedule, Schedule):
                raise TypeError(
                    f"[{name}] schedulers must be Schedules, got a {type(schedule).__name__}"
                )
            if schedule.optimizer is not optimizer:
                raise ValueError(f"[{name}] all schedules must be of the same optimizer")
        super().__init__(optimizer, last_epoch)

    def _join(self) -> None:
        super()._join()
        for schedule in self.schedulers:
            schedule.base_lrs += self.base_lrs[len(schedule.base_lrs) :]


class SequentialLR(_Composed):
    """One schedule after the other, each from its own beginning.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    schedulers : sequence of Schedule
        The schedules, made for `optimizer`.
    milestones : sequence of int
        The steps at which the second schedule takes over, the third, and so on.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If a schedule is none.
    ValueError
        If the milestones do not rise or are not one fewer than the schedules, or a schedule is of
        another optimizer.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> parts = [ndl.optim.ConstantLR(optimizer, 0.1), ndl.optim.ExponentialLR(optimizer, 0.5)]
    >>> schedule = ndl.optim.SequentialLR(optimizer, parts, milestones=[2])
    >>> [schedule.rate(step, base=1.0) for step in range(5)]
    [0.1, 0.1, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[Schedule],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.milestones = list(milestones)
        if len(self.milestones) != len(schedulers) - 1:
            raise ValueError(
                f"[SequentialLR] {len(schedulers)} schedules need {len(schedulers) - 1} "
                f"milestones, got {len(self.milestones)}"
            )
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"[SequentialLR] milestones must rise, got {self.milestones}")
        super().__init__(optimizer, schedulers, last_epoch)

    def _at(self, step: int) -> tuple[Schedule, int]:
        """The schedule of a step, and the steps since its beginning."""
        index = bisect_right(self.milestones, step)
        return self.schedulers[index], step - (self.milestones[index - 1] if index else 0)

    def rate(self, step: int, base: float) -> float:
        schedule, since = self._at(step)
        return schedule.rate(since, base)

    def _rates(self, step: int) -> list[float]:
        schedule, since = self._at(step)
        return schedule._rates(since)

    def _momenta(self, step: int) -> list[float] | None:
        schedule, since = self._at(step)
        return schedule._momenta(since)


class ChainedScheduler(_Composed):
    """All schedules together: the base rate times the factor that each of them gives it.

    The factor of a schedule is its rate divided by the base rate. Schedules with a least rate of
    their own or with `max_lr` are better put in a `SequentialLR`.

    Parameters
    ----------
    schedulers : sequence of Schedule
        The schedules, all of one optimizer.
    optimizer : Optimizer, optional
        The optimizer of the schedules.

    Raises
    ------
    TypeError
        If a schedule is none.
    ValueError
        If there are no schedules or they are of several optimizers.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> parts = [ndl.optim.ConstantLR(optimizer, 0.1), ndl.optim.ExponentialLR(optimizer, 0.5)]
    >>> schedule = ndl.optim.ChainedScheduler(parts)
    >>> [schedule.rate(step, base=1.0) for step in range(3)]
    [0.1, 0.05, 0.025]
    """

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError("[ChainedScheduler] needs at least one schedule")
        if optimizer is None:
            optimizer = schedulers[0].optimizer
        super().__init__(optimizer, schedulers)

    def rate(self, step: int, base: float) -> float:
        return base * prod(schedule.rate(step, 1.0) for schedule in self.schedulers)

    def _rates(self, step: int) -> list[float]:
        rates = list(zip(*(schedule._rates(step) for schedule in self.schedulers), strict=True))
        return [
            base * prod(rate / base if base else 0.0 for rate in of_group)
            for base, of_group in zip(self.base_lrs, rates, strict=True)
        ]

    def _momenta(self, step: int) -> list[float] | None:
        found = [schedule._momenta(step) for schedule in self.schedulers]
        return next((momenta for momenta in reversed(found) if momenta is not None), None)
