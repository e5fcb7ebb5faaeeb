"""The iteration of a nest over memory: its axes, the accesses of its nodes, its phases."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import prod

from ...backend_ndarray.layout import joined_axes
from ..ir.domain import COLUMN_SUM, ROW_SUM, Domain
from ..ir.graph import Value
from .loop_nest import Nest

# The points of a row, where the nest leaves the border between rows and columns open.
WIDE = 512
# A nest keeps this many rows, for the threads.
MANY = 64


@dataclass(frozen=True)
class Access:
    """An input in memory: its offset, and its strides along the axes of rows and columns."""

    value: Value
    offset: int
    rows: tuple[int, ...]
    cols: tuple[int, ...]


@dataclass
class Walk:
    """The axes of a nest, grouped into rows and columns, and the accesses of its nodes."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    accesses: list[list[Access]]  # by node, by input
    blocked: int = 0  # the points of a nest without rows, which runs in blocks

    @property
    def width(self) -> int:
        """The points of a row."""
        return prod(self.cols)


def make_walk(nest: Nest, cols: int | None = None) -> Walk:
    """The common axes of a nest, merged where every access has even strides.

    `cols` sets the columns of a nest whose nodes leave them open.
    """
    cols = nest.cols if nest.cols is not None else cols
    boundaries = nest.boundaries(cols)
    strides: list[list[list[int]]] = []
    for domain in nest.domains:
        strides.append(
            [_along(domain, access, boundaries, nest.size) for access in domain.accesses]
        )
    lengths = [a // b for a, b in itertools.pairwise(boundaries)]
    border = boundaries.index(cols) if cols is not None else -1
    lengths, strides, border = _joined(lengths, strides, border)
    if border < 0 and len(lengths) > 1:
        lengths, strides, border = _widened(lengths, strides)
    border = max(border, 0)
    blocked = nest.size if lengths and border == 0 and cols is None else 0
    accesses = [
        [
            Access(x.value, x.offset, tuple(s[:border]), tuple(s[border:]))
            for x, s in zip(node.inputs, steps, strict=True)
        ]
        for node, steps in zip(nest.nodes, strides, strict=True)
    ]
    return Walk(
        tuple(lengths[:border]),
        tuple(lengths[border:]) or (1,),
        _filled(accesses, lengths, border),
        blocked,
    )


def _widened(
    lengths: list[int], strides: list[list[list[int]]]
) -> tuple[list[int], list[list[list[int]]], int]:
    """Axes whose last ones make rows of about WIDE points, and the number of the others.

    Short rows cost more to set up than to calculate. A longer axis is divided in two for that.
    """
    border, width = len(lengths) - 1, lengths[-1]
    while border > 1 and width * lengths[border - 1] <= WIDE:
        border -= 1
        width *= lengths[border]
    rows = lengths[border - 1]
    most = min(WIDE // width, prod(lengths[:border]) // MANY)
    part = max((n for n in range(1, most + 1) if rows % n == 0), default=1)
    if part == 1:
        return lengths, strides, border
    lengths = [*lengths[: border - 1], rows // part, part, *lengths[border:]]

    def divided(steps: list[int]) -> list[int]:
        step = steps[border - 1]
        return [*steps[: border - 1], step * part, step, *steps[border:]]

    return lengths, [[divided(steps) for steps in node] for node in strides], border


def _filled(accesses: list[list[Access]], lengths: list[int], border: int) -> list[list[Access]]:
    """Give the accesses a column axis where the nest has none."""
    if lengths[border:]:
        return accesses
    return [[Access(a.value, a.offset, a.rows, (0,)) for a in node] for node in accesses]


def _along(domain: Domain, access: tuple[int, ...], boundaries: list[int], size: int) -> list[int]:
    """The stride of an access along every axis between the boundaries; 0 where it has no axis."""
    scale = size // max(domain.size, 1)
    own = [b // scale for b in boundaries if b >= scale]
    split = Domain(domain.shape, domain.reduced, (access,)).split(own)
    lengths = [a // b for a, b in itertools.pairwise(own)]
    steps = [s for n, s in zip(split.shape, split.accesses[0], strict=True) if n != 1]
    filled = iter(steps)
    result = [next(filled) if n != 1 else 0 for n in lengths]
    return result + [0] * (len(boundaries) - 1 - len(result))


def _joined(
    lengths: list[int], strides: list[list[list[int]]], border: int
) -> tuple[list[int], list[list[list[int]]], int]:
    """The axes joined, but none of the rows (the first `border` axes) with one of the columns."""
    accesses = [access for node in strides for access in node]
    steps = zip(*accesses, strict=True) if accesses else itertools.repeat(())
    in_rows = [i < border for i in range(len(lengths))]
    axes = joined_axes(zip(lengths, steps, in_rows, strict=False))
    joined = iter([[s[i] for _, s, _ in axes] for i in range(len(accesses))])
    border = sum(is_row for _, _, is_row in axes) if border >= 0 else border
    return [n for n, _, _ in axes], [[next(joined) for _ in node] for node in strides], border


def phases_of(nest: Nest) -> dict[int, int]:
    """The phase of each node, by the node's id.

    A full node is computed in its phase. A value per row (on a GPU also per column) is known before
    its phase begins.
    """
    known: dict[int, int] = {}
    phase: dict[int, int] = {}
    for node, kind in zip(nest.nodes, nest.kinds, strict=True):
        at = max((known.get(id(x.value), 0) for x in node.inputs), default=0)
        phase[id(node)] = at
        known[id(node.outputs[0].value)] = at + 1 if kind in (ROW_SUM, COLUMN_SUM) else at
    return phase
