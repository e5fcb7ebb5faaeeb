"""TextSamples: what a language model writes while it is trained."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..files import written_whole
from ..models import generate
from ..typing import Json
from .callbacks import Callback
from .tasks import NextToken, tokenizer_of
from .tolerance import Tolerance

if TYPE_CHECKING:
    from .trainer import Trainer

SECONDS = 60.0  # between samples
LENGTH = 300  # tokens of a sample


class TextSamples(Callback):
    """Write some text with the model to `samples/step-N.txt`, once a minute and at the end.

    Parameters
    ----------
    state : dict
        That of the tokenizer.
    """

    def __init__(self, state: Json) -> None:
        self.tokenizer = tokenizer_of(state)
        self._due = 0.0
        self._tolerance = Tolerance("[TextSamples] a sample of text")

    def on_fit_start(self, trainer: Trainer) -> None:
        """Begin to wait."""
        self._due = time.monotonic() + SECONDS

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write a sample, if it is time."""
        if time.monotonic() >= self._due:
            self._write(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Write the last sample, unless an error has ended training."""
        if trainer.error is None:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        model = trainer.model
        if trainer.run is None or not isinstance(model, NextToken):
            return
        before = np.random.get_state()
        was_training = model.training
        try:
            np.random.seed(0)
            start = self.tokenizer.encode("\n" if "\n" in self.tokenizer.vocabulary else " ")
        except ValueError:  # a text without white space
            start = np.zeros(1, np.int64)
        try:
            ids = list(generate(model.model, start, LENGTH, 0.8))
        finally:
            model.train(was_training)
            np.random.set_state(before)
        path = trainer.run.samples / f"step-{trainer.progress.step}.txt"
        with self._tolerance.writing(), written_whole(path) as file:
            file.write(self.tokenizer.decode(ids).encode("utf-8", "replace"))
        self._due = time.monotonic() + SECONDS
