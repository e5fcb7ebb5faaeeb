"""Muon: orthogonal steps for matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from ..autograd import Tensor
from ..backend_ndarray import NDArray
from ..typing import Shape
from ._update import decayed
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter, refuse_differentiable

QUINTIC = (3.4445, -4.775, 2.0315)  # brings singular values to about 1 the fastest


class Muon(Optimizer):
    """Muon: momentum whose matrix is made orthogonal before the step.

    u = momentum·u + (1 - momentum)·g, or with `nesterov` one step further; O is the orthogonal
    matrix near u, by Newton-Schulz iterations; p = p·(1 - lr·weight_decay) - lr·scale·O.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        The parameters. A dict holds "params" and hyperparameters for these alone, as in PyTorch.
    lr : float, default 1e-3
        The learning rate.
    weight_decay : float, default 0.1
        The part of a parameter that a learning rate of 1 would take away.
    momentum : float, default 0.95
        The decay of the average of the gradient, in [0, 1).
    nesterov : bool, default True
        Whether to use Nesterov momentum.
    ns_coefficients : triple of float, default (3.4445, -4.775, 2.0315)
        The quintic polynomial of the iteration.
    eps : float, default 1e-7
        The least norm that a matrix is divided by.
    ns_steps : int, default 5
        The number of iterations.
    adjust_lr_fn : {"original", "match_rms_adamw"}, optional
        The scale: √max(1, outputs / inputs) of a weight (inputs, outputs), the default, or 0.2·√n
        of the larger side n, which makes steps as large as AdamW's.
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
    Jordan et al., "Muon: An Optimizer for Hidden Layers in Neural Networks", 2024.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([[3.0, 0.0], [0.0, 5.0]])
    >>> optimizer = ndl.optim.Muon([w], lr=0.1, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> bool(abs(w.numpy()[0, 1]) < 1e-6)
    True
    """

    _ranges: ClassVar = {
        "lr": "[0, inf)",
        "weight_decay": "[0, inf)",
        "momentum": "[0, 1)",
        "eps": "[0, inf)",
    }
    weight_decay = hyperparameter("weight_decay")
    momentum = hyperparameter("momentum")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = QUINTIC,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        refuse_differentiable(type(self).__name__, differentiable)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                "[Muon] adjust_lr_fn must be None, 'original' or 'match_rms_adamw', "
                f"got {adjust_lr_fn!r}"
            )
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            maximize=maximize,
        )

    def _checked(self, options: Group) -> Group:
        check_matrices("Muon", options.get("params", ()))
        return super()._checked(options)

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        return orthogonal_steps(batch, group)


def check_matrices(owner: str, params: Iterable[object]) -> None:
    """Raise ValueError for a parameter that is no matrix."""
    for p in params:
        if isinstance(p, Tensor) and p.ndim != 2:
            raise ValueError(
                f"[{owner}] parameters must be matrices, got shape {p.shape}; "
                "leave biases, norms and embeddings to AdamW"
            )


def orthogonal_steps(batch: Batch, group: Group) -> list[NDArray]:
    """The new data of matrices after a step of Muon."""
    lr, momentum = group["lr"], group["momentum"]
    params, grads = decayed(batch, group, decoupled=True)
    us = batch.moments("momentum")
    us = [momentum * u + (1 - momentum) * g for u, g in zip(us, grads, strict=True)]
    batch.set_moments("momentum", us)
    if group["nesterov"]:
        us = [momentum * u + (1 - momentum) * g for u, g in zip(us, grads, strict=True)]
    return [
        p - lr * _scale(p.shape, group["adjust_lr_fn"]) * _orthogonal(u, group)
        for p, u in zip(params, us, strict=True)
    ]


def _scale(shape: Shape, rule: str | None) -> float:
    inputs, outputs = shape
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(shape))
    return math.sqrt(max(1.0, outputs / inputs))


def _orthogonal(x: NDArray, group: Group) -> NDArray:
    """The iteration x = a·x + (b·x·xᵀ + c·(x·xᵀ)²)·x, which brings all singular values near 1."""
    a, b, c = group["ns_coefficients"]
    is_tall = x.shape[0] > x.shape[1]
    if is_tall:
        x = x.permute((1, 0))
    norm = (x * x).sum().sqrt().maximum(group["eps"])
    x = x / norm
    for _ in range(group["ns_steps"]):
        gram = x @ x.permute((1, 0))
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.permute((1, 0)).compact() if is_tall else x
