"""Tabular: a fully connected network over numbers and embedded categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import nn, ops
from ..autograd import Tensor


class Tabular(nn.Module):
    """Predict from rows of numbers and categories: (B, columns) → (B, num_classes) or (B,).

    Categories are embedded, joined with the numbers and passed through `num_layers` layers of
    Linear, BatchNorm, ReLU and Dropout.

    Parameters
    ----------
    numbers : int
        How many columns, the first ones, are numbers.
    categories : sequence of int
        How many values each further column has; the column holds their ids.
    num_classes : int
        The number of logits; 0 predicts one number, `shift` + `scale` times the network's output.
    width, num_layers : int
        The layers' outputs and their number.
    embedding : int
        The length of an embedding.
    dropout : float
    shift, scale : float

    Raises
    ------
    ValueError
        If there are no columns.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.models.Tabular(2, [3], num_classes=4)
    >>> model(ndl.Tensor([[0.5, -1.0, 2.0], [0.1, 0.2, 0.0]])).shape
    (2, 4)
    """

    def __init__(
        self,
        numbers: int,
        categories: Sequence[int] = (),
        num_classes: int = 0,
        width: int = 128,
        num_layers: int = 2,
        embedding: int = 8,
        dropout: float = 0.1,
        shift: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if numbers + len(categories) < 1:
            raise ValueError("[Tabular] needs at least one column of numbers or categories")
        self.numbers, self.num_classes = numbers, num_classes
        self.shift, self.scale = shift, scale
        # All categories share one table; each column's ids begin after those of the one before.
        self.embedding = nn.Embedding(sum(categories), embedding) if categories else None
        self.first_ids = np.cumsum([0, *categories[:-1]]).astype(np.float32)
        fan_in = numbers + embedding * len(categories)
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Linear(fan_in, width), nn.BatchNorm1d(width), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            fan_in = width
        self.layers = nn.Sequential(*layers, nn.Linear(fan_in, num_classes or 1))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers, then ids (B, columns) → logits (B, num_classes), or numbers (B,)."""
        if self.embedding is not None:
            ids = (x[:, self.numbers :] + Tensor(self.first_ids, device=x.device)).astype("int64")
            embedded = self.embedding(ids)
            embedded = embedded.reshape((x.shape[0], -1))
            x = ops.concatenate([x[:, : self.numbers], embedded], 1) if self.numbers else embedded
        out: Tensor = self.layers(x)
        if self.num_classes:
            return out
        return out.reshape((-1,)) * self.scale + self.shift
