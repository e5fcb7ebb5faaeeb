"""ASGD: the average of the last parameters."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from ._update import decayed
from .host_numbers import of_host
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable


class ASGD(Optimizer):
    """ASGD: gradient descent that keeps the average of its parameters from step `t0` on.

    p = p·(1 - lambd·η) - η·g with η = lr / (1 + lambd·lr·(step - 1))^alpha. The state "average" of
    a parameter holds the average.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    lambd : float, default 1e-4
        The decay of the parameters.
    alpha : float, default 0.75
        The power of the decay of the learning rate.
    t0 : float, default 1e6
        The step at which averaging starts.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
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
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.ASGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.5
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "lambd": "[0, inf)",
        "alpha": "[0, inf)",
        "t0": "[0, inf)",
        "weight_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
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
            lambd=lambd,
            alpha=alpha,
            t0=t0,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lambd, alpha, t0 = group["lambd"], group["alpha"], group["t0"]
        params, grads = decayed(batch, group)
        averages = batch.moments("average")
        rate = of_host(
            lambda lr, step: lr / (1 + lambd * lr * (step - 1)) ** alpha, group["lr"], batch.step
        )
        part = of_host(lambda step: 1 / max(1.0, step - 1 - t0), batch.step)
        shrink = 1 - lambd * rate
        params = [p * shrink - rate * g for p, g in zip(params, grads, strict=True)]
        averages = [a + (p - a) * part for a, p in zip(averages, params, strict=True)]
        batch.set_moments("average", averages)
        return params
