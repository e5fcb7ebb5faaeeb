"""Adagrad: steps divided by the root of the sum of all squared gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ..backend_ndarray import NDArray
from .optimizer import Batch, Group, Optimizer, hyperparameter


class Adagrad(Optimizer):
    """s = s + g²;  p = p - lr / (1 + (step - 1)·lr_decay)·g / (√s + eps).

    g = grad + weight_decay·p; s starts at `initial_accumulator_value` (Duchi et al., 2011).
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
        params: Iterable[Any],
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
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
