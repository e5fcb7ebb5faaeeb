"""BestModel: the weights of the best measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...autograd import Tensor
from ...typing import Json
from .base import Callback
from .watched import Watched
from .weights import copy_of

if TYPE_CHECKING:
    from ..trainer import Trainer


class BestModel(Callback):
    """Keep the weights that were best, and give them to the model when training ends.

    They are kept in memory and in checkpoints, one copy of parameters and buffers. Before `EMA` in
    the list of callbacks it keeps the averaged weights, which were measured.

    Parameters
    ----------
    metric : str, default "validation/loss"
        The measure: its split, and its name in rows.
    higher_is_better : bool, optional
        The metric's own by default; lower is better for the loss.
    restore : bool, default True
        Whether the model has the best weights once training has ended, unless by an error;
        otherwise `load` does that.

    Attributes
    ----------
    best : float or None
        The best value.
    step : int or None
        Its step.
    weights : dict of str to Tensor
        The model's `state_dict` of that step; empty before the first measurement.

    Raises
    ------
    ValueError
        If `metric` is no such name; while training, if there is no such measure.

    Examples
    --------
    >>> from needle.train.callbacks import BestModel
    >>> BestModel("validation/accuracy").best is None
    True
    """

    def __init__(
        self,
        metric: str = "validation/loss",
        higher_is_better: bool | None = None,
        restore: bool = True,
    ) -> None:
        self.watched = Watched("BestModel", metric, higher_is_better)
        self.restore = restore
        self.weights: dict[str, Tensor] = {}

    @property
    def best(self) -> float | None:
        """The best value."""
        return self.watched.best

    @property
    def step(self) -> int | None:
        """The step of the best value."""
        return self.watched.step

    def on_fit_start(self, trainer: Trainer) -> None:
        self.watched.check(trainer)

    def on_row(self, trainer: Trainer, row: Json) -> None:
        if row.get("split") == "train":
            self._look(trainer, row)

    def on_validation_end(self, trainer: Trainer, row: Json) -> None:
        self._look(trainer, row)

    def _look(self, trainer: Trainer, row: Json) -> None:
        value = self.watched.value(trainer, row)
        if value is not None and self.watched.improves(trainer, value):
            self.weights = {name: copy_of(x) for name, x in trainer.model.state_dict().items()}

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.restore and self.weights and trainer.error is None:
            self.load(trainer)

    def load(self, trainer: Trainer) -> None:
        """Give the model the best weights. Raises RuntimeError where there are none yet."""
        if not self.weights:
            raise RuntimeError(f"[BestModel] {self.watched.metric!r} has not been measured yet")
        trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> Json:
        return {**self.watched.state_dict(), "weights": dict(self.weights)}

    def load_state_dict(self, state: Json) -> None:
        self.watched.load_state_dict(state)
        if state["metric"] == self.watched.metric:
            self.weights = dict(state["weights"])
