"""Muon for matrices and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from typing import ClassVar

from ..autograd import Tensor
from ..backend_ndarray import NDArray
from ..nn import Linear, Module
from .adam import AdamW
from .muon import QUINTIC, check_matrices, orthogonal_steps
from .optimizer import Batch, Group, Optimizer, Params, hyperparameter


class MuonWithAdamW(AdamW):
    """Muon for the groups with `"muon": True`, AdamW for the others.

    Muon's steps are scaled to be as large as AdamW's, so that both take the same learning rate and
    weight decay. `muon_groups(model)` makes the groups of a model.

    Parameters
    ----------
    params : iterable of dict or of Tensor
        The groups; `"muon"` is False where a group does not say. Without groups everything is
        AdamW's.
    lr : float, default 1e-2
        The learning rate.
    weight_decay : float, default 0.1
        The part of a parameter that a learning rate of 1 would take away.
    momentum : float, default 0.95
        Muon's, with Nesterov's look ahead, in [0, 1).
    beta1, beta2 : float, default 0.9 and 0.999
        AdamW's decays, in [0, 1).
    eps : float, default 1e-8
        Added to AdamW's denominator, and the least norm that Muon divides by.

    Raises
    ------
    TypeError
        If a parameter is not a floating-point Tensor or a hyperparameter is not a number.
    ValueError
        If a hyperparameter is out of range, there are no parameters, or Muon gets one that is no
        matrix.

    References
    ----------
    Jordan et al., "Muon: An Optimizer for Hidden Layers in Neural Networks", 2024.
    Liu et al., "Muon is Scalable for LLM Training", 2025 (the scale of the steps).

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.Linear(3, 5)
    >>> optimizer = ndl.optim.MuonWithAdamW(ndl.optim.muon_groups(layer), lr=0.01)
    >>> [(group["muon"], len(group["params"])) for group in optimizer.param_groups]
    [(True, 1), (False, 1)]
    """

    _ranges: ClassVar = {**AdamW._ranges, "momentum": "[0, 1)"}
    momentum = hyperparameter("momentum")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        Optimizer.__init__(
            self, params, muon=False, lr=lr, weight_decay=weight_decay, momentum=momentum,
            nesterov=True, ns_coefficients=QUINTIC, ns_steps=5, adjust_lr_fn="match_rms_adamw",
            beta1=beta1, beta2=beta2, eps=eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _checked(self, options: Group) -> Group:
        if options["muon"]:
            check_matrices("MuonWithAdamW", options.get("params", ()))
        return super()._checked(options)

    def _update(self, batch: Batch, group: Group) -> list[NDArray]:
        if group["muon"]:
            return orthogonal_steps(batch, group)
        return super()._update(batch, group)


def muon_groups(model: Module) -> list[Group]:
    """The groups of a model for MuonWithAdamW.

    Muon gets the weights of the linear layers. AdamW gets the rest: embeddings and the kernels of
    convolutions, and without weight decay biases and the weights of norms.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of dict
        The groups that are not empty.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.Sequential(ndl.nn.Embedding(9, 4), ndl.nn.Linear(4, 4), ndl.nn.LayerNorm(4))
    >>> [len(group["params"]) for group in ndl.optim.muon_groups(model)]
    [1, 1, 3]
    """
    linear = {id(m.weight) for m in model.modules() if isinstance(m, Linear)}
    params = list(model.parameters())
    matrices = [p for p in params if id(p) in linear]
    others = [p for p in params if id(p) not in linear]
    groups: list[Group] = [
        {"params": matrices, "muon": True},
        {"params": [p for p in others if not _is_vector(p)]},
        {"params": [p for p in others if _is_vector(p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _is_vector(p: Tensor) -> bool:
    return p.size == max(p.shape, default=1)  # the biases of linear layers have shape (1, n)
