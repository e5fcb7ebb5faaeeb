"""Batches of text for the training loop, and models of the next token as it wants them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..models import GPT, LanguageModel


class NextToken(nn.Module):
    """A language model seen as a classifier: ids (B, T) → logits (B·T, vocabulary)."""

    def __init__(self, model: GPT | LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The logits of every next token."""
        return self.model.predict_tokens(x)


class Windows:
    """`steps` batches of windows that start anywhere in `ids`, drawn anew at each `iter()`.

    A batch is (ids (B, length), the ids that follow each, (B·length,)).
    """

    def __init__(self, ids: np.ndarray, length: int, batch_size: int, steps: int) -> None:
        if len(ids) <= length:
            raise ValueError(
                f"[Windows] a text of {len(ids)} tokens has no windows of {length} + 1"
            )
        self.ids, self.length, self.batch_size, self.steps = ids, length, batch_size, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        last = len(self.ids) - self.length
        return (
            _batch(self.ids, np.random.randint(last, size=self.batch_size), self.length)
            for _ in range(self.steps)
        )


def parts(ids: np.ndarray, length: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """All of `ids` as batches of windows side by side; what is left at the end is dropped."""
    starts = np.arange(0, len(ids) - length, length)
    return [
        _batch(ids, starts[i : i + batch_size], length) for i in range(0, len(starts), batch_size)
    ]


def _batch(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    windows = ids[starts[:, np.newaxis] + np.arange(length + 1)]
    return Tensor(windows[:, :-1]), Tensor(windows[:, 1:].reshape(-1))
