"""More losses of numbers and of probabilities."""

from __future__ import annotations

from ..autograd import Tensor
from ..operands import ArrayLike
from ..synonyms import accepts_synonyms
from ._losses_numbers import gaussian_nll_loss, huber_loss, poisson_nll_loss, smooth_l1_loss
from ._losses_probabilities import binary_cross_entropy
from .arguments import non_negative, positive
from .loss_base import ElementLoss, Loss


class SmoothL1Loss(ElementLoss):
    """Absolute error less beta/2; below `beta` the parabola that touches it.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.
    beta : float, default 1.0
        Where the parabola ends; 0 gives `L1Loss`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.SmoothL1Loss(reduction="none")(ndl.Tensor([1, 2]), ndl.Tensor([1, 4]))
    needle.Tensor([0.  1.5])
    """

    def __init__(
        self,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(reduction)
        self.beta = non_negative("SmoothL1Loss", "beta", beta)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(ElementLoss):
    """Half the squared error, from `delta` on continued by its tangent.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.
    delta : float, default 1.0
        Where the loss turns linear.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.HuberLoss(delta=2.0)(ndl.Tensor([0.0, 3.0]), ndl.Tensor([0.0, 0.0]))
    needle.Tensor(2.0)
    """

    def __init__(
        self,
        reduction: str = "mean",
        delta: float = 1.0,
    ) -> None:
        super().__init__(reduction)
        self.delta = positive("HuberLoss", "delta", delta)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class PoissonNLLLoss(ElementLoss):
    """Negative log-likelihood of counts under Poisson distributions.

    Parameters
    ----------
    log_input : bool, default True
        Whether the input is the logarithm of the rate.
    full : bool, default False
        Whether Stirling's formula for the logarithm of target! is added.
    eps : float, default 1e-8
        Added to a rate whose logarithm is taken.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.PoissonNLLLoss(log_input=False)(ndl.Tensor([1.0]), ndl.Tensor([5.0]))
    needle.Tensor(1.0)
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        *,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.log_input, self.full = log_input, full
        self.eps = positive("PoissonNLLLoss", "eps", eps)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return poisson_nll_loss(
            input, target, log_input=self.log_input, full=self.full, eps=self.eps,
            reduction=self.reduction,
        )  # fmt: skip


class GaussianNLLLoss(Loss):
    """Negative log-likelihood under normal distributions.

    Parameters
    ----------
    full : bool, default False
        Whether the constant log(2π)/2 is added.
    eps : float, default 1e-6
        The least variance.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Examples
    --------
    >>> import needle as ndl
    >>> x, target, var = ndl.Tensor([0.0]), ndl.Tensor([2.0]), ndl.Tensor([1.0])
    >>> ndl.nn.GaussianNLLLoss()(x, target, var)
    needle.Tensor(2.0)
    """

    def __init__(
        self,
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.full = full
        self.eps = positive("GaussianNLLLoss", "eps", eps)

    @accepts_synonyms
    def forward(self, input: Tensor, target: Tensor, var: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : Tensor, any shape
            The means.
        target : Tensor or array, the shape of `input`
            The targets.
        var : Tensor, array or float
            The variances, of the shape of `input`, or without its last axis or of length 1 there.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of the shape of `input`.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        return gaussian_nll_loss(
            input, target, var, full=self.full, eps=self.eps, reduction=self.reduction
        )


class BCELoss(ElementLoss):
    """Binary cross-entropy of probabilities: -y·log x - (1 - y)·log(1 - x).

    Parameters
    ----------
    weight : Tensor or array, optional
        Factors of the losses; they broadcast to the input.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.

    Notes
    -----
    Logarithms are -100 at least, as in PyTorch. `BCEWithLogitsLoss` loses no digits.

    Examples
    --------
    >>> import needle as ndl
    >>> loss = ndl.nn.BCELoss()(ndl.Tensor([0.5]), ndl.Tensor([1.0]))
    >>> round(loss.item(), 4)
    0.6931
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

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)
