"""GradientStatistics: how large gradients and updates are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ...autograd import Tensor, no_grad
from ...init import zeros
from ...ops import stack
from ...typing import Json
from ..tolerance import Tolerance
from .base import Callback
from .tensorboard import writer_of

if TYPE_CHECKING:
    from ..trainer import Trainer


class GradientStatistics(Callback):
    """Add the norms of gradients and the sizes of updates to the rows of training.

    "gradient_norm" is the norm of all gradients of the row's last step, before clipping.
    "update_ratio" is the norm of that step's update over that of the weights; about 1e-3 is usual
    for Adam, far more is unstable and far less is slow. An optimizer of several parameter groups
    has these for each: "gradient_norm/0", "gradient_norm/1", …

    The norms of gradients are computed in the compiled step, and read when a row is written. The
    weights before the step are kept without a copy. With a `TensorBoard` callback there are
    histograms of weights and updates, too. Give it before the callbacks that write rows.

    Parameters
    ----------
    histogram_seconds : float or None, default 60
        The least time between histograms, which cost more than the norms; None: there are none.

    Examples
    --------
    >>> from needle.train.callbacks import GradientStatistics
    >>> GradientStatistics(histogram_seconds=10).histogram_seconds
    10
    """

    def __init__(self, histogram_seconds: float | None = 60.0) -> None:
        self.histogram_seconds = histogram_seconds
        self._histograms_at = -math.inf
        self._tolerance = Tolerance("[GradientStatistics] histograms")
        self._squares: Tensor | None = None  # of the gradients' norms, one a group
        self._before: list[list[Tensor]] = []
        self._now: list[list[Tensor]] = []
        self._saved: Json = {}  # the measures of the last step before the run was resumed

    def on_fit_start(self, trainer: Trainer) -> None:
        """Keep the first weights."""
        self._now = _weights(trainer)

    def on_gradients(self, trainer: Trainer) -> None:
        """Compute the norms of the gradients, in the compiled step."""
        with no_grad():
            self._squares = stack([_square(group) for group in trainer.optimizer.param_groups])

    def on_step_end(self, trainer: Trainer) -> None:
        """Keep the weights before and after the step."""
        self._before, self._now = self._now, _weights(trainer)
        self._saved = {}

    def on_row(self, trainer: Trainer, row: Json) -> None:
        """Add the norms and ratios of the last step, and write histograms."""
        if row["split"] != "train":
            return
        row.update(self._measures())
        if self.histogram_seconds is not None and self._before:
            seconds = trainer.progress.seconds
            if seconds - self._histograms_at >= self.histogram_seconds:
                self._histograms_at = seconds
                with self._tolerance.writing():
                    self._write_histograms(trainer, row)

    def _measures(self) -> Json:
        """The norms and ratios of the last step, by their names in rows."""
        if self._squares is None or not self._before:
            return dict(self._saved)
        found: Json = {}
        norms = np.sqrt(np.asarray(self._squares, np.float64))
        for i, (norm, before, now) in enumerate(zip(norms, self._before, self._now, strict=True)):
            ending = f"/{i}" if len(norms) > 1 else ""
            weights = _norm([np.asarray(x, np.float32) for x in before])
            update = _norm([y - x for x, y in _arrays(before, now)])
            found[f"gradient_norm{ending}"] = float(norm)
            found[f"update_ratio{ending}"] = update / weights if weights else math.nan
        return found

    def state_dict(self) -> Json:
        """The measures of the last step, which a row may need that comes before the next one."""
        return {"last": self._measures()}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`."""
        self._saved = dict(state.get("last", {}))

    def _write_histograms(self, trainer: Trainer, row: Json) -> None:
        writer = writer_of(trainer)
        if writer is None:
            return
        names = {id(p): name for name, p in trainer.model.named_parameters()}
        groups = zip(trainer.optimizer.param_groups, self._before, self._now, strict=True)
        for group, before, now in groups:
            for p, (x, y) in zip(group["params"], _arrays(before, now), strict=True):
                name = names.get(id(p), "parameter")
                for kind, values in (("weights", y), ("updates", y - x)):
                    if np.isfinite(values).all():
                        writer.add_histogram(f"{kind}/{name}", values, row["step"])

    def on_fit_end(self, trainer: Trainer) -> None:
        """Let go of the weights."""
        self._before, self._now, self._saved = [], [], {}


def _square(group: Json) -> Tensor:
    """The squared norm of the gradients of a group."""
    grads = [p.grad.detach().astype("float32") for p in group["params"] if p.grad is not None]
    return stack([(g * g).sum() for g in grads]).sum() if grads else zeros()


def _weights(trainer: Trainer) -> list[list[Tensor]]:
    """The present weights of each group, without a copy."""
    return [[p.detach() for p in group["params"]] for group in trainer.optimizer.param_groups]


def _arrays(before: list[Tensor], now: list[Tensor]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for x, y in zip(before, now, strict=True):
        yield np.asarray(x, np.float32), np.asarray(y, np.float32)


def _norm(arrays: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.vdot(x, x)) for x in arrays))
