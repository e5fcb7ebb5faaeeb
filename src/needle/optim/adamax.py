"""Adamax: Adam with the infinity norm."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from ._update import decayed
from .groups import beta_options
from .optimizer import (
    Batch,
    Group,
    Optimizer,
    Params,
    hyperparameter,
    refuse_differentiable,
)


class Adamax(Optimizer):
    """Adamax: Adam whose second moment is a decaying maximum.

    m is Adam's average of the gradient; u = max(beta2·u, |g| + eps);
    p = p - lr / (1 - beta1^step)·m / u.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 2e-3
        The learning rate.
    betas : pair of float, default (0.9, 0.999)
        The decays of the averages of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to |g|.
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
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Adamax([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "beta1": "[0, 1)",
        "beta2": "[0, 1)",
        "eps": "[0, inf)",
        "weight_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
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
            **beta_options(betas),
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        beta1, beta2, eps = group["beta1"], group["beta2"], group["eps"]
        params, grads = decayed(batch, group)
        ms, us = batch.moments("m"), batch.moments("u")
        ms = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
        us = [(beta2 * u).maximum(abs(g) + eps) for u, g in zip(us, grads, strict=True)]
        batch.set_moments("m", ms)
        batch.set_moments("u", us)
        rate = group["lr"] / (1 - beta1**batch.step)
        return [p - rate * m / u for p, m, u in zip(params, ms, us, strict=True)]
