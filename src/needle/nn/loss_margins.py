"""Losses of comparisons and of margins between classes."""

from __future__ import annotations

from collections.abc import Callable

from ..autograd import Tensor
from ..operands import ArrayLike
from ..synonyms import accepts_synonyms
from ._losses_classes import (
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
)
from ._losses_margins import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from .arguments import finite
from .loss_base import ElementLoss, Loss


class MarginRankingLoss(Loss):
    """Ranking of two scores: max(0, -target·(x1 - x2) + margin).

    Parameters
    ----------
    margin : float, default 0.0
        The difference that is asked for.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> x1, x2, target = ndl.Tensor([1.0]), ndl.Tensor([3.0]), ndl.Tensor([1.0])
    >>> ndl.nn.MarginRankingLoss()(x1, x2, target)
    needle.Tensor(2.0)
    """

    def __init__(
        self,
        margin: float = 0.0,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin = finite("MarginRankingLoss", "margin", margin)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input1, input2 : Tensor, one shape
            The scores.
        target : Tensor or array, the shape of the scores
            1 where input1 should be larger, -1 where input2 should be.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of the scores.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        return margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


class HingeEmbeddingLoss(ElementLoss):
    """The distance x where the target is 1, max(0, margin - x) where it is -1.

    Parameters
    ----------
    margin : float, default 1.0
        The difference that is asked for.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.HingeEmbeddingLoss(reduction="none")(ndl.Tensor([2.0, 0.5]), ndl.Tensor([1.0, -1.0]))
    needle.Tensor([2.  0.5])
    """

    def __init__(
        self,
        margin: float = 1.0,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin = finite("HingeEmbeddingLoss", "margin", margin)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class SoftMarginLoss(ElementLoss):
    """Logistic loss of two classes, log(1 + exp(-target·x)) for targets 1 and -1.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SoftMarginLoss()(ndl.Tensor([1000.0]), ndl.Tensor([-1.0]))
    needle.Tensor(1000.0)
    """

    def __init__(
        self,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return soft_margin_loss(input, target, reduction=self.reduction)


class CosineEmbeddingLoss(Loss):
    """1 - cos(x1, x2) where the target is 1, max(0, cos - margin) where it is -1.

    Parameters
    ----------
    margin : float, default 0.0
        The difference that is asked for.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> x1, x2 = ndl.Tensor([[1.0, 0.0]]), ndl.Tensor([[0.0, 2.0]])
    >>> ndl.nn.CosineEmbeddingLoss()(x1, x2, ndl.Tensor([1.0]))
    needle.Tensor(1.0)
    """

    def __init__(
        self,
        margin: float = 0.0,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin = finite("CosineEmbeddingLoss", "margin", margin)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input1, input2 : Tensor, shape (B, d) or (d,)
            The vectors.
        target : Tensor or array, shape (B,) or ()
            1 for vectors that should be alike, -1 for others.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of `target`.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


class TripletMarginLoss(Loss):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin).

    Parameters
    ----------
    margin : float, default 1.0
        The difference that is asked for.
    p : float, default 2.0
        The norm of the distance.
    eps : float, default 1e-6
        Added to differences, so that gradients stay finite.
    swap : bool, default False
        Whether the negative counts from the nearer of anchor and positive.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    References
    ----------
    Balntas et al., "Learning Local Feature Descriptors with Triplets and Shallow Convolutional
    Neural Networks", 2016.

    Examples
    --------
    >>> import needle as ndl
    >>> anchor, near, far = ndl.Tensor([[0.0]]), ndl.Tensor([[1.0]]), ndl.Tensor([[1.5]])
    >>> round(ndl.nn.TripletMarginLoss()(anchor, near, far).item(), 3)
    0.5
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin = finite("TripletMarginLoss", "margin", margin)
        self.p, self.eps, self.swap = p, eps, swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        anchor, positive, negative : Tensor, shape (B, d) or (d,)
            A vector, one that should be near it and one that should not.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        return triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap,
            reduction=self.reduction,
        )  # fmt: skip


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with any distance.

    Parameters
    ----------
    distance_function : callable, optional
        The distance of two Tensors; `pairwise_distance` where none is given.
    margin : float, default 1.0
        The difference that is asked for.
    swap : bool, default False
        Whether the negative counts from the nearer of anchor and positive.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> city_block = lambda a, b: abs(a - b).sum(-1)
    >>> loss_fn = ndl.nn.TripletMarginWithDistanceLoss(distance_function=city_block)
    >>> loss_fn(ndl.Tensor([[0.0]]), ndl.Tensor([[1.0]]), ndl.Tensor([[1.5]]))
    needle.Tensor(0.5)
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.distance_function = distance_function
        self.margin = finite("TripletMarginWithDistanceLoss", "margin", margin)
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        anchor, positive, negative : Tensor, shape (B, d) or (d,)
            A vector, one that should be near it and one that should not.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        return triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=self.distance_function,
            margin=self.margin, swap=self.swap, reduction=self.reduction,
        )  # fmt: skip


class MultiMarginLoss(Loss):
    """Hinge loss of classes: the mean of max(0, margin - x[target] + x[i])^p, i ≠ target.

    Parameters
    ----------
    p : {1, 2}, default 1
        The power of the differences.
    margin : float, default 1.0
        The difference that is asked for.
    weight : Tensor or array, shape (C,), optional
        The weight of each class.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.MultiMarginLoss()(ndl.Tensor([[0.0, 1.0]]), ndl.Tensor([0], dtype="int64"))
    needle.Tensor(1.0)
    """

    weight: Tensor | None

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: ArrayLike | None = None,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"[MultiMarginLoss] p must be 1 or 2, got {p!r}")
        self.p, self.margin = p, finite("MultiMarginLoss", "margin", margin)
        self._keep("weight", weight)

    @accepts_synonyms
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : Tensor, shape (B, C) or (C,)
            The scores of C classes.
        target : Tensor or array of integers, shape (B,) or ()
            The true classes.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return multi_margin_loss(
            input, target, self.p, self.margin, self.weight, reduction=self.reduction
        )


class MultiLabelMarginLoss(Loss):
    """Hinge loss of sets of classes.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> target = ndl.Tensor([[1, -1, -1]], dtype="int64")
    >>> ndl.nn.MultiLabelMarginLoss()(ndl.Tensor([[0.0, 1.0, 3.0]]), target)
    needle.Tensor(1.0)
    """

    def __init__(
        self,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)

    @accepts_synonyms
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : Tensor, shape (B, C) or (C,)
            The scores of C classes.
        target : Tensor or array of integers, the shape of `input`
            The true classes of each row, and -1 after the last.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(Loss):
    """Binary cross-entropy of each class's logit, averaged over the classes.

    Parameters
    ----------
    weight : Tensor or array, shape (C,), optional
        The weight of each class.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> loss_fn = ndl.nn.MultiLabelSoftMarginLoss()
    >>> loss_fn(ndl.Tensor([[1000.0, -1000.0]]), ndl.Tensor([[0.0, 0.0]]))
    needle.Tensor(500.0)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)

    @accepts_synonyms
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : Tensor, shape (B, C)
            The logits of C classes.
        target : Tensor or array, the shape of `input`
            1 for the classes of each row, 0 for others.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)
