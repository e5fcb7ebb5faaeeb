"""GPT: a decoder of pre-norm Transformer blocks (Radford et al., 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import init, nn, ops
from ..autograd import Tensor, no_grad
from ..backend_selection import Device
from ..nn.arguments import Placement
from ..nn.attention import dropout_or_nothing
from ..typing import DTypeLike

KeysAndValues = tuple[Tensor, Tensor]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): (B, T, width), the shape kept."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float,
        activation: nn.Module,
        device: Device | str | None,
        dtype: DTypeLike | None,
    ) -> None:
        super().__init__()
        placement = Placement(device=device, dtype=dtype)
        self.norm1 = nn.LayerNorm(width, **placement)
        self.attention = nn.SelfAttention(width, num_heads, dropout, **placement)
        self.norm2 = nn.LayerNorm(width, **placement)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, **placement),
            activation,
            nn.Linear(4 * width, width, **placement),
            dropout_or_nothing(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """All positions at once."""
        x = x + self.attention(self.norm1(x), causal=True)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def extend(self, x: Tensor, past: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        """New positions x (B, T, width) after those whose keys and values are in `past`.

        T is 1 unless `past` is None.
        """
        attention = self.attention
        parts = ops.chunk(attention.in_proj(self.norm1(x)), 3, 2)
        q, k, v = (ops.split_heads(part, attention.num_heads) for part in parts)
        if past is not None:
            k, v = ops.concatenate([past[0], k], 2), ops.concatenate([past[1], v], 2)
        seen = ops.scaled_dot_product_attention(q, k, v, causal=past is None)
        x = x + attention.out_proj(ops.join_heads(seen))
        return x + self.mlp(self.norm2(x)), (k, v)


class GPT(nn.Module):
    """Predicts the next of `vocabulary` tokens at every one of up to `length` positions.

    Token and learned position embeddings, `num_layers` blocks, a last norm and a head; the head's
    weights are the token embedding's when `tied`. `activation` is "gelu" or "relu". Weights are
    normal with deviation 0.02, those that end a residual branch 0.02/√(2·num_layers).
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.0,
        activation: str = "gelu",
        tied: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        if activation not in ("gelu", "relu"):
            raise ValueError(f'[GPT] activation must be "gelu" or "relu", got {activation!r}')
        placement = Placement(device=device, dtype=dtype)
        self.vocabulary, self.length, self.tied = vocabulary, length, tied
        self.tokens = nn.Embedding(vocabulary, width, **placement)
        self.positions = nn.Embedding(length, width, **placement)
        self.dropout = dropout_or_nothing(dropout)
        make = nn.GELU if activation == "gelu" else nn.ReLU
        self.blocks = [
            Block(width, num_heads, dropout, make(), device, dtype) for _ in range(num_layers)
        ]
        self.norm = nn.LayerNorm(width, **placement)
        self.head = None if tied else nn.Linear(width, vocabulary, bias=False, **placement)
        self._draw(num_layers)

    def _draw(self, num_layers: int) -> None:
        for name, p in self.named_parameters():
            placement = Placement(device=p.device, dtype=p.dtype)
            if name.endswith("bias"):
                p.data = init.zeros(*p.shape, **placement)
            elif p.ndim == 2:
                ends_branch = name.endswith(("out_proj.weight", "mlp.2.weight"))
                std = 0.02 / (2 * num_layers) ** 0.5 if ends_branch else 0.02
                p.data = init.randn(*p.shape, std=std, **placement)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) → logits (B, T, vocabulary). Raises ValueError for T above `length`."""
        x = self.dropout(self._embed(ids, 0))
        for block in self.blocks:
            x = block(x)
        return self._logits(x)

    def _embed(self, ids: Tensor, start: int) -> Tensor:
        if ids.ndim != 2 or start + ids.shape[1] > self.length:
            raise ValueError(
                f"[GPT] needs ids (B, T) with T at most length={self.length}, got shape {ids.shape}"
                + (f" after {start} positions" if start else "")
            )
        out: Tensor = self.tokens(ids) + self.positions.weight[start : start + ids.shape[1]]
        return out

    def _logits(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if self.head is not None:
            out: Tensor = self.head(x)
            return out
        return ops.linear(x, self.tokens.weight.transpose())  # one product for the whole batch

    def predict_tokens(self, x: Tensor) -> Tensor:
        """x (B, T) of token ids → logits (B·T, vocabulary)."""
        logits: Tensor = self(x)
        return logits.reshape((-1, self.vocabulary))

    @no_grad()
    def next_logits(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """The logits (vocabulary,) that follow `ids` (T,), and the state to go on from.

        The state holds the tokens read and every block's keys and values, so that a further token
        costs one position. When all positions are taken the later half is read anew. Raises
        ValueError where there are no `ids`.
        """
        if not len(ids):
            raise ValueError("[GPT] next_logits needs at least one token, ids is empty")
        read, past = state if state is not None else (np.zeros(0, np.int64), None)
        read = np.concatenate([read, np.asarray(ids, np.int64)])
        if len(read) > self.length:
            read, past = read[-max(self.length // 2, 1) :], None
        if past is not None and len(ids) > 1:
            past = None  # several tokens at once are read from the beginning
        fresh = read if past is None else read[-1:]
        device = self.tokens.weight.device
        x = self._embed(Tensor(fresh[np.newaxis], device=device), len(read) - len(fresh))
        known = []
        for i, block in enumerate(self.blocks):
            x, kept = block.extend(x, None if past is None else past[i])
            known.append(kept)
        return self._logits(x[:, -1:]).numpy()[0, 0], (read, known)
