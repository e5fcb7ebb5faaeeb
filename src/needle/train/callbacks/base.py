"""Callback: what a `Trainer` calls while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...autograd import watched
from ...typing import Json

if TYPE_CHECKING:
    from ..trainer import Trainer


@watched  # by compiled steps that call on_gradients
class Callback:
    """Base class of callbacks: subclasses define the methods that they need.

    A trainer calls only methods that a subclass defines, so the others cost nothing. The callbacks
    are called in the order in which the trainer got them. What `state_dict` gives is kept in
    checkpoints; `load_state_dict` gets it back before a resumed run goes on.

    Examples
    --------
    >>> from needle.train import Callback
    >>> class StopAfter(Callback):
    ...     def on_epoch_end(self, trainer):
    ...         if trainer.progress.epoch == 3:
    ...             trainer.stop("three epochs are enough")
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Called before the first step, once a resumed run is restored."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Called before the first batch of an epoch."""

    def on_gradients(self, trainer: Trainer) -> None:
        """Called inside the compiled step with the gradients (`p.grad`), before they are clipped.

        What it computes of them becomes part of the program; it may keep Tensors in attributes.
        """

    def on_step_end(self, trainer: Trainer) -> None:
        """Called after each step of the optimizer; `trainer.loss()` reads its loss."""

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Called with each row of measurements before it is written, so that it can be added to."""

    def on_validation_start(self, trainer: Trainer) -> None:
        """Called before the model is measured on the validation data."""

    def on_validation_end(self, trainer: Trainer, row: Json) -> None:
        """Called with the row of a validation."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Called after an epoch and its validation; `trainer.progress.epoch` counts it."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Called when a checkpoint is complete and on the disk."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Called last, however training has ended; `trainer.error` is the error, if one has.

        The last checkpoint is on the disk by then. It is called where `on_fit_start` has returned,
        even if other callbacks fail.
        """

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Called with the error that ends training, before `on_fit_end`."""

    def state_dict(self) -> Json:
        """What a checkpoint keeps of the callback."""
        return {}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`."""
