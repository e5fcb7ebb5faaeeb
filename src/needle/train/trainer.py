"""Trainer: the training loop for models of one's own."""

from __future__ import annotations

from .progress import Progress


class Trainer:
    """Trains a model."""

    progress: Progress

    def loss(self) -> float:
        """The loss of the last step; waits for the device."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """End `fit` after this step."""
        raise NotImplementedError
