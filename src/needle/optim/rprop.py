"""Rprop: a step of its own for each number."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray, where
from ._update import sign
from .optimizer import Batch, Group, Optimizer, Params, refuse_differentiable


class Rprop(Optimizer):
    """Rprop: steps that grow while the sign of the gradient stays and shrink when it turns.

    A step size is multiplied by etas[1] or etas[0] and clipped to `step_sizes`;
    p = p - size·sign(g). Where the sign turned there is no step. For gradients of the whole data.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The first size of the steps.
    etas : pair of float, default (0.5, 1.2)
        The factors of shrinking and growing steps.
    step_sizes : pair of float, default (1e-6, 50)
        The smallest and the largest size.
    maximize : bool, default False
        Whether to go up the gradient instead of down.
    foreach, capturable, differentiable : bool, optional
        PyTorch's hints about its implementations; they change nothing. `differentiable=True` is a
        ValueError.

    Raises
    ------
    TypeError
        If a parameter is not a floating-point Tensor or a hyperparameter is not a number.
    ValueError
        If a hyperparameter is out of range or there are no parameters.

    References
    ----------
    Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
    Algorithm", 1993.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Rprop([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
    }

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse_differentiable(type(self).__name__, differentiable)
        super().__init__(
            params,
            lr=lr,
            etas=tuple(etas),
            step_sizes=tuple(step_sizes),
            first_size=None,
            maximize=maximize,
        )

    def _checked(self, options: Group) -> Group:
        checked = super()._checked(options)
        shrink, grow = checked["etas"]
        if not 0 < shrink < 1 < grow:
            raise ValueError(f"[Rprop] etas must lie below and above 1, got {(shrink, grow)}")
        if checked["first_size"] is None:
            checked["first_size"] = checked["lr"]
        return checked

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        sizes = batch.moments("step_size", group["first_size"])
        before = batch.moments("gradient")
        shrink, grow = group["etas"]
        smallest, largest = group["step_sizes"]
        params, kept = [], []
        for i, (p, g) in enumerate(zip(batch.data, batch.grads, strict=True)):
            turn = g * before[i]
            turned, stayed = (turn.compare(op, 0).astype(g.dtype) for op in ("lt", "gt"))
            factor = 1 + (shrink - 1) * turned + (grow - 1) * stayed
            sizes[i] = (sizes[i] * factor).clip(smallest, largest)
            kept.append(where(turn.compare("lt", 0), g * 0, g))
            params.append(p - sizes[i] * sign(kept[i]))
        batch.set_moments("step_size", sizes)
        batch.set_moments("gradient", kept)
        return params
