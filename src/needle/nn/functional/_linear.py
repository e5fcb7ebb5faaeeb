"""Linear and bilinear maps, distances, and tables of vectors."""

from __future__ import annotations

import numpy as np

from ... import init, ops
from ...autograd import Tensor
from ...backend_ndarray import NDArray, is_traced
from ..arguments import one_of


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input (…, in) times weight (out, in) transposed, plus bias (out,), as PyTorch has it.

    The weight of the layer `nn.Linear` is (in, out) instead; `needle.ops.linear` takes that one.
    """
    if weight.ndim == 1:
        y = ops.matmul(input, weight.reshape((weight.size, 1)))[..., 0]
        return y if bias is None else y + bias
    if weight.ndim != 2:
        raise ValueError(f"[linear] weight must be (out, in), got shape {weight.shape}")
    if input.ndim and input.shape[-1] != weight.shape[1]:
        hint = ""
        if input.shape[-1] == weight.shape[0]:
            hint = "; the weight of an nn.Linear is (in, out): call the layer, or pass weight.T"
        raise ValueError(
            f"[linear] input of shape {input.shape} needs a weight (out, {input.shape[-1]}), "
            f"got {weight.shape}{hint}"
        )
    return ops.linear(input, ops.transpose(weight), bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[…, o] = Σ x₁[…, i]·weight[o, i, j]·x₂[…, j] + bias[o].

    Raises ValueError where shapes do not fit.
    """
    if (
        weight.ndim != 3
        or input1.shape[:-1] != input2.shape[:-1]
        or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]
    ):
        raise ValueError(
            f"[bilinear] inputs {input1.shape} and {input2.shape} do not fit weight {weight.shape}"
        )
    out, first, second = weight.shape
    rows = input1.reshape((-1, first)), input2.reshape((-1, second))
    flat = ops.permute(weight, (1, 0, 2)).reshape((first, out * second))
    left = ops.matmul(rows[0], flat).reshape((-1, out, second))
    y = ops.summation(left * rows[1].reshape((-1, 1, second)), 2)
    y = y.reshape((*input1.shape[:-1], out))
    return y if bias is None else y + bias


# ---- distances ------------------------------------------------------------------------------


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂ / (‖x₁‖·‖x₂‖) along `dim`; norms below `eps` count as `eps`."""
    return ops.cosine_similarity(x1, x2, dim, eps)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along `dim`."""
    return ops.normalize(input, p, dim, eps)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ - x₂ + eps‖ₚ along the last axis."""
    return ops.pairwise_distance(x1, x2, p, eps, keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """‖xᵢ - xⱼ‖ₚ of each pair i < j of the rows of input (N, M): (N·(N - 1)/2,)."""
    if input.ndim != 2:
        raise ValueError(f"[pdist] needs rows (N, M), got shape {input.shape}")
    first, second = np.triu_indices(input.shape[0], 1)
    return ops.norm(ops.take(input, first, 0) - ops.take(input, second, 0), p, -1)


# ---- tables ---------------------------------------------------------------------------------


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` at the integers `input`, which may have any shape.

    The row `padding_idx` gets no gradient. Rows longer than `max_norm` are first shortened in
    `weight` itself. `sparse` and `scale_grad_by_freq` must be False: gradients are dense.
    """
    if scale_grad_by_freq or sparse:
        raise NotImplementedError(
            "[embedding] scale_grad_by_freq and sparse must be False: gradients are dense"
        )
    rows = checked_rows("embedding", input, weight.shape[0])
    if max_norm is not None:
        shorten(weight, rows, max_norm, norm_type)
    found = ops.take(weight, rows, 0)
    if padding_idx is None:
        return found
    row = padding_idx % weight.shape[0]
    is_padding = Tensor.make_const(rows.compare("eq", row).reshape((*rows.shape, 1)))
    return ops.where(is_padding, found.detach(), found)


def checked_rows(what: str, index: Tensor, count: int) -> NDArray:
    """The indices as int64. Raises TypeError for floats, IndexError for one out of range."""
    data = index.realize_cached_data()
    if data.dtype.kind not in "iu":
        raise TypeError(f"[{what}] indices must be integers, got {data.dtype}")
    rows: NDArray = data.astype("int64")
    if rows.size and not is_traced(rows):
        low, high = rows.min().item(), rows.max().item()
        if low < 0 or high >= count:
            bad = low if low < 0 else high
            raise IndexError(f"[{what}] index {bad} is out of range for {count} rows")
    return rows


def shorten(weight: Tensor, rows: NDArray, max_norm: float, norm_type: float) -> None:
    """Scale the named rows of `weight` down to `max_norm`, outside of any graph."""
    table = weight.detach()
    norms = ops.norm(table, norm_type, -1, True)
    scale = ops.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)
    ones = init.ones(rows.size, device=table.device, dtype=table.dtype)
    counts = ops.PutItem((weight.shape[0],), rows.reshape((rows.size,)))(ones)
    named = (counts > 0).reshape((weight.shape[0], 1))
    weight._replace_data(ops.where(named, table * scale, table).realize_cached_data())


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    padding_idx: int | None = None,
    *,
    include_last_offset: bool = False,
) -> Tensor:
    """The sum, mean or maximum of the rows of `weight` in each bag of indices.

    `input` is (bags, n), or flat with the first position of each bag in `offsets`, whose last
    number is the end of the last bag with `include_last_offset`. Rows at
    `padding_idx` do not count; an empty bag gives zeros. `per_sample_weights`, in the shape of
    `input`, scale the rows in mode "sum". Raises ValueError where these do not fit.
    """
    one_of("embedding_bag", "mode", mode, ("sum", "mean", "max"))
    if per_sample_weights is not None and mode != "sum":
        raise ValueError('[embedding_bag] per_sample_weights needs mode="sum"')
    if (input.ndim == 2) == (offsets is not None) or input.ndim not in (1, 2):
        raise ValueError(
            "[embedding_bag] needs input (bags, n), or flat input with offsets; got shape "
            f"{input.shape} with{'out' if offsets is None else ''} offsets"
        )
    if include_last_offset and offsets is not None:
        offsets = offsets[:-1]
    rows = checked_rows("embedding_bag", input, weight.shape[0])
    found = embedding(input, weight, padding_idx).reshape((rows.size, weight.shape[1]))
    counted = rows.compare("ge", 0)
    if padding_idx is not None:
        counted = rows.compare("ne", padding_idx % weight.shape[0])
    kept = Tensor.make_const(counted.reshape((rows.size, 1)))
    if per_sample_weights is not None:
        found = found * per_sample_weights.reshape((rows.size, 1))
    bags = _bags(input, offsets)
    return _reduced(found, kept, bags, mode)


def _bags(input: Tensor, offsets: Tensor | None) -> Tensor:
    """Which element is in which bag: (bags, elements)."""
    elements = ops.cumsum(init.ones(input.size, device=input.device, dtype="int64"), 0) - 1
    if offsets is None:
        bags, length = input.shape
        first = ops.cumsum(init.ones(bags, device=input.device, dtype="int64"), 0) - 1
        starts = first * length
    else:
        starts = offsets.astype("int64")
    begun = elements.reshape((1, input.size)) >= starts.reshape((starts.size, 1))
    ended = ops.pad(begun[1:].astype("int64"), ((0, 1), (0, 0)))
    return (begun.astype("int64") - ended) > 0


def _reduced(found: Tensor, kept: Tensor, bags: Tensor, mode: str) -> Tensor:
    number, elements = bags.shape
    inside = ops.where(kept.reshape((1, elements)), bags.astype(found.dtype), 0.0)
    counts = ops.summation(inside, 1, True)
    if mode != "max":
        sums = ops.matmul(inside, ops.where(kept, found, 0.0))
        return sums if mode == "sum" else sums / ops.maximum(counts, 1.0)
    present = inside.reshape((number, elements, 1)) > 0
    spread = ops.where(present, found.reshape((1, *found.shape)), float("-inf"))
    return ops.where(counts > 0, ops.amax(spread, 1), 0.0)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Integers as rows of zeros with a one, in int64.

    With `num_classes=-1` it is the largest integer plus one, which a compiled function cannot know.
    """
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return ops.one_hot(tensor, num_classes, "int64")
