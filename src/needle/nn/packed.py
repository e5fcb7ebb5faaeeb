"""Sequences of several lengths in one batch without padding, and recurrent layers over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from .. import ops
from ..autograd import Tensor


class PackedSequence(NamedTuple):
    """Sequences of decreasing lengths, step by step, without padding.

    `data` (steps of all sequences, …) holds first the first steps of all sequences, then the second
    steps of those that have one, and so on: `batch_sizes[t]` of them at step t. `sorted_indices`
    says which sequence each one was before they were sorted, `unsorted_indices` the reverse; both
    are None where they came sorted.
    """

    data: Tensor
    batch_sizes: tuple[int, ...]
    sorted_indices: tuple[int, ...] | None = None
    unsorted_indices: tuple[int, ...] | None = None

    def with_data(self, data: Tensor) -> PackedSequence:
        """The same lengths with other data."""
        return self._replace(data=data)


class Cell(Protocol):
    """A recurrent cell, whose `sequence` takes a step for each of x (T, B, features)."""

    def sequence(self, x: Tensor, *states: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]: ...


def run_packed(
    cell: Cell, x: PackedSequence, states: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, list[Tensor]]:
    """The cell's outputs as packed data, and each sequence's last states.

    Steps with equal numbers of sequences run as one sequence of the native loop.
    """
    parts = list(_parts(x.batch_sizes))
    return (
        _backwards(cell, x.data, parts, states)
        if backwards
        else _forwards(cell, x.data, parts, states)
    )


class _Part(NamedTuple):
    """Steps that the same sequences take: rows start … stop of the data, (steps, batch)."""

    start: int
    stop: int
    steps: int
    batch: int

    def of(self, data: Tensor) -> Tensor:
        return data[self.start : self.stop].reshape((self.steps, self.batch, *data.shape[1:]))


def _parts(sizes: Sequence[int]) -> Iterator[_Part]:
    start = first = 0
    for t in range(1, len(sizes) + 1):
        if t == len(sizes) or sizes[t] != sizes[first]:
            steps, batch = t - first, sizes[first]
            yield _Part(start, start + steps * batch, steps, batch)
            start, first = start + steps * batch, t


def _flat(steps: Tensor) -> Tensor:
    return steps.reshape((steps.shape[0] * steps.shape[1], *steps.shape[2:]))


def _forwards(
    cell: Cell, data: Tensor, parts: Sequence[_Part], states: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    outputs: list[Tensor] = []
    ended: list[list[Tensor]] = [[] for _ in states]  # shorter sequences first
    current = list(states)
    for part in parts:
        for done, state in zip(ended, current, strict=True):
            if state.shape[0] > part.batch:
                done.append(state[part.batch :])
        current = [state[: part.batch] for state in current]
        steps, last = cell.sequence(part.of(data), *current)
        current = list(last)
        outputs.append(_flat(steps))
    ends = [
        ops.concatenate([state, *reversed(done)], 0) if done else state
        for done, state in zip(ended, current, strict=True)
    ]
    return ops.concatenate(outputs, 0), ends


def _backwards(
    cell: Cell, data: Tensor, parts: Sequence[_Part], states: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    outputs: list[Tensor] = []
    current = [state[:0] for state in states]
    for part in reversed(parts):
        current = [
            _grown(now, state, part.batch) for now, state in zip(current, states, strict=True)
        ]
        steps, last = cell.sequence(ops.flip(part.of(data), (0,)), *current)
        current = list(last)
        outputs.append(_flat(ops.flip(steps, (0,))))
    return ops.concatenate(outputs[::-1], 0), current


def _grown(state: Tensor, first: Tensor, batch: int) -> Tensor:
    """`state` with the first states of the sequences that join, up to `batch`."""
    running = state.shape[0]
    if running == batch:
        return state
    joining = first[running:batch]
    return ops.concatenate([state, joining], 0) if running else joining
