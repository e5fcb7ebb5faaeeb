"""Losses: how far predictions are from targets, as a Tensor to call `backward()` on.

`reduction` is "mean" (the default), "sum", or "none" for one loss per element or row. Predictions
and targets never broadcast: shapes that do not fit raise ValueError. Here are the losses of
classes, of numbers and of probabilities that most programs use; the rarer ones are beside them.
"""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_ndarray import is_float
from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ..ops._common import as_tensor
from ..ops._loss import whole_labels
from ..synonyms import accepts_synonyms
from ._losses_classes import cross_entropy, nll_loss
from ._losses_numbers import l1_loss, mse_loss
from ._losses_probabilities import binary_cross_entropy_with_logits, kl_div
from .arguments import in_unit_interval
from .loss_base import ElementLoss, Loss

# ---- classes ------------------------------------------------------------------------------------


class NLLLoss(Loss):
    """Negative log-likelihood of the true classes, -log_probabilities[i, target[i]].

    Parameters
    ----------
    weight : Tensor or array, shape (C,), optional
        The weight of each class. The mean is divided by the sum of the weights of the targets.
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

    weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        name = type(self).__name__
        self._keep("weight", _class_weights(name, weight))
        self.ignore_index = whole(ignore_index, name, "ignore_index")

    @accepts_synonyms
    def forward(self, log_probabilities: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        log_probabilities : Tensor, shape (B, C), (B, C, d…) or (C,)
            The logarithms of the probabilities of C classes, as `log_softmax` gives them.
        target : Tensor or array of integers
            The true classes, of the shape of `log_probabilities` without C.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of `target`.

        Raises
        ------
        IndexError
            If a target is outside 0 … C - 1 and is not `ignore_index`.
        TypeError
            If targets are floats.
        ValueError
            If the shapes do not fit.
        """
        return nll_loss(
            log_probabilities, target, self.weight,
            ignore_index=self.ignore_index, reduction=self.reduction,
        )  # fmt: skip


class CrossEntropyLoss(Loss):
    """Cross-entropy of softmax(logits) with classes or with probabilities of classes.

    With classes the loss of row i is logsumexp(logits[i]) - logits[i, target[i]]. `CrossEntropy` is
    an alias.

    Parameters
    ----------
    weight : Tensor or array, shape (C,), optional
        The weight of each class. The mean is divided by the sum of the weights of the targets.
    ignore_index : int, default -100
        Rows with this target have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    label_smoothing : float, default 0.0
        The part of each target's probability that is spread evenly over all classes, in [0, 1].

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

    weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        name = type(self).__name__
        self._keep("weight", _class_weights(name, weight))
        self.ignore_index = whole(ignore_index, name, "ignore_index")
        self.label_smoothing = in_unit_interval(name, "label_smoothing", label_smoothing)

    @accepts_synonyms
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits : Tensor, shape (B, C), (B, C, d…) or (C,)
            The unnormalized log-probabilities of C classes.
        target : Tensor or array
            The classes, integers of the shape of `logits` without C; or probabilities, floats of
            the shape of `logits`.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of `logits` without C.

        Raises
        ------
        IndexError
            If a class is outside 0 … C - 1 and is not `ignore_index`.
        TypeError
            If classes are floats.
        ValueError
            If the shapes do not fit.
        """
        return cross_entropy(
            logits, target, self.weight, ignore_index=self.ignore_index,
            reduction=self.reduction, label_smoothing=self.label_smoothing,
        )  # fmt: skip


def _class_weights(name: str, weight: ArrayLike | None) -> ArrayLike | None:
    if isinstance(weight, (int, float)):
        raise TypeError(
            f"[{name}] weight must have a number for each class, got {weight!r}; "
            "other options are given by name, as label_smoothing=0.1"
        )
    return weight


class SoftmaxLoss(CrossEntropyLoss):
    """`CrossEntropyLoss` by the course's name, whose classes may be floats that are whole numbers.

    Parameters
    ----------
    weight : Tensor or array, shape (C,), optional
        The weight of each class. The mean is divided by the sum of the weights of the targets.
    ignore_index : int, default -100
        Rows with this target have loss 0 and are not counted in the mean.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    label_smoothing : float, default 0.0
        The part of each target's probability that is spread evenly over all classes, in [0, 1].

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SoftmaxLoss()(ndl.Tensor([[0, 1000]]), ndl.Tensor([0]))
    needle.Tensor(1000.0)
    """

    @accepts_synonyms
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss as `CrossEntropyLoss` does.

        Parameters
        ----------
        logits : Tensor, shape (B, C), (B, C, d…) or (C,)
            The unnormalized log-probabilities of C classes.
        target : Tensor or array
            The classes, whole numbers of any dtype, as course programs store them; or
            probabilities of the shape of `logits`.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of `logits` without C.
        """
        target = as_tensor(target, logits)
        if is_float(target.dtype) and target.shape != logits.shape:
            target = Tensor.make_const(whole_labels(target.realize_cached_data()))
        return super().forward(logits, target)


CrossEntropy = CrossEntropyLoss


# ---- numbers ------------------------------------------------------------------------------------


class MSELoss(ElementLoss):
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

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(ElementLoss):
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

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return l1_loss(input, target, reduction=self.reduction)


# ---- probabilities ------------------------------------------------------------------------------


class BCEWithLogitsLoss(ElementLoss):
    """Binary cross-entropy of logits: -y·log p - (1 - y)·log(1 - p) for p = sigmoid(x).

    The loss is computed without overflow. At an infinite logit it is the limit: an impossible event
    with target probability 0 contributes 0.

    Parameters
    ----------
    weight : Tensor or array, optional
        Factors of the losses; they broadcast to the input.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are combined.
    pos_weight : Tensor or array, optional
        The factor of the cost of the target 1, as the number of negatives over that of positives;
        it broadcasts to the input.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.BCEWithLogitsLoss(reduction="sum")(ndl.Tensor([1000, -1000]), ndl.Tensor([0, 0]))
    needle.Tensor(1000.0)
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class KLDivLoss(ElementLoss):
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

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
