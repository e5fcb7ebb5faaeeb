"""LanguageModel: an embedding, a sequence model and a linear map to the vocabulary."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .. import nn
from ..autograd import Tensor, no_grad
from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..typing import DTypeLike

SEQUENCE_MODELS = ("rnn", "lstm", "transformer")


# The state of a recurrent model: h, or (h, c) of an LSTM.
State: TypeAlias = Tensor | tuple[Tensor, Tensor] | None


class LanguageModel(nn.Module):
    """Predicts the next of `output_size` tokens at every position.

    `seq_model` is "rnn", "lstm" (hidden_size is their state's) or "transformer" (hidden_size is
    that of its two-layer nets, sequences are at most seq_len long).
    """

    def __init__(
        self,
        embedding_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int = 1,
        seq_model: str = "rnn",
        seq_len: int = 40,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        if seq_model not in SEQUENCE_MODELS:
            raise ValueError(
                f"[LanguageModel] seq_model must be one of {SEQUENCE_MODELS}, got {seq_model!r}"
            )
        seq_len = whole(seq_len, "LanguageModel", "seq_len")
        self.output_size = output_size
        self.embedding = nn.Embedding(output_size, embedding_size, device=device, dtype=dtype)
        self.seq_model: nn.Module
        width = hidden_size
        if seq_model == "transformer":
            width = embedding_size
            self.seq_model = nn.Transformer(
                embedding_size, hidden_size, num_layers, sequence_len=seq_len, device=device,
                dtype=dtype,
            )  # fmt: skip
        else:
            kind = nn.RNN if seq_model == "rnn" else nn.LSTM
            self.seq_model = kind(
                embedding_size, hidden_size, num_layers, device=device, dtype=dtype
            )
        self.linear = nn.Linear(width, output_size, device=device, dtype=dtype)

    def forward(self, x: Tensor, h: State = None) -> tuple[Tensor, State]:
        """x (T, B) of token ids, state h or None → (logits (T·B, output_size), state)."""
        states, h = self.seq_model(self.embedding(x), h)
        return self.linear(states.reshape((-1, states.shape[-1]))), h

    def predict_tokens(self, x: Tensor) -> Tensor:
        """x (B, T) of token ids → logits (B·T, output_size)."""
        b, t = x.shape
        logits: Tensor
        logits, _ = self(x.transpose((0, 1)))
        return logits.reshape((t, b, -1)).transpose((0, 1)).reshape((b * t, -1))

    @no_grad()
    def next_logits(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """The logits (output_size,) that follow `ids` (T,), and the state to go on from."""
        if isinstance(self.seq_model, nn.Transformer):  # which has no state: it reads all again
            ids = np.concatenate([[] if state is None else state, ids])
            ids = ids[-self.seq_model.sequence_len :].astype(np.int64)
            state = ids
            logits, _ = self(Tensor(ids[:, np.newaxis], device=self.linear.weight.device))
        else:
            x = Tensor(ids[:, np.newaxis], device=self.linear.weight.device)
            logits, state = self(x, state)
        return logits.numpy()[-1], state
