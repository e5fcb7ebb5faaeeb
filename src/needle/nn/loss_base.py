"""What the loss modules share. Each calls a function of `needle.nn.functional`."""

from __future__ import annotations

from typing import ClassVar

from ..autograd import Tensor
from ..operands import ArrayLike
from ..synonyms import accepts_synonyms
from ._losses_common import REDUCTIONS
from .arguments import one_of
from .module import Module


class Loss(Module):
    """A loss with a reduction."""

    _reductions: ClassVar[tuple[str, ...]] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(type(self).__name__, "reduction", reduction, self._reductions)

    def _keep(self, name: str, weight: ArrayLike | None) -> None:
        """Keep weights that move with the module."""
        if weight is None:
            setattr(self, name, None)
            return
        if isinstance(weight, str):
            raise TypeError(
                f"[{type(self).__name__}] {name} must hold numbers, got {weight!r}; "
                f"the reduction is given by name: reduction={weight!r}"
            )
        if not isinstance(weight, Tensor):
            weight = Tensor(weight, requires_grad=False)
        self.register_buffer(name, weight.detach())

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class ElementLoss(Loss):
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
        return self._loss(input, target)

    def _loss(self, input: Tensor, target: ArrayLike) -> Tensor:
        raise NotImplementedError
