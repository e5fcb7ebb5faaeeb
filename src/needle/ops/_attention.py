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
from ._reduction import amax as largest
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
    """Softmax of attention scores along the last axis; rows that see nothing give zeros.

    Parameters
    ----------
    scores : Tensor, shape (..., T, S)
        The scores.
    mask : Tensor, optional
        Added to the scores.
    causal : bool
        Whether row t sees columns up to t only.

    Returns
    -------
    Tensor, the shape of `scores`

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.masked_softmax(ndl.zeros(2, 2), None, causal=True).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
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
    """Heads of a projection as an axis of their own.

    Parameters
    ----------
    x : Tensor, shape (B, T, heads·d)
        The projection.
    heads : int
        The number of heads.

    Returns
    -------
    Tensor, shape (B, heads, T, d)

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.split_heads(ndl.ones(2, 5, 12), 3).shape
    (2, 3, 5, 4)
    """
    b, t, width = x.shape
    heads = whole(heads, "split_heads", "heads")
    return permute(reshape(x, (b, t, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x: Tensor) -> Tensor:
    """Heads side by side: the inverse of `split_heads`.

    Parameters
    ----------
    x : Tensor, shape (B, heads, T, d)
        The heads.

    Returns
    -------
    Tensor, shape (B, T, heads·d)

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.join_heads(ndl.ones(2, 3, 5, 4)).shape
    (2, 5, 12)
    """
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
    """Attention: softmax(q·kᵀ·scale + mask)·v, computed block by block of rows.

    Parameters
    ----------
    q : Tensor, shape (B, H, T, d)
        The queries of H heads.
    k : Tensor, shape (B, H, S, d)
        The keys.
    v : Tensor, shape (B, H, S, e)
        The values.
    mask : Tensor or array, optional
        Broadcasts to the scores. Booleans say what may be seen; floats are added to the scores, so
        that -inf hides. A float Tensor that requires a gradient gets one; the scores are then
        stored. `attn_mask` is another name of this argument.
    causal : bool, default False
        Whether position t sees positions up to t only. `is_causal` is another name.
    scale : float, optional
        The factor of the scores; 1/√d if it is None.

    Returns
    -------
    Tensor, shape (B, H, T, e)
        A row that sees nothing is zero and has zero gradients.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ, are not floating, or the mask holds integers.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017. Dao et al., "FlashAttention", 2022 (the
    blocks).

    Examples
    --------
    >>> import needle as ndl
    >>> q, k, v = ndl.ones(2, 4, 5, 8), ndl.ones(2, 4, 6, 8), ndl.ones(2, 4, 6, 3)
    >>> ndl.scaled_dot_product_attention(q, k, v).shape
    (2, 4, 5, 3)
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
    """Attention of a sequence to itself, from projections that stand side by side.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, 3·heads·d)
        q, k and v side by side, each with its heads side by side.
    heads : int
        The number of heads.
    mask : Tensor or array, optional
        Broadcasts to the scores. Booleans say what may be seen; floats are added to the scores, so
        that -inf hides. A float Tensor that requires a gradient gets one; the scores are then
        stored. `attn_mask` is another name of this argument.
    causal : bool, default False
        Whether position t sees positions up to t only. `is_causal` is another name.

    Returns
    -------
    Tensor, shape (B, T, heads·d)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the mask holds integers.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.self_attention(ndl.ones(2, 5, 24), 4, causal=True).shape
    (2, 5, 8)
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
    """A mask of attention as numbers to add to the scores.

    Parameters
    ----------
    mask : Tensor or array
        Booleans (True is seen) or floats.
    q : Tensor
        The queries, which give device and dtype.
    shape : tuple of int
        The shape of the scores, (B, H, T, S).

    Returns
    -------
    Tensor, shape `shape`
        0 where a position is seen, -inf where it is not; float masks as they are.

    Raises
    ------
    ValueError
        If the mask does not broadcast to `shape`.
    TypeError
        If the mask holds integers: 0 and 1 may mean either.

    Examples
    --------
    >>> import needle as ndl
    >>> q = ndl.ones(1, 1, 1, 4)
    >>> ndl.ops.additive_mask(ndl.Tensor([True, False]), q, (1, 1, 1, 2)).tolist()
    [[[[0.0, -inf]]]]
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
