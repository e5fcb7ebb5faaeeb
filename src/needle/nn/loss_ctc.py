"""CTCLoss: sequences whose alignment with the steps is not known."""

from __future__ import annotations

from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ._losses_ctc import Lengths, ctc_loss
from .loss_base import Loss


class CTCLoss(Loss):
    """Connectionist temporal classification: sequences without an alignment.

    Parameters
    ----------
    blank : int, default 0
        The class of the blank.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses are combined.
    zero_infinity : bool, default False
        Whether a target that is too long for its steps has loss 0 instead of inf.

    Notes
    -----
    "mean" is the mean of the losses divided by the lengths of their targets, as in PyTorch.

    References
    ----------
    Graves et al., "Connectionist Temporal Classification", 2006.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.nn.LogSoftmax()(ndl.zeros(2, 1, 2))  # two steps, a blank and one label
    >>> loss = ndl.nn.CTCLoss()(x, ndl.Tensor([[1]], dtype="int64"), [2], [1])
    >>> round(loss.item(), 3)  # three of the four alignments spell the label
    0.288
    """

    def __init__(
        self,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
    ) -> None:
        super().__init__(reduction)
        self.blank = whole(blank, "CTCLoss", "blank")
        self.zero_infinity = zero_infinity

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        log_probs : Tensor, shape (T, B, C) or (T, C)
            The logarithms of the probabilities of C classes at T steps.
        targets : Tensor or array of integers, shape (B, S) or (sum of the lengths,)
            The labels, padded or in one row. A compiled function needs the padded form.
        input_lengths, target_lengths : Tensor, array or sequence of integers, shape (B,)
            How many steps and how many labels each sequence has.

        Returns
        -------
        Tensor
            A scalar, or with reduction "none" of shape (B,).

        Raises
        ------
        IndexError
            If a label is out of range.
        ValueError
            If shapes or lengths do not fit.
        """
        return ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank,
            reduction=self.reduction, zero_infinity=self.zero_infinity,
        )  # fmt: skip
