"""Attention and Transformer layers (Vaswani et al., 2017)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..synonyms import accepts_synonyms
from .activation import GELU, ReLU
from .arguments import one_of, positive_int
from .container import Identity
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .module import Module
from .norm import LayerNorm, LayerNorm1d


class MultiHeadAttention(Module):
    """softmax(q·kᵀ/√d + mask)·v on heads that are already split; no weights.

    With `causal` position t sees those up to t.
    """

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        causal: bool = False,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
        """q, k, v (B, heads, T, d) → (result (B, heads, T, d), probabilities (B, heads, T, T)).

        `mask` (for padding, say) as `ops.scaled_dot_product_attention` takes it.
        """
        scores = ops.matmul(q, ops.transpose(k)) / math.sqrt(q.shape[-1])
        added = None if mask is None else ops.additive_mask(mask, q, scores.shape)
        probs = self.dropout(ops.masked_softmax(scores, added, self.causal))
        return ops.matmul(probs, v), probs

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
        """The result alone; without active dropout the probabilities are never stored."""
        if self.training and self.dropout.p > 0:
            return self.forward(q, k, v, mask)[0]
        return ops.scaled_dot_product_attention(q, k, v, mask, self.causal)


def dropout_or_nothing(p: float) -> Module:
    """Dropout, or for p = 0 the identity, which draws nothing."""
    return Dropout(p) if p else Identity()


class AttentionLayer(Module):
    """Norm, projection into heads, attention and projection back: (B, T, features).

    The projections have no biases.
    """

    @accepts_synonyms
    def __init__(
        self,
        q_features: int,
        num_heads: int,
        dim_head: int,
        *,
        k_features: int | None = None,
        v_features: int | None = None,
        out_features: int | None = None,
        dropout: float = 0.0,
        causal: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.num_heads = positive_int("AttentionLayer", "num_heads", num_heads)
        self.dim_head = positive_int("AttentionLayer", "dim_head", dim_head)
        options = {"device": device, "dtype": dtype}
        k_features = q_features if k_features is None else k_features
        v_features = q_features if v_features is None else v_features
        inner = self.num_heads * self.dim_head
        self.prenorm_q = LayerNorm1d(q_features, **options)
        self.prenorm_k = LayerNorm1d(k_features, **options)
        self.prenorm_v = LayerNorm1d(v_features, **options)
        self.q_projection = Linear(q_features, inner, bias=False, **options)
        self.k_projection = Linear(k_features, inner, bias=False, **options)
        self.v_projection = Linear(v_features, inner, bias=False, **options)
        self.attn = MultiHeadAttention(dropout=dropout, causal=causal, **options)
        out_features = q_features if out_features is None else out_features
        self.out_projection = Linear(inner, out_features, bias=False, **options)

    @property
    def num_head(self) -> int:
        """`num_heads`, by the course's name."""
        return self.num_heads

    def forward(self, q: Tensor, k: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        """q (B, T, q_features), k and v like q unless given → (B, T, out_features)."""
        k = q if k is None else k
        v = q if v is None else v
        if any(x.ndim != 3 for x in (q, k, v)):
            raise ValueError(
                f"[AttentionLayer] needs (B, T, features), got {q.shape}, {k.shape}, {v.shape}"
            )
        heads = (
            ops.split_heads(self.q_projection(self.prenorm_q(q)), self.num_heads),
            ops.split_heads(self.k_projection(self.prenorm_k(k)), self.num_heads),
            ops.split_heads(self.v_projection(self.prenorm_v(v)), self.num_heads),
        )
        return self.out_projection(ops.join_heads(self.attn.attend(*heads)))


class TransformerLayer(Module):
    """x + dropout(attention(x)), then x + dropout(linear2(dropout(relu(linear1(norm(x))))))."""

    @accepts_synonyms
    def __init__(
        self,
        q_features: int,
        num_heads: int,
        dim_head: int,
        hidden_size: int,
        *,
        dropout: float = 0.0,
        causal: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        self.attention = AttentionLayer(
            q_features, num_heads, dim_head, dropout=dropout, causal=causal, **options
        )
        self.dropout1 = Dropout(dropout)
        self.layernorm = LayerNorm1d(q_features, **options)
        self.linear1 = Linear(q_features, hidden_size, **options)
        self.dropout2 = Dropout(dropout)
        self.linear2 = Linear(hidden_size, q_features, **options)
        self.dropout3 = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, q_features), the shape kept."""
        x = x + self.dropout1(self.attention(x))
        hidden = self.dropout2(ops.relu(self.linear1(self.layernorm(x))))
        return x + self.dropout3(self.linear2(hidden))


class Transformer(Module):
    """Learned positions and a stack of TransformerLayers.

    Without `batch_first` tensors are (T, B, embedding_size).
    """

    @accepts_synonyms
    def __init__(
        self,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        num_heads: int = 8,
        dim_head: int = 32,
        dropout: float = 0.0,
        causal: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
        batch_first: bool = False,
        sequence_len: int = 2048,
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        self.batch_first = batch_first
        self.sequence_len = positive_int("Transformer", "sequence_len", sequence_len)
        self.embedding = Embedding(sequence_len, embedding_size, **options)
        self.layers = [
            TransformerLayer(
                embedding_size, num_heads, dim_head, hidden_size, dropout=dropout, causal=causal,
                **options,
            )
            for _ in range(positive_int("Transformer", "num_layers", num_layers))
        ]  # fmt: skip

    def forward(self, x: Tensor, h: Any = None) -> tuple[Tensor, Tensor]:
        """x (T, B, E), or (B, T, E) with batch_first → (x, zeros like x): there is no state."""
        if x.ndim != 3:
            raise ValueError(f"[Transformer] needs 3 axes, got shape {x.shape}")
        if not self.batch_first:
            x = ops.transpose(x, (0, 1))
        length = x.shape[1]
        if length > self.sequence_len:
            raise ValueError(
                f"[Transformer] the sequence of {length} exceeds sequence_len={self.sequence_len}"
            )
        x = x + self.embedding.weight[:length]
        for layer in self.layers:
            x = layer(x)
        if not self.batch_first:
            x = ops.transpose(x, (0, 1))
        return x, init.zeros_like(x)


class RotaryEmbedding(Module):
    """Turns pairs of features by an angle that grows with the position (Su et al., 2021).

    Feature i is paired with feature i + dim/2. Positions need no table; `dim` must be even.
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        dim = positive_int("RotaryEmbedding", "dim", dim)
        if dim % 2:
            raise ValueError(f"[RotaryEmbedding] dim must be even, got {dim}")
        self.dim, self.base = dim, base

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(…, T, dim), the shape kept; the first position is `start`."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"[RotaryEmbedding] needs (…, T, {self.dim}), got shape {x.shape}")
        frequencies = self.base ** (-np.arange(0, self.dim, 2) / self.dim)
        angles = np.outer(np.arange(start, start + x.shape[-2]), frequencies)
        cos, sin = (
            Tensor(f(angles), device=x.device, dtype=x.dtype, requires_grad=False)
            for f in (np.cos, np.sin)
        )
        a, b = x[..., : self.dim // 2], x[..., self.dim // 2 :]
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], x.ndim - 1)


class SelfAttention(Module):
    """Attention of a sequence to itself, with one projection for q, k and v: (B, T, features)."""

    @accepts_synonyms
    def __init__(
        self,
        features: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        features = positive_int("SelfAttention", "features", features)
        self.num_heads = positive_int("SelfAttention", "num_heads", num_heads)
        if features % self.num_heads:
            raise ValueError(f"[SelfAttention] {num_heads} heads do not divide {features} features")
        self.in_proj = Linear(features, 3 * features, bias=bias, device=device, dtype=dtype)
        self.out_proj = Linear(features, features, bias=bias, device=device, dtype=dtype)
        self.dropout = dropout_or_nothing(dropout)

    def forward(self, x: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
        """x (B, T, features); `mask` as `ops.scaled_dot_product_attention` takes it."""
        seen = ops.self_attention(self.in_proj(x), self.num_heads, mask, causal)
        return self.dropout(self.out_proj(seen))


class CrossAttention(Module):
    """Attention of one sequence to another, the memory: (B, T, features)."""

    @accepts_synonyms
    def __init__(
        self,
        features: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        features = positive_int("CrossAttention", "features", features)
        self.num_heads = positive_int("CrossAttention", "num_heads", num_heads)
        if features % self.num_heads:
            raise ValueError(
                f"[CrossAttention] {num_heads} heads do not divide {features} features"
            )
        self.q_proj = Linear(features, features, bias=bias, device=device, dtype=dtype)
        self.kv_proj = Linear(features, 2 * features, bias=bias, device=device, dtype=dtype)
        self.out_proj = Linear(features, features, bias=bias, device=device, dtype=dtype)
        self.dropout = dropout_or_nothing(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Any = None) -> Tensor:
        """x (B, T, features), memory (B, S, features); `mask` broadcasts to (B, heads, T, S)."""
        q = ops.split_heads(self.q_proj(x), self.num_heads)
        k, v = (
            ops.split_heads(part, self.num_heads) for part in ops.chunk(self.kv_proj(memory), 2, 2)
        )
        seen = ops.scaled_dot_product_attention(q, k, v, mask)
        return self.dropout(self.out_proj(ops.join_heads(seen)))


class TransformerEncoderLayer(Module):
    """PyTorch's encoder layer: self-attention and a two-layer net, each with residual and norm.

    `norm_first` normalizes before each part instead of after it. Input is (B, T, d_model) with
    `batch_first`, else (T, B, d_model).
    """

    @accepts_synonyms
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        one_of("TransformerEncoderLayer", "activation", activation, ("relu", "gelu"))
        self.batch_first, self.norm_first = batch_first, norm_first
        self.self_attn = SelfAttention(d_model, num_heads, dropout, **options)
        self.linear1 = Linear(d_model, dim_feedforward, **options)
        self.activation = ReLU() if activation == "relu" else GELU()
        self.dropout = dropout_or_nothing(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **options)
        self.dropout2 = dropout_or_nothing(dropout)
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, **options)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, **options)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

    def forward(self, x: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
        """The shape kept; `mask` broadcasts to (B, heads, T, T)."""
        x = x if self.batch_first else ops.transpose(x, (0, 1))
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask, causal)
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x + self.self_attn(x, mask, causal))
            x = self.norm2(x + self._feed_forward(x))
        return x if self.batch_first else ops.transpose(x, (0, 1))


class TransformerDecoderLayer(TransformerEncoderLayer):
    """PyTorch's decoder layer: self-attention, attention to a memory, and a two-layer net.

    Arguments as for `TransformerEncoderLayer`.
    """

    @accepts_synonyms
    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        device: Device | str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(
            d_model, num_heads, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, device, dtype,
        )  # fmt: skip
        self.multihead_attn = CrossAttention(
            d_model, num_heads, dropout, device=device, dtype=dtype
        )
        self.norm3 = LayerNorm(d_model, eps=layer_norm_eps, device=device, dtype=dtype)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        memory: Tensor,
        mask: Any = None,
        causal: bool = False,
        memory_mask: Any = None,
    ) -> Tensor:
        """x and memory in the layout of `batch_first`; the shape of x is kept."""
        if not self.batch_first:
            x, memory = ops.transpose(x, (0, 1)), ops.transpose(memory, (0, 1))
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), mask, causal)
            x = x + self.multihead_attn(self.norm2(x), memory, memory_mask)
            x = x + self._feed_forward(self.norm3(x))
        else:
            x = self.norm1(x + self.self_attn(x, mask, causal))
            x = self.norm2(x + self.multihead_attn(x, memory, memory_mask))
            x = self.norm3(x + self._feed_forward(x))
        return x if self.batch_first else ops.transpose(x, (0, 1))
