"""What the loss functions share: checks of their arguments, and the reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..autograd import Tensor
from ..operands import ArrayLike
from ..ops._common import as_tensor, as_tensors, widens
from .arguments import one_of

REDUCTIONS = ("mean", "sum", "none")

Losses = TypeVar("Losses", bound=Callable[..., Tensor])


def reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    """The mean or sum of the losses, or the losses themselves."""
    one_of(name, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def of_one_shape(name: str, x: Tensor, target: ArrayLike) -> tuple[Tensor, Tensor]:
    """Both as Tensors. Raises ValueError unless they have one shape: losses never broadcast."""
    x, target = as_tensors(x, target, name)
    if x.shape != target.shape:
        raise ValueError(
            f"[{name}] input and target must have one shape, got {x.shape} and {target.shape}"
        )
    return x, target


def elementwise(
    name: str, losses: Callable[..., Tensor], x: Tensor, target: ArrayLike, reduction: str
) -> Tensor:
    """The reduction of `losses(x, target)`, which are computed in float32 at least."""
    x, target = of_one_shape(name, x, target)
    return reduced(name, widens(losses)(x, target), reduction)


def class_weights(name: str, weight: ArrayLike | None, classes: int, like: Tensor) -> Tensor | None:
    """The weight of each class as a Tensor of shape (classes,)."""
    if weight is None:
        return None
    weight = as_tensor(weight, like)
    if weight.shape != (classes,):
        raise ValueError(
            f"[{name}] weight must have one number for each of the {classes} classes, "
            f"got shape {weight.shape}"
        )
    return weight


__all__ = [
    "REDUCTIONS",
    "class_weights",
    "elementwise",
    "of_one_shape",
    "reduced",
]
