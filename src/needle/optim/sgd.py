"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ..autograd import Tensor, unwatched
from ..backend_ndarray import NDArray
from .clip import clip_grad_norm
from .host_numbers import is_used, of_host
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable

MOMENTUM = (
    "[SGD] the momentum is a moving average, u = momentum·u + (1 - momentum)·g: pass "
    "dampening=0.0 for PyTorch's u = momentum·u + g, or call reset_grad() instead of zero_grad() "
    "if the average is meant"
)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    g = grad + weight_decay·p; u = momentum·u + (1 - dampening)·g; p = p - lr·u. With `nesterov`,
    p = p - lr·(g + momentum·u).

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    momentum : float, default 0.0
        The factor of the previous update, in [0, 1).
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    dampening : float, optional
        Takes its part away from the gradient, in [0, 1], but for the first one. None stands for
        the value of `momentum`, for all gradients, so that u is a moving average, and for 0 with
        `nesterov`; PyTorch's default is 0.
    nesterov : bool, default False
        Whether to use Nesterov momentum; needs a positive momentum and no dampening.
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
    Sutskever et al., "On the Importance of Initialization and Momentum in Deep Learning", 2013.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0, 2.0])
    >>> optimizer = ndl.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    needle.Tensor([0.5 1. ])
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "momentum": "[0, 1)",
        "weight_decay": "[0, inf)",
    }
    momentum = hyperparameter("momentum")
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        dampening: float | None = None,
        nesterov: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        refuse_differentiable("SGD", differentiable)
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            dampening=dampening,
            nesterov=nesterov,
            maximize=maximize,
        )

    def _checked(self, options: Group) -> Group:
        checked = super()._checked(options)
        dampening = checked["dampening"]
        if dampening is not None and not 0 <= dampening <= 1:
            raise ValueError(f"[SGD] dampening must be in [0, 1], got {dampening}")
        if checked["nesterov"] and (not checked["momentum"] or dampening):
            raise ValueError(
                f"[SGD] nesterov needs a positive momentum and no dampening, got momentum="
                f"{checked['momentum']} and dampening={dampening}"
            )
        return checked

    def _differences(self) -> Iterator[tuple[str, str]]:
        yield from super()._differences()
        for group in unwatched(self, "param_groups"):
            if group["momentum"] and group["dampening"] is None and not group["nesterov"]:
                yield "momentum", MOMENTUM

    def clip_grad_norm(self, max_norm: float = 0.25) -> float | Tensor:
        """Scale all gradients so that their common norm is at most `max_norm`.

        Returns the norm before; see `needle.optim.clip_grad_norm`.
        """
        return clip_grad_norm(self.params, max_norm)

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        nesterov, dampening = group["nesterov"], group["dampening"]
        if dampening is None:
            dampening = 0.0 if nesterov else momentum
        elif dampening:  # PyTorch's momentum begins with the first gradient as it is
            part = dampening
            dampening = of_host(lambda step: part if step > 1 else 0.0, batch.step)
        momenta = batch.moments("momentum") if is_used(momentum) else []
        fused = batch.fused("sgd")
        if fused is not None:
            outs = batch.outputs()
            fused(batch.data, batch.grads, momenta, outs, lr, momentum, decay, dampening, nesterov)
            return outs
        grads = [
            g + decay * p if decay else g for p, g in zip(batch.data, batch.grads, strict=True)
        ]
        steps = grads
        if is_used(momentum):
            steps = [
                momentum * u + (1 - dampening) * g for u, g in zip(momenta, grads, strict=True)
            ]
            batch.set_moments("momentum", steps)
            if nesterov:
                steps = [g + momentum * u for u, g in zip(steps, grads, strict=True)]
        return [p - lr * u for p, u in zip(batch.data, steps, strict=True)]
