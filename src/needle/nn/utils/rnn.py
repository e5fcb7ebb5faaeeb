"""Sequences of several lengths: padded, packed, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import ops
from ...autograd import Tensor
from ...backend_ndarray import is_traced
from ..packed import PackedSequence

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpad_sequence",
]


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (Lᵢ, …) as one tensor (T, B, …), or (B, T, …), with T the largest length.

    Raises ValueError if there is no sequence, they differ after their first axis, or the side is
    neither "right" nor "left".

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.nn.utils.rnn.pad_sequence([ndl.ones(2), ndl.ones(1)], batch_first=True).tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """
    if not sequences or len({x.shape[1:] for x in sequences}) > 1:
        raise ValueError(
            "[pad_sequence] needs sequences that are alike after their first axis, got "
            f"{[x.shape for x in sequences]}"
        )
    if padding_side not in ("right", "left"):
        raise ValueError(
            f'[pad_sequence] padding_side must be "right" or "left", got {padding_side!r}'
        )
    longest = max(x.shape[0] for x in sequences)
    padded = []
    for x in sequences:
        missing = longest - x.shape[0]
        sides = (0, missing) if padding_side == "right" else (missing, 0)
        padded.append(ops.pad(x, [sides, *[(0, 0)] * (x.ndim - 1)], padding_value))
    return ops.stack(padded, 0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor, without their padding."""
    x = padded_sequences if batch_first else ops.transpose(padded_sequences, (0, 1))
    return [x[i, :length] for i, length in enumerate(_lengths("unpad_sequence", lengths))]


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """The steps of padded sequences (T, B, …), or (B, T, …), without the padding.

    `lengths` are read on the host: in a compiled function they must be Python integers. With
    `enforce_sorted` they must decrease. Raises ValueError if they do not fit the input.
    """
    x = ops.transpose(input, (0, 1)) if batch_first else input
    sizes = _lengths("pack_padded_sequence", lengths)
    steps, batch = x.shape[:2]
    if len(sizes) != batch or not 1 <= min(sizes) <= max(sizes) <= steps:
        raise ValueError(
            f"[pack_padded_sequence] needs {batch} lengths of 1 … {steps}, got {sizes}"
        )
    order = np.argsort([-n for n in sizes], kind="stable")
    sorted_already = list(order) == list(range(batch))
    if enforce_sorted and not sorted_already:
        raise ValueError(
            f"[pack_padded_sequence] the lengths must decrease, got {sizes}; or pass "
            "enforce_sorted=False"
        )
    batch_sizes = tuple(sum(n > t for n in sizes) for t in range(max(sizes)))
    rows = np.concatenate([t * batch + order[:size] for t, size in enumerate(batch_sizes)])
    data = ops.take(x.reshape((steps * batch, *x.shape[2:])), rows, 0)
    if enforce_sorted:
        return PackedSequence(data, batch_sizes)
    back = tuple(int(i) for i in np.argsort(order))
    return PackedSequence(data, batch_sizes, tuple(int(i) for i in order), back)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (Lᵢ, …) of several lengths, packed; see `pack_padded_sequence`."""
    lengths = [x.shape[0] for x in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Packed sequences as a padded tensor (T, B, …), or (B, T, …), and their lengths (B,).

    T is the largest length or `total_length`; a smaller one is a ValueError.
    """
    data, sizes = sequence.data, sequence.batch_sizes
    steps = len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ValueError(
            f"[pad_packed_sequence] total_length {total_length} is below the longest sequence's "
            f"{len(sizes)}"
        )
    batch, padding = sizes[0], data.shape[0]
    places = np.full((steps, batch), padding)
    start = 0
    for t, size in enumerate(sizes):
        places[t, :size] = np.arange(start, start + size)
        start += size
    lengths = (places != padding).sum(0)
    if sequence.unsorted_indices is not None:
        back = list(sequence.unsorted_indices)
        places, lengths = places[:, back], lengths[back]
    extended = ops.pad(data, [(0, 1), *[(0, 0)] * (data.ndim - 1)], padding_value)
    padded = ops.take(extended, places.T.copy() if batch_first else places, 0)
    return padded, Tensor(lengths, dtype="int64", requires_grad=False)


def _lengths(what: str, lengths: Tensor | Sequence[int]) -> list[int]:
    if isinstance(lengths, Tensor):
        if is_traced(lengths.realize_cached_data()):
            raise TypeError(
                f"[{what}] lengths decide shapes, so in a compiled function they must be Python "
                "integers, not a Tensor"
            )
        lengths = lengths.tolist()
    return [int(n) for n in lengths]
