"""RAdam: Adam that waits until its second moment is known."""

from __future__ import annotations

import math
from typing import ClassVar

from ..backend_ndarray import NDArray
from ._update import averages, decayed
from .groups import beta_options
from .host_numbers import of_host
from .optimizer import (
    Batch,
    Group,
    Optimizer,
    Params,
    hyperparameter,
    refuse_differentiable,
)


class RAdam(Optimizer):
    """RAdam: Adam whose adaptive steps begin when the variance of the second moment is finite.

    ρ = 2 / (1 - beta2) - 1 - 2·step·beta2^step / (1 - beta2^step) says how many gradients the
    average v is worth. Up to 5 the step is lr·m; then it is lr·r·m / (√v + eps) with
    the correction r.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 1e-3
        The learning rate.
    betas : pair of float, default (0.9, 0.999)
        The decays of the averages of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    decoupled_weight_decay : bool, default False
        Whether the decay shrinks the parameters instead of adding to the gradients.
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
    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.RAdam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.5
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
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
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
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr, beta1, beta2, eps = group["lr"], group["beta1"], group["beta2"], group["eps"]
        params, grads = decayed(batch, group, group["decoupled_weight_decay"])
        ms, vs = averages(batch, grads, beta1, beta2)
        rate = lr / (1 - beta1**batch.step)
        adaptive = of_host(lambda step: _adaptive(step, beta2), batch.step)
        plain = of_host(lambda step: float(not _adaptive(step, beta2)), batch.step)
        return [
            p - rate * m * (adaptive / (v.sqrt() + eps) + plain)
            for p, m, v in zip(params, ms, vs, strict=True)
        ]


def _adaptive(step: float, beta2: float) -> float:
    """The correction r times √(1 - beta2^step); 0 while v is worth 5 gradients or less."""
    longest = 2 / (1 - beta2) - 1
    unbias = 1 - beta2**step
    length = longest - 2 * step * beta2**step / unbias
    if length <= 5:
        return 0.0
    above = (length - 4) * (length - 2) * longest
    below = (longest - 4) * (longest - 2) * length
    return math.sqrt(above / below * unbias)
