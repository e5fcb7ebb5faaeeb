"""Attention layers (Vaswani et al., 2017) and rotary position embeddings."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..operands import Mask
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike
from .arguments import Placement, positive_int
from .container import Identity
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm1d


class MultiHeadAttention(Module):
    """Attention of heads that are already split: softmax(q·kᵀ/√d + mask)·v. It has no parameters.

    Parameters
    ----------
    dropout : float, default 0.0
        The probability that an attention weight becomes 0 in training.
    causal : bool, default False
        Whether position t attends to positions up to t only.
    device, dtype : optional
        Accepted as by the other layers, and ignored.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> q = k = v = ndl.ones(2, 4, 5, 8)
    >>> result, probabilities = ndl.nn.MultiHeadAttention(causal=True)(q, k, v)
    >>> result.shape, probabilities.shape
    ((2, 4, 5, 8), (2, 4, 5, 5))
    """

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        causal: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor]:
        """Compute the result and the attention weights.

        Parameters
        ----------
        q, k, v : Tensor, shape (B, heads, T, d)
            Queries, keys and values.
        mask : array or Tensor, optional
            Broadcasts to (B, heads, T, T): booleans are True where a key may be seen, floats are
            added to the scores. See `needle.scaled_dot_product_attention`.

        Returns
        -------
        result : Tensor, shape (B, heads, T, d)
        probabilities : Tensor, shape (B, heads, T, T)
            The attention weights, after dropout.
        """
        scores = ops.matmul(q, ops.transpose(k)) / math.sqrt(q.shape[-1])
        added = None if mask is None else ops.additive_mask(mask, q, scores.shape)
        probs = self.dropout(ops.masked_softmax(scores, added, self.causal))
        return ops.matmul(probs, v), probs

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask = None) -> Tensor:
        """Return the result alone; without active dropout the probabilities are never stored."""
        if self.training and self.dropout.p > 0:
            return self.forward(q, k, v, mask)[0]
        return ops.scaled_dot_product_attention(q, k, v, mask, self.causal)


def dropout_or_nothing(p: float) -> Module:
    """Dropout, or for p = 0 the identity, which draws nothing."""
    return Dropout(p) if p else Identity()


class AttentionLayer(Module):
    """The course's attention layer: layer norm, projection into heads, attention, projection back.

    The projections have no biases.

    Parameters
    ----------
    q_features : int
        The number of features of the queries.
    num_heads : int
        The number of heads. `num_head`, the course's name, and `nhead` name the same argument.
    dim_head : int
        The number of features of each head.
    k_features, v_features : int, optional
        The numbers of features of the keys and the values; `q_features` if None.
    out_features : int, optional
        The number of features of the result; `q_features` if None.
    dropout : float, default 0.0
        The probability that an attention weight becomes 0 in training.
    causal : bool, default True
        Whether position t attends to positions up to t only.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.AttentionLayer(8, num_heads=2, dim_head=4)
    >>> layer(ndl.ones(3, 5, 8)).shape
    (3, 5, 8)
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
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        self.num_heads = positive_int("AttentionLayer", "num_heads", num_heads)
        self.dim_head = positive_int("AttentionLayer", "dim_head", dim_head)
        placement = Placement(device=device, dtype=dtype)
        k_features = q_features if k_features is None else k_features
        v_features = q_features if v_features is None else v_features
        inner = self.num_heads * self.dim_head
        self.prenorm_q = LayerNorm1d(q_features, **placement)
        self.prenorm_k = LayerNorm1d(k_features, **placement)
        self.prenorm_v = LayerNorm1d(v_features, **placement)
        self.q_projection = Linear(q_features, inner, bias=False, **placement)
        self.k_projection = Linear(k_features, inner, bias=False, **placement)
        self.v_projection = Linear(v_features, inner, bias=False, **placement)
        self.attn = MultiHeadAttention(dropout=dropout, causal=causal, **placement)
        out_features = q_features if out_features is None else out_features
        self.out_projection = Linear(inner, out_features, bias=False, **placement)

    @property
    def num_head(self) -> int:
        """The course's name of `num_heads`."""
        return self.num_heads

    def forward(self, q: Tensor, k: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        """Attend to the keys and values.

        Parameters
        ----------
        q : Tensor, shape (B, T, q_features)
            The sequences from which the queries are projected.
        k, v : Tensor, shapes (B, T, k_features) and (B, T, v_features), optional
            The sequences from which keys and values are projected; `q` if None.

        Returns
        -------
        Tensor, shape (B, T, out_features)

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
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
        out: Tensor = self.out_projection(ops.join_heads(self.attn.attend(*heads)))
        return out


class RotaryEmbedding(Module):
    """Rotary position embedding: rotate pairs of features by an angle proportional to the position.

    Feature i is paired with feature i + dim/2; the angle of the pair at position t is
    t·base^(-2i/dim). The layer has no parameters.

    Parameters
    ----------
    dim : int
        The number of features; it must be even.
    base : float, default 10000.0
        The base of the frequencies.

    Raises
    ------
    TypeError
        If `dim` is not an integer.
    ValueError
        If `dim` is odd or below 1.

    References
    ----------
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.

    Examples
    --------
    >>> import needle as ndl
    >>> rotate = ndl.nn.RotaryEmbedding(2)
    >>> rotate(ndl.Tensor([[1, 0]]))[0]
    needle.Tensor([1. 0.])
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        dim = positive_int("RotaryEmbedding", "dim", dim)
        if dim % 2:
            raise ValueError(f"[RotaryEmbedding] dim must be even, got {dim}")
        self.dim, self.base = dim, base

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate the features.

        Parameters
        ----------
        x : Tensor, shape (..., T, dim)
            The queries or keys of a head.
        start : int, default 0
            The position of the first of the T vectors.

        Returns
        -------
        Tensor, shape (..., T, dim)

        Raises
        ------
        ValueError
            If the last axis of `x` does not have length `dim`.
        """
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
    """Multi-head attention of a sequence to itself, with one joint input projection.

    Parameters
    ----------
    features : int
        The number of features of the input and the result, a multiple of `num_heads`.
    num_heads : int
        The number of heads; `num_head` and `nhead` are other names of this argument.
    dropout : float, default 0.0
        The dropout probability of the result. With 0 no random numbers are drawn.
    bias : bool, default True
        Whether the projections have biases.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    in_proj : Linear
        The projection to queries, keys and values, with 3·features columns.
    out_proj : Linear
        The projection of the joined heads.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If the heads do not divide the features.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.SelfAttention(8, num_heads=2)
    >>> layer(ndl.ones(3, 5, 8), causal=True).shape
    (3, 5, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        features: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        features = positive_int("SelfAttention", "features", features)
        self.num_heads = positive_int("SelfAttention", "num_heads", num_heads)
        if features % self.num_heads:
            raise ValueError(f"[SelfAttention] {num_heads} heads do not divide {features} features")
        self.in_proj = Linear(features, 3 * features, bias=bias, device=device, dtype=dtype)
        self.out_proj = Linear(features, features, bias=bias, device=device, dtype=dtype)
        self.dropout = dropout_or_nothing(dropout)

    @accepts_synonyms
    def forward(self, x: Tensor, mask: Mask = None, causal: bool = False) -> Tensor:
        """Attend to the sequence itself.

        Parameters
        ----------
        x : Tensor, shape (B, T, features)
            The sequences.
        mask : array or Tensor, optional
            Broadcasts to (B, heads, T, T): booleans are True where a key may be seen, floats are
            added to the scores. See `needle.scaled_dot_product_attention`.
        causal : bool, default False
            Whether position t attends to positions up to t only.

        Returns
        -------
        Tensor, shape (B, T, features)

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        seen = ops.self_attention(self.in_proj(x), self.num_heads, mask, causal)
        out: Tensor = self.dropout(self.out_proj(seen))
        return out


class CrossAttention(Module):
    """Multi-head attention of one sequence to another, the memory.

    Parameters
    ----------
    features : int
        The number of features of both sequences and of the result, a multiple of `num_heads`.
    num_heads : int
        The number of heads; `num_head` and `nhead` are other names of this argument.
    dropout : float, default 0.0
        The dropout probability of the result. With 0 no random numbers are drawn.
    bias : bool, default True
        Whether the projections have biases.
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    q_proj : Linear
        The projection of the sequence to queries.
    kv_proj : Linear
        The projection of the memory to keys and values, with 2·features columns.
    out_proj : Linear
        The projection of the joined heads.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If the heads do not divide the features.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.CrossAttention(8, num_heads=2)
    >>> layer(ndl.ones(3, 5, 8), ndl.ones(3, 7, 8)).shape
    (3, 5, 8)
    """

    @accepts_synonyms
    def __init__(
        self,
        features: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
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

    @accepts_synonyms
    def forward(self, x: Tensor, memory: Tensor, mask: Mask = None) -> Tensor:
        """Attend to the memory.

        Parameters
        ----------
        x : Tensor, shape (B, T, features)
            The sequences from which the queries are projected.
        memory : Tensor, shape (B, S, features)
            The sequences from which keys and values are projected.
        mask : array or Tensor, optional
            Broadcasts to (B, heads, T, S); see `needle.scaled_dot_product_attention`.

        Returns
        -------
        Tensor, shape (B, T, features)

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        q = ops.split_heads(self.q_proj(x), self.num_heads)
        k, v = (
            ops.split_heads(part, self.num_heads) for part in ops.chunk(self.kv_proj(memory), 2, 2)
        )
        seen = ops.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.dropout(self.out_proj(ops.join_heads(seen)))
        return out
