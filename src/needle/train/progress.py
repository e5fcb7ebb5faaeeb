"""Where a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..typing import Json


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    epoch : int
        Complete epochs.
    batch : int
        Batches of the present epoch that were trained on.
    step : int
        Steps of the optimizer since the beginning.
    samples : int
        Samples trained on since the beginning.
    seconds : float
        Seconds of training, also those before the run was resumed; breaks do not count.

    Examples
    --------
    >>> from needle.train import Progress
    >>> Progress(step=3).state_dict()["step"]
    3
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0

    def state_dict(self) -> Json:
        """The counts, for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: Json) -> None:
        """Go on from a `state_dict`."""
        for name in asdict(self):
            setattr(self, name, type(getattr(self, name))(state[name]))
