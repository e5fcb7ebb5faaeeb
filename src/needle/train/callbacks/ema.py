"""EMA: an exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...autograd import Tensor, no_grad
from ...jit import jit
from ...optim.swa_utils import get_ema_multi_avg_fn
from ...typing import Json
from .base import Callback
from .weights import Floats, copy_of, kept, replace

if TYPE_CHECKING:
    from ..trainer import Trainer


class EMA(Callback):
    """Average the weights over steps, and measure the averages on the validation data.

    After each step, average = decay · average + (1 - decay) · weight, for parameters and for
    buffers of floats, such as a batch norm's statistics; the first averages are the weights after
    the first step. While the model is measured it has the averages, afterwards its own weights
    again, also when measuring fails. Averages of 16-bit weights are float32. They are kept in
    checkpoints, beside the weights.

    Parameters
    ----------
    decay : float, default 0.999
        About 1 / (1 - decay) steps are averaged; a short run needs a smaller one.
    keep : bool, default True
        Whether the model has the averages once training has ended, unless by an error. With
        `BestModel`, which comes before in the list of callbacks, False.

    Attributes
    ----------
    averages : dict of str to Tensor
        By the names of the parameters and buffers; empty before the first step.

    Raises
    ------
    ValueError
        If `decay` is not in [0, 1]; when training starts, if the averages are of another model.

    Examples
    --------
    >>> from needle.train.callbacks import EMA
    >>> EMA(decay=0.99).decay
    0.99

    References
    ----------
    B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, decay: float = 0.999, keep: bool = True) -> None:
        self._average = get_ema_multi_avg_fn(decay)
        self.decay, self.keep = decay, keep
        self.averages: dict[str, Tensor] = {}
        self._floats: Floats | None = None
        self._own: dict[str, Tensor] | None = None  # the model's weights while it has the averages
        self._update: Callable[[list[Tensor]], None] = self._add

    def on_fit_start(self, trainer: Trainer) -> None:
        """Find the weights."""
        self._floats = Floats(trainer.model)
        weights = self._weights()
        if self.averages:
            shapes = {name: x.shape for name, x in self.averages.items()}
            if shapes != {name: x.shape for name, x in weights.items()}:
                raise ValueError("[EMA] the averages are those of another model")
            self.averages = {n: x.to(weights[n].device) for n, x in self.averages.items()}
        self._update = jit(self._add) if trainer.compiled else self._add

    def on_step_end(self, trainer: Trainer) -> None:
        """Take the weights into the averages."""
        assert self._floats is not None
        if self.averages:
            self._update(list(self._floats.buffers().values()))
        else:
            self.averages = {name: _wide_copy(x) for name, x in self._weights().items()}

    def _add(self, buffers: list[Tensor]) -> None:
        assert self._floats is not None
        weights = [*self._floats.parameters.values(), *buffers]
        with no_grad():
            self._average(list(self.averages.values()), [x.detach() for x in weights], 1)

    def _weights(self) -> dict[str, Tensor]:
        return {} if self._floats is None else self._floats.now()

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """A context in which the model has the averages."""
        self._swap_in()
        try:
            yield
        finally:
            self._put_back()

    def _swap_in(self) -> None:
        if self.averages and self._own is None:
            self._own = kept(self._weights())
            replace(self._weights(), self.averages)

    def _put_back(self) -> None:
        if self._own is not None:
            replace(self._weights(), self._own)
            self._own = None

    def on_validation_start(self, trainer: Trainer) -> None:
        """Give the model the averages."""
        self._swap_in()

    def on_validation_end(self, trainer: Trainer, row: Json) -> None:
        """Give the model its own weights back."""
        self._put_back()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the model the averages to keep; after an error its own weights."""
        self._put_back()
        if self.keep and self.averages and trainer.error is None:
            replace(self._weights(), self.averages)

    def state_dict(self) -> Json:
        """The averages."""
        return {"averages": dict(self.averages)}

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`."""
        self.averages = {name: copy_of(x) for name, x in state["averages"].items()}


def _wide_copy(x: Tensor) -> Tensor:
    """A copy that is precise enough to be averaged."""
    return copy_of(x) if x.dtype.itemsize >= 4 else x.detach().astype("float32")
