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
            return _done(self.epochs, "epoch")
        if progress.step >= self.steps:
            return _done(self.steps, "step")
        return f"{self.seconds:g} s are over" if progress.seconds >= self.seconds else None


def part_done(step: int, steps: int | None, seconds: float, limit: float) -> float | None:
    """How much of a training is done, in [0, 1]: of its steps or of its seconds, whichever is more.

    None where neither has a limit.
    """
    parts = [step / steps] if steps else []
    parts += [seconds / limit] if limit else []
    return min(1.0, max(parts)) if parts else None


def _done(count: float, what: str) -> str:
    return f"{count:,} {what} is done" if count == 1 else f"{count:,} {what}s are done"
