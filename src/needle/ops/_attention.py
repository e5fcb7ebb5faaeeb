"""Scaled dot-product attention as one op whose memory grows with the length, not its square."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import Tensor, Value, is_grad_enabled
from ..backend_ndarray import NDArray, is_float, widened
from ..backend_ndarray.layout import broadcast_shapes, whole
from ..operands import Mask
from ._activation import Softmax, along_last_axis
from ._common import FusedOp, of_one_dtype
from ._comparison import where
from ._joining import chunk
from ._linalg import matmul
from ._reduction import max as largest
from ._shape import broadcast_to, permute, reshape


class SoftmaxOfSeen(Softmax):
    """Softmax in which a row of -inf alone, that sees nothing, gives 0 and has zero gradient."""

    def decompose(self, a: Tensor) -> Tensor:  # type: ignore[override]
        return where(_is_blind(a), 0.0, super().decompose(a))

    def compute(self, a: NDArray) -> NDArray:
        out = super().compute(a)
        blind = _is_blind(Tensor.make_const(a)).realize_cached_data()
        return nd.where(blind, 0.0, out)


def _is_blind(scores: Tensor) -> Tensor:
    """Whether the largest score of each row (n, 1) is -inf."""
    return largest(scores.detach(), 1, keepdims=True) == -math.inf


def masked_softmax(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The probabilities of attention: softmax(scores + mask) along the last axis.

    scores are (…, T, S); what a row may not see has a score of -inf: by `mask`, which is added, and
    with `causal` the columns after t in row t. A row that sees nothing gives zeros.
    """
    if mask is not None:
        scores = scores + mask.astype(scores.dtype)
    if causal:
        rows, columns = scores.shape[-2:]
        seen = NDArray(np.tri(rows, columns, dtype=bool), device=scores.device, dtype="bool")
        scores = where(Tensor.make_const(seen), scores, -math.inf)
    if not scores.shape[-1]:
        return scores
    return along_last_axis(SoftmaxOfSeen(), scores, -1, "attention")


class Attention(FusedOp):
    """softmax(q·kᵀ·scale + mask)·v, computed block by block of rows (Dao et al., 2022).

    `mask` is an array (B, H, T, S) to add, or None; float32 where q, k and v are narrower. The
    forward pass keeps the terms of each row's logsumexp, its largest score and the logarithm of the
    sum of exp(score - largest); the gradient computes the probabilities again from them.
    """

    kernel = "attention"

    def __init__(self, mask: NDArray | None, causal: bool, scale: float) -> None:
        self.mask, self.causal, self.scale = mask, causal, scale
        self.lse: NDArray | None = None

    def decompose(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        dtype = q.dtype
        q, k, v = (x.astype(widened(dtype)) for x in (q, k, v))
        if self.mask is not None:
            mask = Tensor.make_const(self.mask)
        probabilities = masked_softmax(matmul(q, k.transpose()) * self.scale, mask, self.causal)
        return matmul(probabilities, v).astype(dtype)

    def compute(self, q: NDArray, k: NDArray, v: NDArray) -> NDArray:
        if self.fused(q) is None:
            return self.compute_by_parts(q, k, v)
        out = NDArray._empty((*q.shape[:3], v.shape[3]), q._device, q._dtype)
        self._forward((q, k, v), out)
        return out

    def _forward(self, qkv: Sequence[NDArray], out: NDArray) -> None:
        q = qkv[0]
        self.lse = NDArray._empty((*q.shape[:3], 2), q._device, widened(q._dtype))
        q._device.fused("attention")(*qkv, self.mask, out, self.lse, self.scale, self.causal)  # type: ignore[misc]

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        if self.lse is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        arrays = [v.realize_cached_data() for v in node.inputs]
        grads = [NDArray._empty(x._shape, x._device, x._dtype) for x in arrays]
        g, out = out_grad.realize_cached_data(), node.realize_cached_data()
        self._backward(g, arrays, out, grads)
        return tuple(map(Tensor.make_const, grads))

    def _backward(
        self, g: NDArray, qkv: Sequence[NDArray], out: NDArray, grads: Sequence[NDArray]
    ) -> None:
        g._device.fused("attention_grad")(  # type: ignore[misc]
            g.astype(out._dtype), *qkv, self.mask, out, self.lse, *grads, self.scale, self.causal
        )


class SelfAttention(Attention):
    """`Attention` on one tensor (B, T, 3·heads·d) that holds q, k and v side by side.

    The result is (B, T, heads·d). The kernel reads and writes the heads where they stand.
    """

    def __init__(self, heads: int, mask: NDArray | None, causal: bool, scale: float) -> None:
        super().__init__(mask, causal, scale)
        self.heads = heads

    def decompose(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        q, k, v = (split_heads(part, self.heads) for part in chunk(qkv, 3, 2))
        return join_heads(super().decompose(q, k, v, mask))

    def _split(self, qkv: NDArray) -> tuple[NDArray, ...]:
        """Views q, k, v (B, heads, T, d)."""
        b, t, width = qkv.shape
        parts = qkv.reshape((b, t, 3, self.heads, width // (3 * self.heads)))
        return tuple(parts[:, :, i].permute((0, 2, 1, 3)) for i in range(3))

    def _heads(self, x: NDArray) -> NDArray:
        b, t, width = x.shape
        return x.reshape((b, t, self.heads, width // self.heads)).permute((0, 2, 1, 3))

    def compute(self, qkv: NDArray) -> NDArray:  # type: ignore[override]
        if self.fused(qkv) is None:
            return self.compute_by_parts(qkv)
        b, t, width = qkv.shape
        out = NDArray._empty((b, t, width // 3), qkv._device, qkv._dtype)
        self._forward(self._split(qkv), self._heads(out))
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Value | None, ...]:
        if self.lse is None or is_grad_enabled():
            return super().gradient(out_grad, node)
        qkv = node.inputs[0].realize_cached_data()
        grad = NDArray._empty(qkv._shape, qkv._device, qkv._dtype)
        g, out = out_grad.realize_cached_data(), node.realize_cached_data()
        self._backward(self._heads(g), self._split(qkv), self._heads(out), self._split(grad))
        return (Tensor.make_const(grad),)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads·d) → the view (B, heads, T, d)."""
    b, t, width = x.shape
    heads = whole(heads, "split_heads", "heads")
    return permute(reshape(x, (b, t, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, T, d) → (B, T, heads·d)."""
    b, heads, t, width = x.shape
    return reshape(permute(x, (0, 2, 1, 3)), (b, t, heads * width))


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v: q (B, H, T, d), k (B, H, S, d), v (B, H, S, e) → (B, H, T, e).

    `mask` broadcasts to (B, H, T, S): booleans say what may be seen, floats are added to the scores
    (-inf hides). A float Tensor that requires a gradient, a learned bias, gets one; the scores are
    then stored. `causal` lets row t see columns up to t. A row that sees nothing gives zeros and
    has zero gradients. `scale` defaults to 1/√d. Raises ValueError where shapes do not fit,
    TypeError for different dtypes and for a mask of integers.
    """
    shapes = q.shape, k.shape, v.shape
    if any(len(s) != 4 for s in shapes) or len({s[:2] for s in shapes}) > 1:
        raise ValueError(
            f"[attention] q, k and v must be (B, heads, length, features) alike in B and heads, "
            f"got {shapes}"
        )
    if q.shape[3] != k.shape[3] or k.shape[2] != v.shape[2]:
        raise ValueError(
            f"[attention] q {q.shape} and k {k.shape} must have equal features, k and v {v.shape} "
            "equal lengths"
        )
    if not of_one_dtype(q, k, v) or not is_float(q.dtype):
        raise TypeError(
            f"[attention] q, k and v must have one float dtype, got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    scale = 1 / math.sqrt(max(q.shape[3], 1)) if scale is None else float(scale)
    added = None if mask is None else additive_mask(mask, q, (*q.shape[:3], k.shape[2]))
    return _attention(Attention, (q, k, v), added, bool(causal), scale)


def _attention(
    kind: Callable[[NDArray | None, bool, float], Attention],
    inputs: Sequence[Tensor],
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> Tensor:
    """The fused op; its definition where the mask is learned, of which kernels have no gradient."""
    if mask is not None and mask.requires_grad and is_grad_enabled():
        return kind(None, causal, scale).decompose(*inputs, mask)  # type: ignore[call-arg]
    return kind(None if mask is None else mask.realize_cached_data(), causal, scale)(*inputs)


def self_attention(
    qkv: Tensor,
    heads: int,
    mask: Mask = None,
    causal: bool = False,
) -> Tensor:
    """Attention of a sequence to itself: qkv (B, T, 3·heads·d) → (B, T, heads·d).

    q, k and v stand side by side in qkv, each with its heads side by side; `mask` and `causal` as
    in `scaled_dot_product_attention`. Raises ValueError where shapes do not fit.
    """
    heads = whole(heads, "attention", "heads")
    if qkv.ndim != 3 or qkv.shape[2] % (3 * heads):
        raise ValueError(
            f"[attention] qkv must be (B, T, 3·{heads}·d) for {heads} heads, got {qkv.shape}"
        )
    b, t, width = qkv.shape
    added = None if mask is None else additive_mask(mask, qkv, (b, heads, t, t))
    scale = 1 / math.sqrt(max(width // (3 * heads), 1))
    return _attention(partial(SelfAttention, heads), (qkv,), added, bool(causal), scale)


def additive_mask(mask: Mask, q: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask as numbers to add to scores of `shape` (B, H, T, S), broadcast to it.

    True (may be seen) becomes 0, False -inf. Raises ValueError for a mask that does not broadcast,
    TypeError for one of integers: 0 and 1 may mean either.
    """
    given = mask if isinstance(mask, (Tensor, NDArray)) else np.asarray(mask)
    if given.dtype != bool and not (is_float(given.dtype) or given.dtype.kind == "f"):
        raise TypeError(
            f"[attention] mask must be bool (True where a column may be seen) or float (added to "
            f"the scores, -inf hides), got {given.dtype}; pass mask != 0 or mask.astype('float32')"
        )
    number = widened(q.dtype)  # in which scores are added up
    if isinstance(given, np.ndarray):
        given = NDArray(given, device=q.device, dtype="bool" if given.dtype == bool else number)
    added = given if isinstance(given, Tensor) else Tensor.make_const(given)
    try:
        fits = broadcast_shapes(added.shape, shape, "attention") == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"[attention] the mask of shape {added.shape} does not broadcast to {shape}"
        )
    added = added.to(q.device)
    if added.dtype == bool:
        added = where(added, Tensor.make_const(q.device.zeros((), number)), -math.inf)
    return broadcast_to(added.astype(number), shape)


__all__ = [
    "Attention",
    "SelfAttention",
    "SoftmaxOfSeen",
    "additive_mask",
    "join_heads",
    "masked_softmax",
    "scaled_dot_product_attention",
    "self_attention",
    "split_heads",
]
