"""EarlyStopping: training ends where it no longer helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...given import shown
from ...typing import Json
from ..numbers import check_number
from .base import Callback
from .watched import Watched

if TYPE_CHECKING:
    from ..trainer import Trainer


class EarlyStopping(Callback):
    """End training when a measure has not become better for a while.

    Parameters
    ----------
    metric : str, default "validation/loss"
        The measure: its split, and its name in rows.
    patience : int, default 5
        How many measurements in a row may be no better than the best one before.
    min_delta : float, default 0
        By how much a better value must differ. NaN is never better.
    higher_is_better : bool, optional
        The metric's own by default; lower is better for the loss.

    Attributes
    ----------
    waited : int
        Measurements since the best one.

    Raises
    ------
    ValueError
        If an argument is out of range; while training, if there is no such measure.

    Examples
    --------
    >>> from needle.train.callbacks import EarlyStopping
    >>> EarlyStopping("validation/accuracy", patience=3).patience
    3
    """

    def __init__(
        self,
        metric: str = "validation/loss",
        patience: int = 5,
        min_delta: float = 0.0,
        higher_is_better: bool | None = None,
    ) -> None:
        if not isinstance(patience, int) or patience < 1:
            raise ValueError(
                f"[EarlyStopping] patience must be a positive whole number, got {shown(patience)}"
            )
        check_number("EarlyStopping", "min_delta", min_delta, whole=False)
        self.watched = Watched("EarlyStopping", metric, higher_is_better, min_delta)
        self.patience = patience
        self.waited = 0

    def on_fit_start(self, trainer: Trainer) -> None:
        """End a run that was resumed and has waited long enough."""
        self.watched.check(trainer)
        self._stop_if_due(trainer)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        value = self.watched.value(trainer, row)
        if value is None:
            return
        self.waited = 0 if self.watched.improves(trainer, value) else self.waited + 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            trainer.stop(
                f"{self.watched.metric} was not better than {self.watched.best} of step "
                f"{self.watched.step} {self.waited} times in a row"
            )

    def state_dict(self) -> Json:
        return {**self.watched.state_dict(), "waited": self.waited}

    def load_state_dict(self, state: Json) -> None:
        self.watched.load_state_dict(state)
        if state["metric"] == self.watched.metric:
            self.waited = int(state["waited"])
