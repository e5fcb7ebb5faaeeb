"""Losses: how far predictions are from targets, as a Tensor to call `backward()` on.

`reduction` is "mean" (the default), "sum", or "none" for one loss per element or row. Predictions
and targets never broadcast: shapes that do not fit raise ValueError.
"""

from __future__ import annotations

import math

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import whole
from ..ops._common import as_tensors, widens
from ..ops._comparison import logical_and
from ..synonyms import accepts_synonyms
from .arguments import in_unit_interval, one_of
from .module import Module


class _Loss(Module):
    """What the losses share: the reduction."""

    _reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(type(self).__name__, "reduction", reduction, self._reductions)

    def _reduced(self, losses: Tensor) -> Tensor:
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def _check_same_shape(self, x: Tensor, target: Tensor) -> None:
        if x.shape != target.shape:
            raise ValueError(
                f"[{type(self).__name__}] input and target must have one shape, "
                f"got {x.shape} and {target.shape}"
            )

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class _ElementLoss(_Loss):
    """A loss with a number for each element."""

    @accepts_synonyms
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : Tensor, any shape
            The predictions. `x` is another name of this argument.
        target : Tensor or array, the shape of `input`
            The targets.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" the loss of each element in the shape of `input`.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        x, target = as_tensors(input, target, type(self).__name__)
        self._check_same_shape(x, target)
        return self._reduced(widens(self._losses)(x, target))

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


# ---- classes --------------------------------------------------------------------------------


class NLLLoss(_Loss):
    """Negative log-likelihood of the true classes, -log_probabilities[i, target[i]].

    Parameters
    ----------
    ignore_index : int, default -100
        Rows with this target have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> log_probabilities = ndl.Tensor([[-1, -2], [-3, -4]])
    >>> ndl.nn.NLLLoss()(log_probabilities, ndl.Tensor([1, 0], dtype="int64"))
    needle.Tensor(2.5)
    """

    def __init__(self, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.ignore_index = whole(ignore_index, type(self).__name__, "ignore_index")

    @accepts_synonyms
    def forward(self, log_probabilities: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        log_probabilities : Tensor, shape (B, C)
            The logarithms of the probabilities of C classes, as `log_softmax` gives them. `input`
            is another name of this argument.
        target : Tensor, shape (B,)
            The true classes, integers or whole numbers of a floating-point dtype.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        IndexError
            If a target is outside 0 … C - 1 and is not `ignore_index`.
        TypeError
            If a target is not a whole number.
        ValueError
            If the shapes do not fit.
        """
        if not isinstance(target, Tensor):
            target = Tensor(target, device=log_probabilities.device, requires_grad=False)
        labels = target.realize_cached_data()
        if not is_float(labels.dtype):
            labels = labels.astype("int64")
        kept = labels.compare("ne", self.ignore_index)
        losses = ops.nll_loss(log_probabilities, labels * kept)
        losses = ops.where(kept, losses, 0.0)
        if self.reduction == "mean":
            count = kept.sum().astype(losses.dtype)
            return losses.sum() / Tensor.make_const(count)
        return self._reduced(losses)


class CrossEntropyLoss(_Loss):
    """Cross-entropy of softmax(logits) with the true classes.

    The loss of row i is logsumexp(logits[i]) - logits[i, target[i]]. `CrossEntropy` is an alias.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        The part of each target's probability that is spread evenly over all classes, in [0, 1].
    ignore_index : int, default -100
        Rows with this target have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016 (label
    smoothing).

    Examples
    --------
    >>> import needle as ndl
    >>> logits = ndl.Tensor([[0, 0, 1000], [1000, 0, 0]])
    >>> ndl.nn.CrossEntropyLoss()(logits, ndl.Tensor([2, 1], dtype="int64"))
    needle.Tensor(500.0)
    """

    def __init__(
        self, label_smoothing: float = 0.0, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        name = type(self).__name__
        self.label_smoothing = in_unit_interval(name, "label_smoothing", label_smoothing)
        self.ignore_index = whole(ignore_index, name, "ignore_index")

    @accepts_synonyms
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits : Tensor, shape (B, C)
            The unnormalized log-probabilities of C classes. `input` is another name of this
            argument.
        target : Tensor, shape (B,)
            The true classes, integers or whole numbers of a floating-point dtype.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        IndexError
            If a target is outside 0 … C - 1 and is not `ignore_index`.
        TypeError
            If a target is not a whole number.
        ValueError
            If the shapes do not fit.
        """
        return ops.cross_entropy(
            logits, target, self.label_smoothing, self.ignore_index, self.reduction
        )


class SoftmaxLoss(CrossEntropyLoss):
    """`CrossEntropyLoss` by the course's name.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        The part of each target's probability that is spread evenly over all classes, in [0, 1].
    ignore_index : int, default -100
        Rows with this target have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SoftmaxLoss()(ndl.Tensor([[0, 1000]]), ndl.Tensor([0]))
    needle.Tensor(1000.0)
    """


CrossEntropy = CrossEntropyLoss


# ---- numbers --------------------------------------------------------------------------------


class MSELoss(_ElementLoss):
    """Squared error, (x - target)².

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.MSELoss()(ndl.Tensor([1, 2]), ndl.Tensor([1, 4]))
    needle.Tensor(2.0)
    """

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        difference = x - target
        return difference * difference


class L1Loss(_ElementLoss):
    """Absolute error, |x - target|.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.L1Loss(reduction="none")(ndl.Tensor([1, 2]), ndl.Tensor([1, 4]))
    needle.Tensor([0. 2.])
    """

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.abs(x - target)


# ---- probabilities --------------------------------------------------------------------------


class BCEWithLogitsLoss(_ElementLoss):
    """Binary cross-entropy of logits: -y·log p - (1 - y)·log(1 - p) for p = sigmoid(x).

    The loss is computed without overflow. At an infinite logit it is the limit: an impossible event
    with target probability 0 contributes 0.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.BCEWithLogitsLoss(reduction="sum")(ndl.Tensor([1000, -1000]), ndl.Tensor([0, 0]))
    needle.Tensor(1000.0)
    """

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        wrong_one = _expected(1.0 - target, ops.maximum(x, 0.0))
        wrong_zero = _expected(target, ops.maximum(-x, 0.0))
        return wrong_one + wrong_zero + ops.log1p(ops.exp(-ops.abs(x)))


def _expected(probability: Tensor, cost: Tensor) -> Tensor:
    """probability · cost, where 0 · inf is 0."""
    never = logical_and(probability == 0, cost == math.inf)
    return probability * ops.where(never, 0.0, cost)


class KLDivLoss(_ElementLoss):
    """Kullback-Leibler divergence, target·(log target - x), where `x` holds log-probabilities.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        How the losses of the elements are combined. "mean" is over all elements, as in PyTorch;
        "batchmean" divides the sum by the length of axis 0, which gives the mean divergence.
    log_target : bool, default False
        Whether the target holds log-probabilities too.

    Examples
    --------
    >>> import needle as ndl
    >>> x, target = ndl.Tensor([[-3.0, -5.0]]), ndl.Tensor([[1.0, 0.0]])
    >>> ndl.nn.KLDivLoss("batchmean")(x, target)
    needle.Tensor(3.0)
    """

    _reductions = ("mean", "sum", "none", "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def _losses(self, x: Tensor, target: Tensor) -> Tensor:
        if self.log_target:
            return ops.exp(target) * (target - x)
        nonzero = ops.where(target == 0, 1.0, target)  # 0·log 0 is 0
        return target * (ops.log(nonzero) - x)

    def _reduced(self, losses: Tensor) -> Tensor:
        if self.reduction != "batchmean":
            return super()._reduced(losses)
        if not losses.ndim:
            raise ValueError("[KLDivLoss] batchmean needs an input with a batch axis, got shape ()")
        return losses.sum() / losses.shape[0]
