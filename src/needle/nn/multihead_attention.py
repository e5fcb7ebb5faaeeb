"""Multi-head attention under PyTorch's name, signature and state dict."""

from __future__ import annotations

import math

import numpy as np

from .. import init, ops
from ..autograd import Tensor
from ..backend_selection import Device
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike
from .arguments import in_unit_interval, positive_int
from .functional._attention import attention_weights, hidden, joined_mask
from .functional._dropout import dropout
from .linear import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """Attention of several heads, with projections of queries, keys and values.

    Unlike in needle's own attention layers, a mask of booleans is True where a key is hidden.

    Parameters
    ----------
    embed_dim : int
        The number of features of the queries and of the result, a multiple of `num_heads`.
    num_heads : int
        The number of heads; `num_head` and `nhead` are other names of this argument.
    dropout : float, default 0.0
        The probability that an attention weight becomes 0 in training.
    bias : bool, default True
        Whether the projections have biases.
    add_bias_kv : bool, default False
        Whether a learned key and value are added, `bias_k` and `bias_v` (1, 1, embed_dim).
    add_zero_attn : bool, default False
        Whether a key and a value of zeros are added.
    kdim, vdim : int, optional
        The numbers of features of the keys and of the values; `embed_dim` if None.
    batch_first : bool, default False
        Whether inputs and result are (B, T, features) instead of (T, B, features).
    device : Device or str, optional
        The device of the parameters; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The floating-point dtype of the parameters.

    Attributes
    ----------
    in_proj_weight : Parameter, shape (3·embed_dim, embed_dim), or None
        The projections one below the other, in PyTorch's layout. With another `kdim` or `vdim`
        there are `q_proj_weight`, `k_proj_weight` and `v_proj_weight` instead.
    in_proj_bias : Parameter, shape (3·embed_dim,), or None
    out_proj : Linear
        The projection of the joined heads.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = ndl.ones(3, 5, 8)
    >>> y, weights = layer(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    @accepts_synonyms
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Device | str | None = None,
        dtype: DTypeLike | None = "float32",
    ) -> None:
        super().__init__()
        name = "MultiheadAttention"
        self.embed_dim = positive_int(name, "embed_dim", embed_dim)
        self.num_heads = positive_int(name, "num_heads", num_heads)
        if embed_dim % num_heads:
            raise ValueError(f"[{name}] {num_heads} heads do not divide {embed_dim} features")
        self.add_zero_attn = add_zero_attn
        self.dropout = in_unit_interval(name, "dropout", dropout)
        self.kdim = embed_dim if kdim is None else positive_int(name, "kdim", kdim)
        self.vdim = embed_dim if vdim is None else positive_int(name, "vdim", vdim)
        self.batch_first = batch_first
        self._draw(bias, device, dtype)
        self.bias_k: Parameter | None = None
        self.bias_v: Parameter | None = None
        if add_bias_kv:
            deviation = math.sqrt(2 / (2 * embed_dim))  # Xavier normal

            def draw() -> Parameter:
                shape = (1, 1, embed_dim)
                return Parameter(init.randn(*shape, std=deviation, device=device, dtype=dtype))

            self.bias_k, self.bias_v = draw(), draw()

    def _draw(self, bias: bool, device: Device | str | None, dtype: DTypeLike | None) -> None:
        size = self.embed_dim

        def draw(rows: int, columns: int) -> Parameter:
            bound = math.sqrt(6 / (rows + columns))  # Xavier uniform
            values = init.rand(rows, columns, low=-bound, high=bound, device=device, dtype=dtype)
            return Parameter(values)

        self.in_proj_weight: Parameter | None = None
        if (self.kdim, self.vdim) == (size, size):
            self.in_proj_weight = draw(3 * size, size)
        else:
            self.q_proj_weight = draw(size, size)
            self.k_proj_weight = draw(size, self.kdim)
            self.v_proj_weight = draw(size, self.vdim)
        self.in_proj_bias = None
        if bias:
            self.in_proj_bias = Parameter(init.zeros(3 * size, device=device, dtype=dtype))
        self.out_proj = Linear(size, size, bias=bias, device=device, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = init.zeros_like(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the keys.

        Parameters
        ----------
        query : Tensor, shape (T, B, embed_dim)
            The queries; (B, T, embed_dim) with `batch_first`, (T, embed_dim) without a batch.
        key, value : Tensor, shapes (S, B, kdim) and (S, B, vdim)
            The keys and values, likewise.
        key_padding_mask : Tensor, shape (B, S), optional
            Booleans that are True where a key is padding, or floats to add to the scores.
        need_weights : bool, default True
            Whether the attention weights are returned; without them less memory is needed.
        attn_mask : Tensor, shape (T, S) or (B·num_heads, T, S), optional
            Booleans that are True where a key is hidden, or floats to add to the scores.
        average_attn_weights : bool, default True
            Whether the weights are averaged over the heads.
        is_causal : bool, default False
            Whether position t sees keys up to t only, besides `attn_mask`.

        Returns
        -------
        output : Tensor, the shape of `query`
            A query that sees no key gets the output projection of zeros.
        weights : Tensor, shape (B, T, S) or (B, num_heads, T, S), or None

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        if query.ndim == 2:
            three = [ops.unsqueeze(x, 0) for x in (query, key, value)]
            if key_padding_mask is not None:
                key_padding_mask = ops.unsqueeze(key_padding_mask, 0)
        elif self.batch_first:
            three = [query, key, value]
        else:
            three = [ops.transpose(x, (0, 1)) for x in (query, key, value)]
        self._check(three)
        heads = [ops.split_heads(x, self.num_heads) for x in self._projected(three)]
        mask = joined_mask(attn_mask, key_padding_mask, heads[0], heads[0].shape[0], self.num_heads)
        if self.bias_k is not None or self.add_zero_attn:
            if is_causal:
                mask = _with_causal(mask, heads[0], heads[1].shape[2])
                is_causal = False
            heads, mask = self._with_more_keys(heads, mask)
        seen, weights = self._attend(heads, mask, need_weights, is_causal)
        y = self.out_proj(ops.join_heads(seen))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if query.ndim == 2:
            return ops.squeeze(y, 0), None if weights is None else ops.squeeze(weights, 0)
        return (y if self.batch_first else ops.transpose(y, (0, 1))), weights

    def _check(self, three: list[Tensor]) -> None:
        q, k, v = (x.shape for x in three)
        widths = self.embed_dim, self.kdim, self.vdim
        fits = len(q) == len(k) == len(v) == 3 and (q[2], k[2], v[2]) == widths
        if not fits or not q[0] == k[0] == v[0] or k[1] != v[1]:
            raise ValueError(
                f"[MultiheadAttention] needs query, key and value of {widths} features with one "
                f"batch and keys as long as values; as (B, T, features) they are {q}, {k} and {v}"
            )

    def _projected(self, three: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values, (B, T, embed_dim) each."""
        size = self.embed_dim
        bounds = (0, size), (size, 2 * size), (2 * size, 3 * size)
        if self.in_proj_weight is None:
            weights: list[Tensor] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = [self.in_proj_weight[a:b] for a, b in bounds]
        projected = []
        for x, weight, (a, b) in zip(three, weights, bounds, strict=True):
            bias = None if self.in_proj_bias is None else self.in_proj_bias[a:b]
            projected.append(ops.linear(x, ops.transpose(weight), bias))
        return projected

    def _with_more_keys(
        self, heads: list[Tensor], mask: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """The heads with the learned key and the key of zeros, which no mask hides."""
        query, key, value = heads
        batch, count, _, width = key.shape
        more: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            learned = (x.reshape((1, count, 1, width)) for x in (self.bias_k, self.bias_v))
            k, v = (ops.broadcast_to(x, (batch, count, 1, width)) for x in learned)
            more.append((k, v))
        if self.add_zero_attn:
            zeros = init.zeros(batch, count, 1, width, device=key.device, dtype=key.dtype)
            more.append((zeros, zeros))
        for k, v in more:
            key, value = ops.concatenate([key, k], 2), ops.concatenate([value, v], 2)
            if mask is not None:
                seen = init.zeros(*mask.shape[:-1], 1, device=mask.device, dtype=mask.dtype)
                mask = ops.concatenate([mask, seen], mask.ndim - 1)
        return [query, key, value], mask

    def _attend(
        self, heads: list[Tensor], mask: Tensor | None, need_weights: bool, causal: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = heads
        drops = self.training and self.dropout > 0
        if not need_weights and not drops:
            return ops.scaled_dot_product_attention(q, k, v, mask, causal), None
        weights = attention_weights(q, k, mask, causal)
        if drops:
            weights = dropout(weights, self.dropout)
        return ops.matmul(weights, v), weights if need_weights else None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


def _with_causal(mask: Tensor | None, query: Tensor, keys: int) -> Tensor:
    """The mask that hides later keys, too."""
    later = np.triu(np.ones((query.shape[2], keys), bool), 1)
    added = hidden(Tensor(later, device=query.device, requires_grad=False), query)
    return added if mask is None else mask + added
