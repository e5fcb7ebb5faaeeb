"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

from typing import ClassVar

from ..backend_ndarray import NDArray
from .groups import beta_options
from .optimizer import (
    Batch,
    Group,
    Optimizer,
    Params,
    hyperparameter,
    refuse_differentiable,
)


class Adam(Optimizer):
    """Adam: steps scaled by bias-corrected running moments of the gradient.

    g = grad + weight_decay·p; m and v are the moving averages of g and g² with the factors beta1
    and beta2, divided by 1 - beta1^step and 1 - beta2^step; p = p - lr·m / (√v + eps).

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    beta1 : float, default 0.9
        The decay of the average of the gradient, in [0, 1).
    beta2 : float, default 0.999
        The decay of the average of the squared gradient, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        The factor of the L2 penalty.
    betas : pair of float, optional
        Both decays, as PyTorch has them; `beta1` may be the pair, too.
    amsgrad : bool, default False
        Whether the largest v so far stands for v (Reddi et al., 2018).
    maximize : bool, default False
        Whether to go up the gradient instead of down.
    foreach, capturable, differentiable, fused : bool, optional
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
    >>> optimizer = ndl.optim.Adam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.75
    """

    _decoupled = False
    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "beta1": "[0, 1)",
        "beta2": "[0, 1)",
        "eps": "[0, inf)",
        "weight_decay": "[0, inf)",
    }
    beta1 = hyperparameter("beta1")
    beta2 = hyperparameter("beta2")
    eps = hyperparameter("eps")
    weight_decay = hyperparameter("weight_decay")

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        beta1: float | tuple[float, float] = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        betas: tuple[float, float] | None = None,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        refuse_differentiable(type(self).__name__, differentiable)
        pair = betas if betas is not None else beta1
        decays = beta_options(pair) if pair is betas or isinstance(pair, (tuple, list)) else {}
        super().__init__(
            params,
            **{"lr": lr, "beta1": beta1, "beta2": beta2, **decays},
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        ms, vs = batch.moments("m"), batch.moments("v")
        fused = batch.fused("adam")
        if fused is None or group["amsgrad"]:
            return self._update_each(batch, group, ms, vs)
        outs = batch.outputs()
        fused(
            batch.data, batch.grads, ms, vs, outs, group["lr"], group["beta1"], group["beta2"],
            group["eps"], group["weight_decay"], batch.step, self._decoupled,
        )  # fmt: skip
        return outs

    def _update_each(
        self, batch: Batch, group: Group, ms: list[NDArray], vs: list[NDArray]
    ) -> list[NDArray]:
        lr, beta1, beta2, eps = group["lr"], group["beta1"], group["beta2"], group["eps"]
        decay, params, grads = group["weight_decay"], batch.data, batch.grads
        if decay and self._decoupled:
            params = [p * (1 - lr * decay) for p in params]
        elif decay:
            grads = [g + decay * p for p, g in zip(params, grads, strict=True)]
        ms = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
        vs = [beta2 * v + (1 - beta2) * (g * g) for v, g in zip(vs, grads, strict=True)]
        batch.set_moments("m", ms)
        batch.set_moments("v", vs)
        if group["amsgrad"]:
            vs = [old.maximum(v) for old, v in zip(batch.moments("v_max"), vs, strict=True)]
            batch.set_moments("v_max", vs)
        unbias_m, unbias_v = 1 / (1 - beta1**batch.step), 1 / (1 - beta2**batch.step)
        return [
            p - lr * (m * unbias_m) / ((v * unbias_v).sqrt() + eps)
            for p, m, v in zip(params, ms, vs, strict=True)
        ]


class AdamW(Adam):
    """Adam with decoupled weight decay: first p = p·(1 - lr·weight_decay), then Adam's step.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 0.01
        The learning rate.
    beta1 : float, default 0.9
        The decay of the average of the gradient, in [0, 1).
    beta2 : float, default 0.999
        The decay of the average of the squared gradient, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.01
        The part of a parameter that a learning rate of 1 would take away.
    betas : pair of float, optional
        Both decays, as PyTorch has them; `beta1` may be the pair, too.
    amsgrad : bool, default False
        Whether the largest v so far stands for v (Reddi et al., 2018).
    maximize : bool, default False
        Whether to go up the gradient instead of down.
    foreach, capturable, differentiable, fused : bool, optional
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
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.AdamW([w], lr=0.25, weight_decay=1.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 3)
    0.5
    """

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        beta1: float | tuple[float, float] = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        betas: tuple[float, float] | None = None,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, beta1, beta2, eps, weight_decay, betas=betas, amsgrad=amsgrad,
            maximize=maximize, differentiable=differentiable,
        )  # fmt: skip
