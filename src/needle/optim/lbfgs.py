"""L-BFGS: a quasi-Newton method that keeps some last steps, with a line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .. import autograd
from ..autograd import Tensor, enable_grad, no_grad
from .line_search import Vector, strong_wolfe
from .optimizer import Optimizer, Params, Saved, State

Closure = Callable[[], Tensor]


@dataclass
class _Memory:
    """What one call of `step` leaves for the next."""

    direction: Vector | None = None
    rate: float = 0.0
    steps: list[Vector] = field(default_factory=list)  # s: changes of the parameters
    changes: list[Vector] = field(default_factory=list)  # y: changes of the gradient
    scale: float = 1.0  # of the first inverse Hessian, a multiple of the identity
    gradient: Vector | None = None
    iterations: int = 0


class LBFGS(Optimizer):
    """L-BFGS: steps along the inverse Hessian that the last steps suggest.

    `step(closure)` runs up to `max_iter` iterations and calls the closure many times: it clears the
    gradients, computes the loss, calls `backward` and returns the loss. Directions are computed on
    the host in float64. For small problems on all data at once.

    Parameters
    ----------
    params : iterable of Tensor
        The parameters, in one group.
    lr : float, default 1.0
        The length of a step, or of the line search's first one.
    max_iter : int, default 20
        The number of iterations of a call of `step`.
    max_eval : int, optional
        The number of calls of the closure in a call of `step`; 1.25·max_iter where it is not given.
    tolerance_grad : float, default 1e-7
        Iterations end where no number of the gradient is larger.
    tolerance_change : float, default 1e-9
        Iterations end where parameters or loss change less.
    history_size : int, default 100
        The number of steps that are kept.
    line_search_fn : {"strong_wolfe"}, optional
        The line search; without one every step has the length `lr`.

    Raises
    ------
    TypeError
        If a parameter is not a floating-point Tensor or a number has the wrong type.
    ValueError
        If there are several groups or an option is unknown.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization", 2006, chapters 3 and 7.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([3.0])
    >>> optimizer = ndl.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad(); loss = ((w - 1) ** 2).sum(); loss.backward(); return loss
    >>> loss = optimizer.step(closure); round(w.item(), 3)
    1.0
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "max_iter": "[1, inf)",
        "max_eval": "[1, inf)",
        "tolerance_grad": "[0, inf)",
        "tolerance_change": "[0, inf)",
        "history_size": "[1, inf)",
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(
                f"[LBFGS] line_search_fn must be None or 'strong_wolfe', got {line_search_fn!r}"
            )
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )
        if len(self.param_groups) > 1:
            raise ValueError("[LBFGS] takes one parameter group")
        self._memory = _Memory()

    def step(self, closure: Closure | None = None) -> Tensor:
        """Run up to `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Clears the gradients, computes the loss, calls `backward` and returns the loss.

        Returns
        -------
        Tensor
            The loss before the first iteration.
        """
        if autograd.current_trace() is not None:
            raise autograd.Untraceable(
                "[LBFGS] decides by values of the loss, which a function that is being compiled "
                "does not have: compile the closure instead of the step"
            )
        if closure is None:
            raise TypeError("[LBFGS] step needs a closure that computes the loss")
        group, memory = self.param_groups[0], self._memory
        with enable_grad():
            first = closure()
        loss, gradient = float(first), self._flat_gradient()
        calls = 1
        if np.abs(gradient).max() <= group["tolerance_grad"]:
            return first
        for iteration in range(1, int(group["max_iter"]) + 1):
            memory.iterations += 1
            self._turn(gradient)
            assert memory.direction is not None
            previous_loss, memory.gradient = loss, gradient
            slope = float(gradient @ memory.direction)
            rate = group["lr"]
            if memory.iterations == 1:
                rate *= min(1.0, 1.0 / float(np.abs(gradient).sum()))
            memory.rate = rate
            if slope > -group["tolerance_change"]:
                break
            used = 0
            if group["line_search_fn"] is not None:
                loss, gradient, memory.rate, used = self._search(
                    closure, rate, loss, gradient, slope
                )
            else:
                self._set(self._flat() + rate * memory.direction)
                if iteration < group["max_iter"]:
                    with enable_grad():
                        loss, gradient = float(closure()), self._flat_gradient()
                    used = 1
            calls += used
            moved = float(np.abs(memory.rate * memory.direction).max())
            if (
                calls >= group["max_eval"]
                or np.abs(gradient).max() <= group["tolerance_grad"]
                or moved <= group["tolerance_change"]
                or abs(loss - previous_loss) < group["tolerance_change"]
            ):
                break
        return first

    def _search(
        self, closure: Closure, rate: float, loss: float, gradient: Vector, slope: float
    ) -> tuple[float, Vector, float, int]:
        """Go along the direction as far as the line search says."""
        start, direction = self._flat(), self._memory.direction
        assert direction is not None

        def at(t: float) -> tuple[float, Vector]:
            self._set(start + t * direction)
            with enable_grad():
                return float(closure()), self._flat_gradient()

        change = self.param_groups[0]["tolerance_change"]
        found = strong_wolfe(at, rate, direction, loss, gradient, slope, tolerance_change=change)
        self._set(start + found[2] * direction)
        return found

    def _turn(self, gradient: Vector) -> None:
        """The next direction: minus the inverse Hessian times the gradient (two-loop recursion)."""
        memory = self._memory
        if memory.direction is None or memory.gradient is None:
            memory.direction = -gradient
            return
        change, step = gradient - memory.gradient, memory.direction * memory.rate
        curvature = float(change @ step)
        if curvature > 1e-10:
            if len(memory.steps) == int(self.param_groups[0]["history_size"]):
                del memory.steps[0], memory.changes[0]
            memory.steps.append(step)
            memory.changes.append(change)
            memory.scale = curvature / float(change @ change)
        pairs = list(zip(memory.steps, memory.changes, strict=True))
        q, parts = -gradient, []
        for s, y in reversed(pairs):
            parts.append(float(s @ q) / float(y @ s))
            q = q - parts[-1] * y
        q = q * memory.scale
        for (s, y), part in zip(pairs, reversed(parts), strict=True):
            q = q + s * (part - float(y @ q) / float(y @ s))
        memory.direction = q

    # ---- parameters as one vector -----------------------------------------------------------

    def _flat(self) -> Vector:
        return np.concatenate([p.numpy().astype("float64").ravel() for p in self.params])

    def _flat_gradient(self) -> Vector:
        return np.concatenate(
            [
                np.zeros(p.size) if p.grad is None else p.grad.numpy().astype("float64").ravel()
                for p in self.params
            ]
        )

    def _set(self, values: Vector) -> None:
        start = 0
        with no_grad():
            for p in self.params:
                part = values[start : start + p.size].reshape(p.shape)
                p.data = Tensor(part, device=p.device, dtype=p.dtype, requires_grad=False)
                start += p.size

    # ---- saving -----------------------------------------------------------------------------

    def state_dict(self) -> State:
        """What training needs to go on; "memory" holds the steps that are kept."""
        return {**super().state_dict(), "memory": dict(vars(self._memory))}

    def load_state_dict(self, state_dict: Saved) -> None:
        """Go on from a `state_dict`."""
        super().load_state_dict(state_dict)
        memory = dict(state_dict["memory"])
        for name in ("steps", "changes"):
            memory[name] = list(memory[name])
        self._memory = _Memory(**memory)
