"""Domains: the iteration spaces of element-wise nodes and reductions.

The domain of a node is a list of axes, outermost first, in the memory order of its output. An
access has one stride for each axis. An axis can be split wherever all accesses have even strides,
so that (98304,), (768, 128) and (12, 64, 128) are compatible.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from ...backend_ndarray.layout import Shape, compact_strides, joined_axes
from .graph import Node, View

Strides = tuple[int, ...]


# Functions of one number that have a branch: one in a loop would keep it from being vectorized, so
# that they stay calls of the core's kernels.
BRANCHING = ("sin", "cos")


@dataclass(frozen=True)
class Domain:
    """The axes that a node iterates over, and the strides of each input along them."""

    shape: tuple[int, ...]
    reduced: tuple[bool, ...]
    accesses: tuple[Strides, ...]

    @cached_property
    def size(self) -> int:
        """The number of points."""
        return prod(self.shape)

    @cached_property
    def boundaries(self) -> set[int]:
        """The products of the last 0, 1, 2, … axes."""
        return {prod(self.shape[i:]) for i in range(len(self.shape) + 1)}

    def split(self, boundaries: Sequence[int]) -> Domain:
        """The same domain with axes split at `boundaries`, a descending chain of divisors."""
        shape: list[int] = []
        reduced: list[bool] = []
        accesses: list[list[int]] = [[] for _ in self.accesses]
        inner = self.size
        for axis, length in enumerate(self.shape):
            outer, inner = inner, inner // max(length, 1)
            cuts = [outer, *(b for b in boundaries if inner < b < outer), inner]
            for a, b in itertools.pairwise(cuts):
                shape.append(a // b)
                reduced.append(self.reduced[axis])
                for access, strides in zip(accesses, self.accesses, strict=True):
                    access.append(strides[axis] * (b // inner))
        return Domain(tuple(shape), tuple(reduced), tuple(map(tuple, accesses)))


def domain_of(node: Node) -> Domain | None:
    """The domain of a node that can be in a nest, or None."""
    if node.op == "unary" and node.attributes[0] in BRANCHING:
        return None
    return _reduction_domain(node) if node.op == "reduce" else elementwise_domain(node)


def elementwise_domain(node: Node) -> Domain | None:
    """The domain of an element-wise node, or None."""
    if not node.is_elementwise:
        return None
    (out,) = node.outputs
    if out.value.base is not None or not out.covers or not out.size:
        return None
    return domain_over(out, node.inputs)


def domain_over(out: View, accessed: Sequence[View]) -> Domain:
    """The domain of `out` in its memory order, with the accesses of other views of its shape."""
    order = _memory_order(out)
    shape = tuple(out.shape[i] for i in order)
    accesses = tuple(tuple(x.strides[i] for i in order) for x in accessed)
    return _collapsed(Domain(shape, (False,) * len(shape), accesses))


def _reduction_domain(node: Node) -> Domain | None:
    (x,), (out,) = node.inputs, node.outputs
    _, axes = node.attributes
    if out.value.base is not None or not out.covers or not x.size:
        return None
    if out.dtype.kind == "b":  # the kernel does those: sums of parts are std::vectors of the type
        return None
    order = _memory_order(x)
    kept = [i for i in order if i not in axes]
    if kept != sorted(kept):
        return None
    shape = tuple(x.shape[i] for i in order)
    reduced = tuple(i in axes for i in order)
    domain = _collapsed(Domain(shape, reduced, (tuple(x.strides[i] for i in order),)))
    return domain if reduction_shape(domain) is not None else None


def _memory_order(view: View) -> list[int]:
    """The axes longer than 1 from the largest stride to the smallest."""
    axes = [i for i, n in enumerate(view.shape) if n != 1]
    return sorted(axes, key=lambda i: -abs(view.strides[i]))


def _collapsed(domain: Domain) -> Domain:
    """The domain with axes joined where every access is evenly strided over both."""
    strides = zip(*domain.accesses, strict=True) if domain.accesses else itertools.repeat(())
    axes = joined_axes(zip(domain.shape, strides, domain.reduced, strict=False))
    by_access = tuple(zip(*(steps for _, steps, _ in axes), strict=True))
    return Domain(
        tuple(n for n, _, _ in axes),
        tuple(reduced for _, _, reduced in axes),
        by_access or ((),) * len(domain.accesses),
    )


FULL, ROW, ROW_SUM, COLUMN_SUM, TOTAL = "full", "row", "row sum", "column sum", "total"


def reduction_shape(domain: Domain) -> tuple[str, int | None] | None:
    """(kind, columns) that a domain requires; columns is None where any number will do."""
    flags = domain.reduced
    if not any(flags):
        return FULL, None
    if all(flags):
        return TOTAL, None
    cut = flags.index(True) if not flags[0] else flags.index(False)
    if any(flags[i] != flags[0] for i in range(cut)) or len(set(flags[cut:])) != 1:
        return None
    return (COLUMN_SUM if flags[0] else ROW_SUM), prod(domain.shape[cut:])


Axes = tuple[Shape, Strides]


def halves(domain: Domain, i: int, cols: int) -> tuple[Axes, Axes]:
    """The axes over rows and the axes within a row of `cols` points.

    Both come with the strides of access `i` along them.
    """
    split = domain.split([domain.size, cols, 1])
    at, strides = _position(split.shape, cols), split.accesses[i]
    return (split.shape[:at], strides[:at]), (split.shape[at:], strides[at:])


def _position(shape: Sequence[int], inner: int) -> int:
    """The number of leading axes after which `inner` points remain."""
    at = len(shape)
    while prod(shape[at:]) != inner:
        at -= 1
    # Axes of length 1 at the border belong to the inner part.
    while at > 0 and shape[at - 1] == 1:
        at -= 1
    return at


def is_linear(shape: Sequence[int], strides: Strides) -> bool:
    """Whether an access with these strides is contiguous over `shape`."""
    return all(
        n == 1 or s == e
        for n, s, e in zip(shape, strides, compact_strides(tuple(shape)), strict=True)
    )
