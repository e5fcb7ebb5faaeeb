"""Adagrad: steps divided by the root of the sum of all squared gradients."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable


class Adagrad(Optimizer):
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    g = grad + weight_decay·p; s = s + g²; p = p - lr / (1 + (step - 1)·lr_decay)·g / (√s + eps).

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    lr_decay : float, default 0.0
        The decay of the learning rate with the number of steps.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    initial_accumulator_value : float, default 0.0
        The first value of s.
    eps : float, default 1e-10
        Added to the denominator.
    maximize : bool, default False
        Whether to go up the gradient instead of down.
    foreach, differentiable, fused : bool, optional
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
    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", 2011.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Adagrad([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "lr_decay": "[0, inf)",
        "weight_decay": "[0, inf)",
        "initial_accumulator_value": "[0, inf)",
        "eps": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        refuse_differentiable("Adagrad", differentiable)
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr = group["lr"] / (1 + (batch.step - 1) * group["lr_decay"])
        decay, eps = group["weight_decay"], group["eps"]
        params, grads = batch.data, batch.grads
        if decay:
            grads = [g + decay * p for p, g in zip(params, grads, strict=True)]
        sums = batch.moments("square_sum", group["initial_accumulator_value"])
        sums = [s + g * g for s, g in zip(sums, grads, strict=True)]
        batch.set_moments("square_sum", sums)
        return [p - lr * g / (s.sqrt() + eps) for p, g, s in zip(params, grads, sums, strict=True)]
