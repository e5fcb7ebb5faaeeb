"""Adadelta: steps in the units of the parameters."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from ._update import decayed
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable


class Adadelta(Optimizer):
    """Adadelta: gradients divided by their running size, times that of the updates.

    v = rho·v + (1 - rho)·g²; d = √(u + eps) / √(v + eps)·g; u = rho·u + (1 - rho)·d²; p = p - lr·d.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 1.0
        The learning rate.
    rho : float, default 0.9
        The decay of both averages, in [0, 1).
    eps : float, default 1e-6
        Added to both averages.
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
    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Adadelta([w])
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.997
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "rho": "[0, 1)",
        "eps": "[0, inf)",
        "weight_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
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
            rho=rho,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        rho, eps = group["rho"], group["eps"]
        params, grads = decayed(batch, group)
        vs, us = batch.moments("square_average"), batch.moments("update_average")
        vs = [rho * v + (1 - rho) * (g * g) for v, g in zip(vs, grads, strict=True)]
        steps = [
            (u + eps).sqrt() / (v + eps).sqrt() * g for u, v, g in zip(us, vs, grads, strict=True)
        ]
        us = [rho * u + (1 - rho) * (d * d) for u, d in zip(us, steps, strict=True)]
        batch.set_moments("square_average", vs)
        batch.set_moments("update_average", us)
        return [p - group["lr"] * d for p, d in zip(params, steps, strict=True)]
