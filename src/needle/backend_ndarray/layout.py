"""Arithmetic on shapes and strides (in elements); no array is touched here."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeVar

import numpy as np

from ..given import shown

Shape = tuple[int, ...]
MAX_ELEMENTS = 2**46  # of an array, axes of length 0 counted as 1; also of a view that repeats


def whole(value: Any, what: str, name: str) -> int:
    """`value` as an int: integers of Python and NumPy and 0-d integer arrays are ones.

    Raises TypeError for others, floats included, that names the op `what` and the argument.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"[{what}] {name} must be an integer, got {shown(value)}") from None


def wholes(values: Any, what: str, name: str) -> Shape:
    """An integer or a sequence of integers as a tuple of ints. Raises TypeError for others."""
    try:
        if not isinstance(values, (tuple, list)) and _is_single(values):
            return (operator.index(values),)
        return tuple(map(operator.index, values))
    except TypeError:
        raise TypeError(f"[{what}] {name} must be made of integers, got {shown(values)}") from None


def _is_single(value: object) -> bool:
    """Whether it is a number or a 0-d array, and no sequence."""
    return hasattr(value, "__index__") and not getattr(value, "shape", ())


def unpack(args: Sequence[object]) -> Any:
    """(2, 3), ((2, 3),), ([2, 3],) and an array of 2 and 3 all mean the shape (2, 3)."""
    return args[0] if len(args) == 1 else args


def as_shape(shape: object, what: str) -> Shape:
    """A length or a sequence of them as a shape; TypeError or ValueError for others."""
    lengths = wholes(shape, what, "the shape")
    if any(n < 0 for n in lengths):
        raise ValueError(f"[{what}] the shape must have no negative entry, got {lengths}")
    if len(lengths) > MAX_DIMENSIONS:
        check_ndim(len(lengths))
    return lengths


def checked_shape(name: str, shape: Sequence[object]) -> Shape:
    """Separate lengths or one tuple of them as a shape; TypeError or ValueError for others."""
    return as_shape(unpack(tuple(shape)), name)


def named_shape(name: str, shape: Sequence[object], size: object) -> Shape:
    """The shape that is given as separate lengths, or by the name `size`."""
    if size is None:
        return checked_shape(name, shape)
    if shape:
        raise TypeError(f"[{name}] the shape is given twice: as {shape} and as size={size}")
    return checked_shape(name, (size,))


def check_size(name: str, shape: Shape) -> None:
    """Raise ValueError for a shape of negative lengths or of more than `MAX_ELEMENTS`."""
    if any(n < 0 for n in shape):
        raise ValueError(f"[{name}] the shape must have no negative entry, got {shape}")
    if prod(n or 1 for n in shape) > MAX_ELEMENTS:
        raise ValueError(f"[{name}] shape {shape} has more than 2^46 elements")


@lru_cache(maxsize=4096)
def compact_strides(shape: Shape) -> Shape:
    """The strides of a row-major array without gaps."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_compact(shape: Shape, strides: Shape) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    if strides == compact_strides(shape):
        return True
    # The stride of an axis of length 1 is never used, and an empty array has no elements.
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 0:
            return True
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Whether the elements fill their memory without gaps, the axes in whatever order."""
    expected = 1
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def extent(shape: Shape, strides: Shape) -> tuple[int, int]:
    """The lowest and one past the highest element offset that a layout touches."""
    if 0 in shape:
        return 0, 0
    steps = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return sum(s for s in steps if s < 0), 1 + sum(s for s in steps if s > 0)


def check_bounds(shape: Shape, strides: Shape, offset: int, size: int, what: str) -> None:
    """Raises ValueError for a layout that reaches outside a buffer of `size` elements."""
    low, high = extent(shape, strides)
    if high > low and (offset + low < 0 or offset + high > size):
        raise ValueError(
            f"[{what}] shape {shape} with strides {strides} at offset {offset} reaches outside a "
            f"buffer of {size} elements"
        )


@lru_cache(maxsize=4096)
def overlaps_itself(shape: Shape, strides: Shape) -> bool:
    """Whether some elements of a layout lie in the same place, as those of a broadcast axis do."""
    if 0 in shape:
        return False
    reach, apart = 0, True
    for stride, n in sorted((abs(s), n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if stride == 0:
            return True
        apart = apart and stride > reach
        reach += (n - 1) * stride
    if apart:
        return False
    places = np.zeros((1,), np.int64)
    for n, stride in zip(shape, strides, strict=True):
        places = np.add.outer(places, np.arange(n) * stride).ravel()
    return len(np.unique(places)) < len(places)


Group = TypeVar("Group")


def joined_axes(axes: Iterable[tuple[int, Shape, Group]]) -> list[tuple[int, Shape, Group]]:
    """Axes of a loop over several arrays, with neighbours joined where every array allows it.

    An axis is its length, the stride of each array along it, and a group. Two neighbours of one
    group become one axis if every array is evenly strided over both. Axes of length 1 are dropped.

    >>> joined_axes([(4, (15, 0), None), (3, (5, 0), None), (1, (7, 7), None), (5, (1, 1), None)])
    [(12, (5, 0), None), (5, (1, 1), None)]
    """
    joined: list[tuple[int, Shape, Group]] = []
    for axis in axes:
        length, strides, group = axis
        if length == 1:
            continue
        if joined:
            outer, outer_strides, outer_group = joined[-1]
            if outer_group == group and all(
                a == b * length for a, b in zip(outer_strides, strides, strict=True)
            ):
                joined[-1] = outer * length, strides, group
                continue
        joined.append(axis)
    return joined


def normalize_axis(axis: int, ndim: int, what: str) -> int:
    """`axis` counted from the front.

    Raises ValueError naming the op `what` when out of range, TypeError for what is no integer.
    """
    if type(axis) is not int:
        axis = whole(axis, what, "axis")
    if not -ndim <= axis < ndim:
        raise ValueError(f"[{what}] axis {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


def normalize_axes(axes: int | Sequence[int] | None, ndim: int, what: str) -> Shape:
    """Sorted distinct axes counted from the front; None means all of them.

    A 0-d array may be reduced over its axis 0 or -1, which it does not have, as in NumPy.
    """
    if axes is None:
        return tuple(range(ndim))
    if ndim == 0:
        axes = [axis for axis in wholes(axes, what, "axes") if axis not in (0, -1)]
    if type(axes) is int:
        return (normalize_axis(axes, ndim, what),)
    result = tuple(sorted(normalize_axis(axis, ndim, what) for axis in wholes(axes, what, "axes")))
    if len(set(result)) != len(result):
        raise ValueError(f"[{what}] axes {axes} name the same axis twice")
    return result


def check_update(symbol: str, target: Shape, result: Shape) -> None:
    """Raises ValueError unless a result of `result`'s shape can be written into `target`'s."""
    if result != target:
        raise ValueError(
            f"[{symbol}] works in place: the result has shape {result} and does not fit into an "
            f"array of shape {target}; write x = x {symbol[:-1]} y for a new one"
        )


def reduced_shape(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """The shape after reducing over sorted `axes`."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def broadcast_shapes(a: Shape, b: Shape, what: str) -> Shape:
    """The shape of an element-wise operation on shapes `a` and `b` (NumPy's rule)."""
    if a == b:
        return a
    ndim = max(len(a), len(b))
    out = []
    for m, n in zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"[{what}] shapes {a} and {b} cannot be broadcast together")
        out.append(n if m == 1 else m)
    return tuple(out)


@lru_cache(maxsize=4096)
def broadcast_strides(shape: Shape, strides: Shape, target: Shape) -> Shape:
    """Strides under which an array of `shape` reads as `target`; 0 along the repeated axes."""
    lead = len(target) - len(shape)
    if lead < 0 or any(n not in (1, t) for n, t in zip(shape, target[lead:], strict=True)):
        raise ValueError(f"[broadcast_to] shape {shape} cannot be broadcast to {target}")
    check_size("broadcast_to", target)
    return (0,) * lead + tuple(
        stride if n == t else 0 for n, t, stride in zip(shape, target[lead:], strides, strict=True)
    )


def resolve_shape(shape: object, size: int) -> Shape:
    """`shape` with its one -1 filled in, checked against the number of elements."""
    result = wanted = wholes(shape, "reshape", "the shape")
    if wanted and min(wanted) < 0:
        if wanted.count(-1) > 1 or min(wanted) < -1:
            raise ValueError(f"[reshape] shape may hold one -1 and no other negative, got {wanted}")
        known = -prod(wanted)
        missing = size // known if known else 0
        result = tuple(missing if n == -1 else n for n in wanted)
    if prod(result) != size:
        raise ValueError(f"[reshape] cannot give {size} elements the shape {wanted}")
    return result


def reshape_strides(shape: Shape, strides: Shape, target: Shape) -> Shape | None:
    """Strides that show an array as `target` without a copy, or None where there are none.

    Walks both shapes from the front in groups of equal product; a group can be regrouped only
    if its own axes are evenly spaced.
    """
    if 0 in shape:  # nothing is ever read
        return compact_strides(target)
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    i = j = 0
    while j < len(target):
        if target[j] == 1:
            result.append(0)
            j += 1
            continue
        group = [axes[i]]
        sizes = [target[j]]
        while prod(n for n, _ in group) != prod(sizes):
            if prod(n for n, _ in group) < prod(sizes):
                group.append(axes[i + len(group)])
            else:
                sizes.append(target[j + len(sizes)])
        for (_, outer), (n, inner) in itertools.pairwise(group):
            if outer != n * inner:
                return None
        step = group[-1][1]
        result.extend(step * s for s in compact_strides(tuple(sizes)))
        i += len(group)
        j += len(sizes)
    return tuple(result)


MAX_DIMENSIONS = 32  # MAX_DIMS of csrc/cpu/view.h


def check_ndim(ndim: int) -> None:
    """Raises ValueError for more axes than kernels take."""
    if ndim > MAX_DIMENSIONS:
        raise ValueError(f"arrays have at most {MAX_DIMENSIONS} dimensions, got {ndim}")
