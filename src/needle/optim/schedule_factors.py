"""Schedules that multiply the base rate by a factor of the number of steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from .optimizer import Optimizer
from .schedule import Schedule, cosine, count, line, rate_of

Factor: TypeAlias = Callable[[int], float]


def _functions(
    schedule: str, given: Factor | Sequence[Factor], optimizer: Optimizer
) -> list[Factor]:
    """A function for each group, or one for all."""
    functions = [given] if callable(given) else list(given)
    if not all(map(callable, functions)):
        raise TypeError(f"[{schedule}] lr_lambda must be a function or a list of them")
    groups = len(getattr(optimizer, "param_groups", ()))
    if isinstance(given, (list, tuple)) and len(functions) != groups:
        raise ValueError(
            f"[{schedule}] lr_lambda has {len(functions)} functions for {groups} parameter groups"
        )
    return functions


class LambdaLR(Schedule):
    """Multiply the base rate by a function of the number of steps.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    lr_lambda : callable or list of callable
        A function of the number of steps, or one for each group.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If the number of functions is not that of the groups.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.LambdaLR(optimizer, lambda step: 0.5**step)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Factor | Sequence[Factor],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _functions("LambdaLR", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * self.lr_lambdas[0](step)

    def _rates(self, step: int) -> list[float]:
        last = len(self.lr_lambdas) - 1
        return [base * self.lr_lambdas[min(i, last)](step) for i, base in enumerate(self.base_lrs)]


class MultiplicativeLR(Schedule):
    """Multiply the rate at every step by a function of the number of steps.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    lr_lambda : callable or list of callable
        A function of the number of steps, or one for each group.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If the number of functions is not that of the groups.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.MultiplicativeLR(optimizer, lambda step: 0.5)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Factor | Sequence[Factor],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _functions("MultiplicativeLR", lr_lambda, optimizer)
        self._products = [[1.0] for _ in self.lr_lambdas]
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * self._product(0, step)

    def _rates(self, step: int) -> list[float]:
        last = len(self.lr_lambdas) - 1
        return [base * self._product(min(i, last), step) for i, base in enumerate(self.base_lrs)]

    def _product(self, index: int, step: int) -> float:
        """The product of the factors of the steps 1 … step; those so far are kept."""
        products = self._products[index]
        while len(products) <= step:
            products.append(products[-1] * self.lr_lambdas[index](len(products)))
        return products[step]


class MultiStepLR(Schedule):
    """Multiply the rate by `gamma` at every milestone.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    milestones : iterable of int
        The steps at which the rate changes, in any order.
    gamma : float, default 0.1
        The factor.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.MultiStepLR(optimizer, [1, 3], gamma=0.5)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = rate_of("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * self.gamma ** bisect_right(self.milestones, step)


class ExponentialLR(Schedule):
    """Multiply the rate by `gamma` at every step.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    gamma : float
        The factor.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.ExponentialLR(optimizer, gamma=0.5)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        gamma: float,
        last_epoch: int = -1,
    ) -> None:
        self.gamma = rate_of("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * self.gamma**step


class ConstantLR(Schedule):
    """Multiply the rate by `factor` for some steps.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    factor : float, default 1/3
        The factor, in [0, 1].
    total_iters : int, default 5
        The number of steps until the base rate.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = part("ConstantLR", "factor", factor)
        self.total_iters = count("ConstantLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return base * (self.factor if step < self.total_iters else 1.0)


class LinearLR(Schedule):
    """Change the factor of the rate linearly from one number to another.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    start_factor : float, default 1/3
        The first factor, in (0, 1].
    end_factor : float, default 1.0
        The last factor, in [0, 1].
    total_iters : int, default 5
        The number of steps until the last factor.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = part("LinearLR", "start_factor", start_factor)
        if not self.start_factor:
            raise ValueError("[LinearLR] start_factor must be above 0; WarmupLR may start from 0")
        self.end_factor = part("LinearLR", "end_factor", end_factor)
        self.total_iters = count("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        done = min(step / self.total_iters, 1.0)
        return base * line(self.start_factor, self.end_factor, done)


class PolynomialLR(Schedule):
    """Let the rate fall to 0 as a power of the steps that are left.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    total_iters : int, default 5
        The number of steps until 0.
    power : float, default 1.0
        The power.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.PolynomialLR(optimizer, total_iters=2, power=2.0)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters = count("PolynomialLR", "total_iters", total_iters)
        self.power = rate_of("PolynomialLR", "power", power)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        left = 1.0 - min(step / self.total_iters, 1.0)
        rate: float = base * left**self.power
        return rate


class CosineAnnealingLR(Schedule):
    """A cosine between the base rate and `eta_min`, up again after `T_max` steps.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    T_max : int
        Half the period.
    eta_min : float, default 0.0
        The least rate.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If a number is out of range.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017. `CosineLR`
    stays at its least rate.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 0.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max = count("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = rate_of("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return cosine(base, self.eta_min, step / self.T_max)


def part(schedule: str, name: str, value: float) -> float:
    """`value` as a float in [0, 1]."""
    if not 0 <= rate_of(schedule, name, value) <= 1:
        raise ValueError(f"[{schedule}] {name} must be in [0, 1], got {value}")
    return float(value)
