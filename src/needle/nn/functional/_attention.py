"""Scaled dot-product attention and multi-head attention."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray import is_float
from ._dropout import dropout


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v over the last two axes: q (…, T, d), k (…, S, d), v (…, S, e).

    `attn_mask` broadcasts to (…, T, S): booleans are True where a key may be seen, floats are added
    to the scores. `dropout_p` applies always, in evaluation too. `scale` defaults to 1/√d. A row
    that sees nothing gives zeros. Leading axes broadcast. With `enable_gqa` each head of `key` and
    `value` (axis -3) serves several heads of `query` (grouped-query attention).
    """
    if enable_gqa:
        key, value = (_for_all_heads(x, query) for x in (key, value))
    lead = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (ops.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (query, key, value))
    if dropout_p == 0 and len(lead) in (1, 2):
        four = [x if len(lead) == 2 else ops.unsqueeze(x, 1) for x in (query, key, value)]
        if attn_mask is not None and len(lead) == 1 and attn_mask.ndim == 3:
            attn_mask = ops.unsqueeze(attn_mask, 1)
        y = ops.scaled_dot_product_attention(four[0], four[1], four[2], attn_mask, is_causal, scale)
        return y if len(lead) == 2 else ops.squeeze(y, 1)
    probabilities = attention_weights(query, key, attn_mask, is_causal, scale)
    return ops.matmul(dropout(probabilities, dropout_p), value)


def _for_all_heads(x: Tensor, query: Tensor) -> Tensor:
    heads, groups = query.shape[-3], x.shape[-3]
    if heads % groups:
        raise ValueError(
            f"[scaled_dot_product_attention] enable_gqa needs a number of heads of the query, "
            f"{heads}, that {groups} heads of the key and the value divide"
        )
    return ops.repeat_interleave(x, heads // groups, -3)


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask), (…, T, S)."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = ops.matmul(query, ops.transpose(key)) * scale
    added = None if mask is None else ops.additive_mask(mask, query, scores.shape)
    return ops.masked_softmax(scores, added, causal)


def hidden(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of PyTorch's layers as one to add: booleans are True where a key is hidden."""
    if mask.dtype == "bool":
        return ops.where(mask, -math.inf, 0.0).astype(like.dtype)
    if not is_float(mask.dtype):
        raise TypeError(f"[attention] a mask must hold booleans or floats, got {mask.dtype}")
    return mask.astype(like.dtype)


def joined_mask(
    mask: Tensor | None, padding: Tensor | None, like: Tensor, batch: int, heads: int
) -> Tensor | None:
    """PyTorch's two masks as one to add, that broadcasts to (B, heads, T, S).

    `mask` is (T, S) or (B·heads, T, S), `padding` (B, S). Raises ValueError for other shapes.
    """
    added: Tensor | None = None
    if mask is not None:
        added = hidden(mask, like)
        if mask.ndim == 3 and mask.shape[0] == batch * heads:
            added = added.reshape((batch, heads, *mask.shape[1:]))
        elif mask.ndim != 2:
            raise ValueError(
                f"[attention] a mask must be (T, S) or ({batch * heads}, T, S), got {mask.shape}"
            )
    if padding is not None:
        if padding.ndim != 2 or padding.shape[0] != batch:
            raise ValueError(
                f"[attention] key_padding_mask must have shape ({batch}, S), got {padding.shape}"
            )
        columns = hidden(padding, like).reshape((batch, 1, 1, padding.shape[1]))
        added = columns if added is None else added + columns
    return added
