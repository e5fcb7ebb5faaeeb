"""Connectionist temporal classification: the likelihood of a sequence without an alignment.

Graves et al., "Connectionist Temporal Classification", 2006. The labels l₁ … l_S are extended by
blanks to b l₁ b … l_S b. alpha[s] is the log-probability of all alignments of the steps so far that
end at place s; from one step to the next an alignment stays, moves on by one place, or skips the
blank between two different labels. Gradients follow by autograd.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray import is_float, is_traced
from ..backend_ndarray.layout import whole
from ..operands import ArrayLike
from ..ops._common import as_tensor, widens
from ..ops._comparison import logical_and
from ..ops._loss import checked_labels
from ..typing import HostArray
from ._losses_common import REDUCTIONS
from .arguments import one_of

# log 0 without the NaN that differences of -inf would give; float32 adds it exactly enough.
_NEVER = -1e30
Lengths = Tensor | HostArray | Sequence[int]


def ctc_loss(
    log_probs: Tensor,
    targets: ArrayLike,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    *,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that the steps spell the targets, summed over all alignments.

    `log_probs` (T, B, C) or (T, C); `targets` (B, S), padded, or all labels in one row. The
    mean is that of the losses divided by the lengths of their targets. A target that is too long
    for its steps has loss inf, or 0 with `zero_infinity`; its gradient is 0 either way.
    """
    name = "ctc_loss"
    one_of(name, "reduction", reduction, REDUCTIONS)
    batched = log_probs.ndim == 3
    if not batched and log_probs.ndim != 2:
        raise ValueError(f"[{name}] log_probs must be (T, B, C) or (T, C), got {log_probs.shape}")
    x = log_probs if batched else log_probs.unsqueeze(1)
    steps, batch, classes = x.shape
    blank = whole(blank, name, "blank")
    if not 0 <= blank < classes:
        raise IndexError(f"[{name}] blank {blank} is out of range for {classes} classes")
    input_length = _lengths(name, "input_lengths", input_lengths, x, steps)
    target_length = _lengths(name, "target_lengths", target_lengths, x, None)
    labels = _padded(name, as_tensor(targets, x), target_length, batch)
    labels = Tensor.make_const(checked_labels(labels.realize_cached_data(), classes))

    def losses(x: Tensor) -> Tensor:
        return _losses(x, labels, input_length, target_length, blank)

    found = widens(losses)(x)
    impossible = found >= -_NEVER / 2
    found = ops.where(impossible, 0.0 if zero_infinity else np.inf, found)
    if reduction == "mean":
        return (found / ops.maximum(target_length.astype(found.dtype), 1.0)).mean()
    if reduction == "sum":
        return found.sum()
    return found if batched else found.reshape(())


def _lengths(name: str, what: str, lengths: Lengths, x: Tensor, longest: int | None) -> Tensor:
    """One length for each sequence as an int64 Tensor (B,)."""
    data = lengths if isinstance(lengths, Tensor) else as_tensor(np.asarray(lengths), x)
    if is_float(data.dtype):
        raise TypeError(f"[{name}] {what} must be integers, got {data.dtype}")
    if data.size != x.shape[1]:
        raise ValueError(f"[{name}] {what} must have a length for each of {x.shape[1]} sequences")
    data = data.detach().reshape((-1,)).astype("int64")
    array = data.realize_cached_data()
    if not is_traced(array):
        host = array.numpy()
        if (host < 0).any() or (longest is not None and (host > longest).any()):
            raise ValueError(f"[{name}] {what} must be in 0 … {longest}, got {host.tolist()}")
    return data


def _padded(name: str, targets: Tensor, lengths: Tensor, batch: int) -> Tensor:
    """The labels as (B, S), S ≥ 1; what is beyond a length is 0."""
    if is_float(targets.dtype):
        raise TypeError(f'[{name}] targets must be integers: use targets.astype("int64")')
    targets = targets.detach().astype("int64")
    if targets.ndim == 2:
        if targets.shape[0] != batch:
            raise ValueError(f"[{name}] {batch} sequences have targets of shape {targets.shape}")
        if not targets.shape[1]:
            targets = ops.pad(targets, ((0, 0), (0, 1)))
        place = Tensor(np.arange(targets.shape[1]), device=targets.device, requires_grad=False)
        return targets * (place < lengths.unsqueeze(1)).astype("int64")
    if batch == 1:
        return _padded(name, targets.reshape((1, -1)), lengths, batch)
    known = lengths.realize_cached_data()
    if is_traced(known):
        raise ValueError(
            f"[{name}] a compiled function needs padded targets (B, S): "
            "the lengths are not known when it is traced"
        )
    sizes = known.numpy()
    if sizes.sum() != targets.size:
        raise ValueError(
            f"[{name}] targets in one row must have sum(target_lengths) = {sizes.sum()} labels, "
            f"got {targets.size}"
        )
    starts = np.cumsum(sizes) - sizes
    places = np.arange(max(int(sizes.max()), 1))
    inside = places < sizes[:, None]
    if not targets.size:
        return Tensor(inside.astype("int64") * 0, device=targets.device, requires_grad=False)
    index = np.where(inside, starts[:, None] + places, 0)
    labels = ops.take(targets.reshape((-1,)), index)
    return labels * inside.astype("int64")


def _losses(
    x: Tensor, labels: Tensor, input_length: Tensor, target_length: Tensor, blank: int
) -> Tensor:
    """The loss of every sequence: x (T, B, C), labels (B, S)."""
    steps, batch, _ = x.shape
    places = 2 * labels.shape[1] + 1
    extended = _with_blanks(labels, blank)  # (B, L), L = 2·S + 1
    index = extended.unsqueeze(0).broadcast_to((steps, batch, places))
    emitted = ops.gather(x, 2, index)  # (T, B, L)
    may_skip = _may_skip(extended, blank, x)
    first = Tensor(np.arange(places) < 2, device=x.device, requires_grad=False)
    alpha = ops.where(first, emitted[0], _NEVER)
    time = Tensor(np.arange(1, steps), device=x.device, requires_grad=False)

    def step(alpha: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, None]:
        emission, t = now
        ways = [alpha, _moved(alpha, 1), _moved(alpha, 2) + may_skip]
        moved = ops.logsumexp(ops.stack(ways, 0), 0) + emission
        moved = ops.maximum(moved, _NEVER)  # sums of impossible ways must not fall to -inf
        return ops.where((t < input_length).unsqueeze(1), moved, alpha), None

    if steps > 1:
        alpha, _ = ops.scan(step, alpha, (emitted[1:], time))
    last = (2 * target_length).unsqueeze(1)
    at_blank = ops.gather(alpha, 1, last)
    at_label = ops.gather(alpha, 1, ops.maximum(last - 1, 0))
    at_label = ops.where(last > 0, at_label, _NEVER)
    return -ops.logsumexp(ops.concatenate([at_blank, at_label], 1), 1)


def _with_blanks(labels: Tensor, blank: int) -> Tensor:
    """(B, S) labels as (B, 2·S + 1): a blank before, between and behind them."""
    batch, length = labels.shape
    blanks = labels * 0 + blank
    pairs = ops.stack([blanks, labels], 2).reshape((batch, 2 * length))
    end = Tensor(np.full((batch, 1), blank, "int64"), device=labels.device, requires_grad=False)
    return ops.concatenate([pairs, end], 1)


def _may_skip(extended: Tensor, blank: int, like: Tensor) -> Tensor:
    """0 where an alignment may come from two places before, log 0 elsewhere; (B, L)."""
    here, before = extended[:, 2:], extended[:, :-2]
    allowed = logical_and(here != blank, here != before).astype(like.dtype)
    return ops.pad((allowed - 1.0) * -_NEVER, ((0, 0), (2, 0)), _NEVER)


def _moved(alpha: Tensor, by: int) -> Tensor:
    """alpha moved to the right by some places; log 0 comes in."""
    return ops.pad(alpha[:, :-by], ((0, 0), (by, 0)), _NEVER)


__all__ = ["ctc_loss"]
