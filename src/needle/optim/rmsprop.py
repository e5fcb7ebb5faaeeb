"""RMSProp: steps divided by the running root mean square of the gradient."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from .host_numbers import is_used
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable


class RMSProp(Optimizer):
    """RMSProp: steps divided by the running root mean square of the gradient.

    g = grad + weight_decay·p; v = alpha·v + (1 - alpha)·g²; u = momentum·u + g / (√v + eps);
    p = p - lr·u, as in PyTorch.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    alpha : float, default 0.99
        The decay of the average of the squared gradient, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    momentum : float, default 0.0
        The factor of the previous update, in [0, 1).
    centered : bool, default False
        Whether v is the running variance, less the square of the running mean.
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
    Tieleman and Hinton, "Lecture 6.5 - RMSProp", Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.RMSProp([w], lr=0.25, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.5
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "alpha": "[0, 1)",
        "eps": "[0, inf)",
        "weight_decay": "[0, inf)",
        "momentum": "[0, 1)",
    }
    momentum = hyperparameter("momentum")
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse_differentiable("RMSprop", differentiable)
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr, alpha, eps = group["lr"], group["alpha"], group["eps"]
        decay, momentum = group["weight_decay"], group["momentum"]
        params, grads = batch.data, batch.grads
        if decay:
            grads = [g + decay * p for p, g in zip(params, grads, strict=True)]
        squares = batch.moments("square_average")
        squares = [alpha * v + (1 - alpha) * (g * g) for v, g in zip(squares, grads, strict=True)]
        batch.set_moments("square_average", squares)
        if group["centered"]:
            means = batch.moments("average")
            means = [alpha * a + (1 - alpha) * g for a, g in zip(means, grads, strict=True)]
            batch.set_moments("average", means)
            squares = [v - a * a for v, a in zip(squares, means, strict=True)]
        steps = [g / (v.sqrt() + eps) for v, g in zip(squares, grads, strict=True)]
        if is_used(momentum):
            momenta = batch.moments("momentum")
            steps = [momentum * u + s for u, s in zip(momenta, steps, strict=True)]
            batch.set_moments("momentum", steps)
        return [p - lr * s for p, s in zip(params, steps, strict=True)]


RMSprop = RMSProp  # PyTorch's spelling
