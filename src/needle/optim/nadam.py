"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

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


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov momentum, whose factor rises with the steps.

    μ = beta1·(1 - 0.96^(step·momentum_decay) / 2); m and v are Adam's averages; p = p -
    lr·((1 - μ)·g / (1 - Πμ) + μ'·m / (1 - Πμ·μ')) / (√v + eps), μ' being the next step's.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 2e-3
        The learning rate.
    betas : pair of float, default (0.9, 0.999)
        The decays of the averages of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    momentum_decay : float, default 4e-3
        How fast the momentum rises to beta1.
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
    Dozat, "Incorporating Nesterov Momentum into Adam", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.NAdam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.736
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "beta1": "[0, 1)",
        "beta2": "[0, 1)",
        "eps": "[0, inf)",
        "weight_decay": "[0, inf)",
        "momentum_decay": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
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
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    def _momentum_option(self) -> None:
        """The products of NAdam's momenta are those of one beta1, which no schedule may change."""

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr, beta1, beta2, eps = group["lr"], group["beta1"], group["beta2"], group["eps"]
        params, grads = decayed(batch, group, group["decoupled_weight_decay"])
        ms, vs = averages(batch, grads, beta1, beta2)
        schedule = _Momenta(beta1, group["momentum_decay"])
        of_gradient = of_host(schedule.of_gradient, batch.step) * lr
        of_momentum = of_host(schedule.of_momentum, batch.step) * lr
        unbias = 1 / (1 - beta2**batch.step)
        return [
            p - (of_gradient * g + of_momentum * m) / ((v * unbias).sqrt() + eps)
            for p, g, m, v in zip(params, grads, ms, vs, strict=True)
        ]


class _Momenta:
    """The factors of gradient and momentum at a step; products so far are kept, not recomputed."""

    _products: ClassVar[dict[tuple[float, float], list[float]]] = {}

    def __init__(self, beta1: float, decay: float) -> None:
        self.beta1, self.decay = beta1, decay

    def _momentum(self, step: int) -> float:
        momentum: float = self.beta1 * (1 - 0.5 * 0.96 ** (step * self.decay))
        return momentum

    def _product(self, step: int) -> float:
        """The product of the momenta of the steps 1 … step."""
        products = self._products.setdefault((self.beta1, self.decay), [1.0])
        while len(products) <= step:
            products.append(products[-1] * self._momentum(len(products)))
        return products[step]

    def of_gradient(self, step: float) -> float:
        return (1 - self._momentum(int(step))) / (1 - self._product(int(step)))

    def of_momentum(self, step: float) -> float:
        return self._momentum(int(step) + 1) / (1 - self._product(int(step) + 1))
