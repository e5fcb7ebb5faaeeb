"""Schedules that come back: warm restarts and cycles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .optimizer import Optimizer
from .schedule import (
    Schedule,
    cosine,
    count,
    each_group,
    of_group,
    rate_of,
    refuse_cycled_momentum,
)


class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine from the base rate down to `eta_min`, again and again.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    T_0 : int
        The number of steps until the first restart.
    T_mult : int, default 1
        The factor of the number of steps after each restart.
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
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> [round(schedule.rate(step, base=1.0), 3) for step in range(4)]
    [1.0, 0.5, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        name = "CosineAnnealingWarmRestarts"
        self.T_0, self.T_mult = count(name, "T_0", T_0), count(name, "T_mult", T_mult)
        self.eta_min = rate_of(name, "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        length, since = self.T_0, step
        if self.T_mult == 1:
            since %= length
        while since >= length:
            since -= length
            length *= self.T_mult
        return cosine(base, self.eta_min, since / length)


class CyclicLR(Schedule):
    """A triangle wave between `base_lr` and `max_lr`, whose height may shrink.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    base_lr, max_lr : float or sequence of float
        The least and the largest rate, or those of each group.
    step_size_up : int, default 2000
        The number of steps up.
    step_size_down : int, optional
        The number of steps down; as many as up where it is not given.
    mode : {"triangular", "triangular2", "exp_range"}, default "triangular"
        The height stays, is halved after each cycle, or is multiplied by `gamma` at each step.
    gamma : float, default 1.0
        The factor of "exp_range".
    scale_fn : callable, optional
        The height as a function of the number of cycles or steps, instead of `mode`.
    scale_mode : {"cycle", "iterations"}, default "cycle"
        What `scale_fn` gets: the number of the cycle from 1 on, or that of steps.
    cycle_momentum : bool, default False
        PyTorch also varies the momentum, and by default; here only False is possible.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If an argument is out of range.

    References
    ----------
    Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])])
    >>> schedule = ndl.optim.CyclicLR(optimizer, 0.0, 1.0, step_size_up=2)
    >>> [schedule.rate(step, base=1.0) for step in range(6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.low = each_group("CyclicLR", "base_lr", base_lr, optimizer)
        self.high = each_group("CyclicLR", "max_lr", max_lr, optimizer)
        self.up = count("CyclicLR", "step_size_up", step_size_up)
        self.down = (
            self.up
            if step_size_down is None
            else count("CyclicLR", "step_size_down", step_size_down)
        )
        self.gamma = rate_of("CyclicLR", "gamma", gamma)
        refuse_cycled_momentum("CyclicLR", cycle_momentum)
        if mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(
                f"[CyclicLR] mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            )
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(
                f"[CyclicLR] scale_mode must be 'cycle' or 'iterations', got {scale_mode!r}"
            )
        self.mode, self.scale_fn, self.scale_mode = mode, scale_fn, scale_mode
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return self._between(self.low[0], self.high[0], step)

    def _rates(self, step: int) -> list[float]:
        return [
            self._between(of_group(self.low, i), of_group(self.high, i), step)
            for i in range(len(self.base_lrs))
        ]

    def _between(self, low: float, high: float, step: int) -> float:
        cycle, at = divmod(step, self.up + self.down)
        height = at / self.up if at <= self.up else 1 - (at - self.up) / self.down
        return low + (high - low) * height * self._scale(cycle + 1, step)

    def _scale(self, cycle: int, step: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else step)
        if self.mode == "triangular2":
            return 0.5 ** (cycle - 1)
        return self.gamma**step if self.mode == "exp_range" else 1.0
