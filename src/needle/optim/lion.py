"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from ._update import decayed, sign
from .groups import beta_options
from .optimizer import (
    Batch,
    Group,
    Optimizer,
    Params,
    hyperparameter,
    refuse_differentiable,
)


class Lion(Optimizer):
    """Lion: steps of one size, along the sign of an average of the gradient.

    c = beta1·m + (1 - beta1)·g; p = p·(1 - lr·weight_decay) - lr·sign(c);
    m = beta2·m + (1 - beta2)·g.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 1e-4
        The learning rate; a third to a tenth of Adam's.
    betas : pair of float, default (0.9, 0.99)
        The decays of the step's average and of the momentum, in [0, 1).
    weight_decay : float, default 0.0
        The part of a parameter that a learning rate of 1 would take away.
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
    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.Lion([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "beta1": "[0, 1)",
        "beta2": "[0, 1)",
        "weight_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
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
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
        params, grads = decayed(batch, group, decoupled=True)
        ms = batch.moments("m")
        steps = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
        batch.set_moments(
            "m", [beta2 * m + (1 - beta2) * g for m, g in zip(ms, grads, strict=True)]
        )
        return [p - lr * sign(step) for p, step in zip(params, steps, strict=True)]
