"""Losses of comparisons: of two scores, of two or three vectors, of a score and a sign."""

from __future__ import annotations

from collections.abc import Callable

from .. import ops
from ..autograd import Tensor
from ..operands import ArrayLike
from ..ops._common import as_tensor, widens
from ._losses_common import elementwise, reduced


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: ArrayLike,
    margin: float = 0.0,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target·(x1 - x2) + margin): the target 1 asks for the larger x1, -1 for x2."""
    name = "margin_ranking_loss"
    target = as_tensor(target, input1)
    if not input1.shape == input2.shape == target.shape:
        raise ValueError(
            f"[{name}] the inputs and the target must have one shape, "
            f"got {input1.shape}, {input2.shape} and {target.shape}"
        )

    def losses(x1: Tensor, x2: Tensor) -> Tensor:
        return ops.maximum(margin - target * (x1 - x2), 0.0)

    return reduced(name, widens(losses)(input1, input2), reduction)


def hinge_embedding_loss(
    input: Tensor, target: ArrayLike, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """The distance x where the target is 1, max(0, margin - x) where it is -1."""

    def losses(x: Tensor, target: Tensor) -> Tensor:
        far = ops.where(target == 1, 0.0, ops.maximum(margin - x, 0.0))
        return far + ops.where(target == -1, 0.0, x)

    return elementwise("hinge_embedding_loss", losses, input, target, reduction)


def soft_margin_loss(input: Tensor, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target·x)) for targets 1 and -1."""

    def losses(x: Tensor, target: Tensor) -> Tensor:
        return ops.softplus(-(target * x))

    return elementwise("soft_margin_loss", losses, input, target, reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: ArrayLike,
    margin: float = 0.0,
    *,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos - margin) where it is -1.

    The inputs have shape (B, d) with targets (B,), or (d,) with one target.
    """
    name = "cosine_embedding_loss"
    target = as_tensor(target, input1)
    if (
        input1.shape != input2.shape
        or input1.ndim not in (1, 2)
        or target.shape != input1.shape[:-1]
    ):
        raise ValueError(
            f"[{name}] needs inputs (B, d) and targets (B,), or (d,) and (), "
            f"got {input1.shape}, {input2.shape} and {target.shape}"
        )

    def losses(x1: Tensor, x2: Tensor) -> Tensor:
        eps = 1e-12  # as in PyTorch
        squares = ((x1 * x1).sum(-1) + eps) * ((x2 * x2).sum(-1) + eps)
        cosine = (x1 * x2).sum(-1) / ops.sqrt(squares)
        alike = ops.where(target == 1, 1.0 - cosine, 0.0)
        return alike + ops.where(target == -1, ops.maximum(cosine - margin, 0.0), 0.0)

    return reduced(name, widens(losses)(input1, input2), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d being `pairwise_distance`.

    With `swap` the negative counts from the nearer of anchor and positive (Balntas et al., 2016).
    """

    def distance(x1: Tensor, x2: Tensor) -> Tensor:
        return ops.pairwise_distance(x1, x2, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative,
        distance_function=distance, margin=margin, swap=swap, reduction=reduction,
    )  # fmt: skip


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance of two Tensors; `pairwise_distance` where none is
    given."""
    name = "triplet_margin_loss"
    if not anchor.shape == positive.shape == negative.shape:
        raise ValueError(
            f"[{name}] anchor, positive and negative must have one shape, "
            f"got {anchor.shape}, {positive.shape} and {negative.shape}"
        )
    distance = distance_function or ops.pairwise_distance

    def losses(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near, far = distance(anchor, positive), distance(anchor, negative)
        if swap:
            far = ops.minimum(far, distance(positive, negative))
        return ops.maximum(near - far + margin, 0.0)

    return reduced(name, widens(losses)(anchor, positive, negative), reduction)


__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
