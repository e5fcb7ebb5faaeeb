"""Arrays under another layout: views where the layout allows them, copies elsewhere.

`NDArray` lists these functions as its methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import layout
from .layout import (
    Shape,
    broadcast_strides,
    check_bounds,
    check_ndim,
    check_size,
    compact_strides,
    normalize_axes,
    normalize_axis,
    reshape_strides,
    resolve_shape,
    unpack,
    whole,
    wholes,
)

if TYPE_CHECKING:
    from .ndarray import NDArray


def is_compact(x: NDArray) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    return layout.is_compact(x._shape, x._strides)


def compact(x: NDArray) -> NDArray:
    """A compact array of the same elements; this array itself when it is compact."""
    return x if x.is_compact() else x.copy()


def copy(x: NDArray) -> NDArray:
    """A compact copy."""
    out = x._new(x._shape, x._dtype)
    x._device.copy(x, out)
    return out


def as_strided(x: NDArray, shape: Sequence[int], strides: Sequence[int]) -> NDArray:
    """A view of the same buffer under another layout, checked to stay inside it."""
    shape = wholes(shape, "as_strided", "the shape")
    strides = wholes(strides, "as_strided", "strides")
    if len(shape) != len(strides):
        raise ValueError(f"[as_strided] shape {shape} and strides {strides} differ in length")
    check_ndim(len(shape))
    check_size("as_strided", shape)
    check_bounds(shape, strides, x._offset, x._handle.size, "as_strided")
    return x._relayout(shape, strides)


def reshape(x: NDArray, *shape: int | Sequence[int]) -> NDArray:
    """The same elements in row-major order under another shape (one -1 allowed).

    A view where the layout allows it, else of one copy. Raises ValueError if sizes differ.
    """
    target = resolve_shape(unpack(shape), x.size)
    if target == x._shape:
        return x
    check_ndim(len(target))
    if x.is_compact():
        return x._relayout(target, compact_strides(target))
    strides = reshape_strides(x._shape, x._strides, target)
    if strides is not None:
        return x._relayout(target, strides)
    return x.copy()._relayout(target, compact_strides(target))


def flatten(x: NDArray) -> NDArray:
    """The elements as one axis; a view where the layout allows it."""
    return x.reshape((x.size,))


def permute(x: NDArray, *axes: int | Sequence[int]) -> NDArray:
    """The view whose axis i is this array's axis `axes[i]`."""
    given, ndim = unpack(axes), len(x._shape)
    order = tuple(normalize_axis(a, ndim, "permute") for a in given)
    if len(order) != ndim or len(set(order)) != ndim:
        raise ValueError(f"[permute] axes {given} must name each of the {ndim} axes once")
    return _permuted(x, order)


def _permuted(x: NDArray, order: Shape) -> NDArray:
    """The view whose axis i is this array's axis `order[i]`; a permutation of its axes."""
    shape, strides = x._shape, x._strides
    return x._relayout(tuple(shape[a] for a in order), tuple(strides[a] for a in order))


def reverse_axes(x: NDArray) -> NDArray:
    """The view with its axes reversed."""
    return x._relayout(x._shape[::-1], x._strides[::-1])


def transpose(x: NDArray, *axes: int | Sequence[int] | None) -> NDArray:
    """NumPy's transpose: reversed axes, or the order given."""
    return reverse_axes(x) if not axes or axes == (None,) else permute(x, *axes)  # type: ignore[arg-type]


def swapaxes(x: NDArray, axis1: int, axis2: int) -> NDArray:
    """The view with two axes exchanged."""
    order = list(range(len(x._shape)))
    i = normalize_axis(axis1, len(x._shape), "swapaxes")
    j = normalize_axis(axis2, len(x._shape), "swapaxes")
    order[i], order[j] = j, i
    return _permuted(x, tuple(order))


def broadcast_to(x: NDArray, *shape: int | Sequence[int]) -> NDArray:
    """The view that repeats axes of length 1 (and new leading ones) to reach `shape`."""
    target = wholes(unpack(shape), "broadcast_to", "the shape")
    check_ndim(len(target))
    return broadcast(x, target)


def broadcast(x: NDArray, shape: Shape) -> NDArray:
    """`broadcast_to` for a shape that has been checked, as one from `broadcast_shapes`."""
    if shape == x._shape:
        return x
    return x._relayout(shape, broadcast_strides(x._shape, x._strides, shape))


def squeeze(x: NDArray, axis: int | Sequence[int] | None = None) -> NDArray:
    """The view without the given axes of length 1 (all of them by default)."""
    if axis is None:
        dropped = tuple(i for i, n in enumerate(x._shape) if n == 1)
    else:
        dropped = normalize_axes(axis, len(x._shape), "squeeze")
    if any(x._shape[i] != 1 for i in dropped):
        raise ValueError(f"[squeeze] axes {dropped} of shape {x._shape} are not all 1 long")
    return without(x, dropped)


def without(x: NDArray, axes: Shape) -> NDArray:
    """`squeeze` for axes that are known to have length 1."""
    kept = [i for i in range(len(x._shape)) if i not in axes]
    shape, strides = x._shape, x._strides
    return x._relayout(tuple(shape[i] for i in kept), tuple(strides[i] for i in kept))


def unsqueeze(x: NDArray, axis: int) -> NDArray:
    """The view with a new axis of length 1 at position `axis`."""
    at = normalize_axis(axis, len(x._shape) + 1, "unsqueeze")
    shape, strides = x._shape, x._strides
    return x._relayout((*shape[:at], 1, *shape[at:]), (*strides[:at], 0, *strides[at:]))


def flip(x: NDArray, axes: int | Sequence[int] | None = None) -> NDArray:
    """The view with the order along `axes` (all by default) reversed."""
    strides, offset = list(x._strides), x._offset
    for i in normalize_axes(axes, len(x._shape), "flip"):
        offset += max(x._shape[i] - 1, 0) * strides[i]
        strides[i] = -strides[i]
    return x._relayout(x._shape, tuple(strides), offset)


def process_slice(x: NDArray, sl: slice, dim: int) -> slice:
    """`sl` along axis `dim` with explicit start, stop and step."""
    return slice(*sl.indices(x._shape[dim]))


def tile(x: NDArray, repeats: Sequence[int]) -> NDArray:
    """The array repeated `repeats[i]` times along axis i; one copy."""
    repeats = wholes(repeats, "tile", "repeats")
    if any(r < 0 for r in repeats):
        raise ValueError(f"[tile] repeats must not be negative, got {repeats}")
    shape = (1,) * (len(repeats) - len(x._shape)) + x._shape
    repeats = (1,) * (len(shape) - len(repeats)) + repeats
    pairs = tuple(n for pair in zip((1,) * len(shape), shape, strict=True) for n in pair)
    wide = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    result = tuple(r * n for r, n in zip(repeats, shape, strict=True))
    return x.reshape(pairs).broadcast_to(wide).reshape(result)


def pad(x: NDArray, axes: Sequence[tuple[int, int]], value: float = 0) -> NDArray:
    """Surround with `value`: `axes` gives (before, after) for every axis."""
    widths = tuple(wholes(pair, "pad", "axes") for pair in axes)
    if len(widths) != len(x._shape) or any(len(w) != 2 or min(w) < 0 for w in widths):
        raise ValueError(
            f"[pad] needs {len(x._shape)} pairs of non-negative widths for shape {x._shape}, "
            f"got {widths}"
        )
    shape = tuple(n + b + a for n, (b, a) in zip(x._shape, widths, strict=True))
    out = x._device.full(shape, value, x._dtype)
    inner = tuple(slice(b, b + n) for n, (b, _) in zip(x._shape, widths, strict=True))
    out._put(inner, x)
    return out


def split(x: NDArray, sections: int | Sequence[int], axis: int = 0) -> list[NDArray]:
    """Views of equal parts (an int that divides the axis) or between the given positions."""
    along = normalize_axis(axis, len(x._shape), "split")
    n = x._shape[along]
    if not isinstance(sections, (tuple, list, np.ndarray)):
        sections = whole(sections, "split", "sections")
        if sections < 1 or n % sections:
            raise ValueError(f"[split] axis {axis} of length {n} has no {sections} equal parts")
        cuts = [n // sections * i for i in range(sections + 1)]
    else:
        cuts = [0, *wholes(sections, "split", "sections"), n]
    lead = (slice(None),) * along
    return [x[(*lead, slice(a, b))] for a, b in itertools.pairwise(cuts)]
