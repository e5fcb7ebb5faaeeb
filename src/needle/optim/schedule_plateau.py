"""ReduceLROnPlateau: a lower rate where a measure no longer improves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import autograd
from ..autograd import Tensor
from .optimizer import Optimizer, Saved, State
from .schedule import count, each_group, of_group, rate_of


@autograd.watched
class ReduceLROnPlateau:
    """Multiply the rate by `factor` after `patience` steps in which a measure got no better.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer whose learning rates are set.
    mode : {"min", "max"}, default "min"
        Whether the measure should fall, as a loss, or rise, as an accuracy.
    factor : float, default 0.1
        The factor, in [0, 1).
    patience : int, default 10
        The number of steps without improvement that are tolerated.
    threshold : float, default 1e-4
        By how much the measure must be better to count.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether `threshold` is a part of the best measure or a difference.
    cooldown : int, default 0
        The number of steps after a reduction that do not count.
    min_lr : float or sequence of float, default 0.0
        The least rate, or that of each group.
    eps : float, default 1e-8
        A smaller change of the rate is not made.

    Attributes
    ----------
    best : float
        The best measure so far.
    num_bad_epochs : int
        The number of steps since then that count.

    Raises
    ------
    TypeError
        If `optimizer` is not an Optimizer or a number has the wrong type.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> optimizer = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ndl.optim.ReduceLROnPlateau(optimizer, patience=0)
    >>> for loss in (3.0, 2.0, 2.0): schedule.step(loss)
    >>> optimizer.lr
    0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"[{name}] optimizer must be an Optimizer, got {type(optimizer).__name__}"
            )
        if not 0 <= factor < 1:
            raise ValueError(f"[{name}] factor must be in [0, 1), got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"[{name}] mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"[{name}] threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        self.optimizer, self.mode, self.factor = optimizer, mode, float(factor)
        self.patience = count(name, "patience", patience, least=0)
        self.cooldown = count(name, "cooldown", cooldown, least=0)
        self.threshold = rate_of(name, "threshold", threshold)
        self.threshold_mode = threshold_mode
        self.min_lrs = each_group(name, "min_lr", min_lr, optimizer)
        self.eps = rate_of(name, "eps", eps)
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0

    def step(self, metrics: float | Tensor) -> None:
        """Take note of a measure, and reduce the rates if it is time to.

        Parameters
        ----------
        metrics : float or Tensor
            The measure, such as the mean loss of an epoch.
        """
        trace = autograd.current_trace()
        if trace is not None and not trace.has_made(self):
            raise autograd.Untraceable(
                "[ReduceLROnPlateau] a measure has no value in a function that is being compiled: "
                "call step outside of it, as after each epoch"
            )
        measure = float(metrics)
        self.last_epoch += 1
        if self._is_better(measure):
            self.best, self.num_bad_epochs = measure, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, measure: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            return sign * measure > sign * self.best + self.threshold
        return sign * measure > sign * self.best * (1 + sign * self.threshold)

    def _reduce(self) -> None:
        for i, group in enumerate(self.optimizer.param_groups):
            rate = max(group["lr"] * self.factor, of_group(self.min_lrs, i))
            if group["lr"] - rate > self.eps:
                group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> State:
        """Return what `load_state_dict` needs to continue."""
        names = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Saved) -> None:
        """Continue from a `state_dict`; the rates are in that of the optimizer."""
        self.best = float(state["best"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
        self.last_epoch = int(state["last_epoch"])
