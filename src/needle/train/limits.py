"""When training ends."""

from __future__ import annotations

import math

from .progress import Progress


class Limits:
    """The limits of one `fit`; infinity where there is none."""

    def __init__(
        self,
        epochs: int | None,
        steps: int | None,
        seconds: float | None,
        validate_every: int | None,
    ) -> None:
        self.epochs = math.inf if epochs is None else epochs
        self.steps = math.inf if steps is None else steps
        self.seconds = math.inf if seconds is None else seconds
        self.validate_every = validate_every

    def reached(self, progress: Progress) -> str | None:
        """The limit that is reached, in words."""
        if progress.epoch >= self.epochs:
            return f"{self.epochs} epochs are done"
        if progress.step >= self.steps:
            return f"{self.steps} steps are done"
        return f"{self.seconds:g} s are over" if progress.seconds >= self.seconds else None
