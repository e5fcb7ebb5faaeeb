"""Schedules that come back: warm restarts and cycles of the rate and the momentum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from ..synonyms import accepts_synonyms
from .optimizer import Optimizer
from .schedule import Schedule, cosine, count, each_group, line, of_group, rate_of


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


class _Cycle(Schedule):
    """A schedule whose momentum falls where the rate rises, between two values.

    The momentum is the optimizer's `beta1` where it has one, and else its `momentum`. A subclass
    calls `_cycle_between` first and defines `_height(step)`, the part of the way down to the least
    momentum.
    """

    _momentum_ends: tuple[list[float], list[float]] | None = None

    def _cycle_between(
        self,
        optimizer: Optimizer,
        base_momentum: float | Sequence[float],
        max_momentum: float | Sequence[float],
    ) -> None:
        name = type(self).__name__
        low = each_group(name, "base_momentum", base_momentum, optimizer)
        high = each_group(name, "max_momentum", max_momentum, optimizer)
        for argument, values in (("base_momentum", low), ("max_momentum", high)):
            if max(values) >= 1:
                raise ValueError(f"[{name}] {argument} must be in [0, 1), got {max(values)}")
        if isinstance(optimizer, Optimizer):  # `Schedule` tells what else came
            optimizer._vary_momentum(name)
        self._momentum_ends = low, high

    def _height(self, step: int) -> float:
        raise NotImplementedError

    def _momenta(self, step: int) -> list[float] | None:
        if self._momentum_ends is None:
            return None
        (low, high), height = self._momentum_ends, self._height(step)
        return [
            line(of_group(high, i), of_group(low, i), height) for i in range(len(self.base_lrs))
        ]


class CyclicLR(_Cycle):
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
    cycle_momentum : bool, default True
        Whether the momentum, or Adam's first decay, moves against the rate.
    base_momentum, max_momentum : float or sequence of float, default 0.8 and 0.9
        The momentum at the largest rate and at the least, or those of each group.
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
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], momentum=0.9)
    >>> schedule = ndl.optim.CyclicLR(optimizer, 0.0, 1.0, step_size_up=2)
    >>> [schedule.rate(step, base=1.0) for step in range(6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    >>> schedule.step(); round(optimizer.momentum, 2)
    0.85
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
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
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
        if cycle_momentum:
            self._cycle_between(optimizer, base_momentum, max_momentum)
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
        return line(self.low[0], self.high[0], self._height(step))

    def _rates(self, step: int) -> list[float]:
        height = self._height(step)
        return [
            line(of_group(self.low, i), of_group(self.high, i), height)
            for i in range(len(self.base_lrs))
        ]

    def _height(self, step: int) -> float:
        cycle, at = divmod(step, self.up + self.down)
        height = at / self.up if at <= self.up else 1 - (at - self.up) / self.down
        return height * self._scale(cycle + 1, step)

    def _scale(self, cycle: int, step: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else step)
        if self.mode == "triangular2":
            return 0.5 ** (cycle - 1)
        return self.gamma**step if self.mode == "exp_range" else 1.0


class OneCycleLR(_Cycle):
    """One cycle: the rate rises to `max_lr` and then falls far below where it began.

    It begins at max_lr / div_factor and ends at that rate / final_div_factor, where it stays. With
    `three_phase` it comes down to where it began as fast as it rose, and then falls to the end.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    max_lr : float or sequence of float
        The largest rate, or that of each group.
    total_steps : int, optional
        The number of steps of the cycle; epochs · steps_per_epoch where it is not given.
    epochs, steps_per_epoch : int, optional
        The number of epochs, and of steps in each.
    pct_start : float, default 0.3
        The part of the steps that goes up, in [0, 1].
    anneal : {"cos", "linear"}, default "cos"
        Whether the rate follows half a cosine each way, or straight lines. `anneal_strategy` is
        another name of this argument.
    cycle_momentum : bool, default True
        Whether the momentum, or Adam's first decay, falls while the rate rises and comes back.
    base_momentum, max_momentum : float or sequence of float, default 0.85 and 0.95
        The momentum at the largest rate and at both ends, or those of each group.
    div_factor : float, default 25.0
        `max_lr` divided by the first rate.
    final_div_factor : float, default 1e4
        The first rate divided by the last.
    three_phase : bool, default False
        Whether the way down has two phases.
    last_epoch : int, default -1
        The number of the last step of a run that goes on.

    Raises
    ------
    TypeError
        If `total_steps` is not an integer.
    ValueError
        If an argument is out of range.

    References
    ----------
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates", 2018.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])])
    >>> cycle = ndl.optim.OneCycleLR(optimizer, 1.0, total_steps=5, pct_start=0.6, anneal="linear")
    >>> [round(cycle.rate(step, base=1.0), 3) for step in range(5)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """

    @accepts_synonyms
    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.max_lrs = each_group("OneCycleLR", "max_lr", max_lr, optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("[OneCycleLR] needs total_steps, or epochs and steps_per_epoch")
            total_steps = count("OneCycleLR", "epochs", epochs) * count(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch
            )
        self.total_steps = count("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"[OneCycleLR] pct_start must be in [0, 1], got {pct_start}")
        if not (div_factor > 0 and final_div_factor > 0):
            raise ValueError(
                f"[OneCycleLR] div_factor and final_div_factor must be positive, "
                f"got {div_factor} and {final_div_factor}"
            )
        if anneal not in ("cos", "linear"):
            raise ValueError(f"[OneCycleLR] anneal must be 'cos' or 'linear', got {anneal!r}")
        if cycle_momentum:
            self._cycle_between(optimizer, base_momentum, max_momentum)
        self._between = cosine if anneal == "cos" else line
        # Each phase ends at a step, with a part of the largest rate and of the way down to the
        # least momentum.
        first, last, rise = 1 / div_factor, 1 / (div_factor * final_div_factor), pct_start
        self._ends = [0.0, rise * self.total_steps - 1, self.total_steps - 1]
        self._parts, self._heights = [first, 1.0, last], [0.0, 1.0, 0.0]
        if three_phase:
            self._ends.insert(2, 2 * rise * self.total_steps - 2)
            self._parts.insert(2, first)
            self._heights.insert(2, 0.0)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return self.max_lrs[0] * self._phased(self._parts, step)

    def _rates(self, step: int) -> list[float]:
        part = self._phased(self._parts, step)
        return [of_group(self.max_lrs, i) * part for i in range(len(self.base_lrs))]

    def _height(self, step: int) -> float:
        return self._phased(self._heights, step)

    def _phased(self, values: list[float], step: int) -> float:
        """At a step, what has these values at the ends of the phases."""
        phases = list(zip(self._ends, values, strict=True))
        for (start, before), (end, after) in pairwise(phases):
            if step <= end and end > start:
                return self._between(before, after, (step - start) / (end - start))
        return values[-1]
