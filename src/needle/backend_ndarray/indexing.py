"""NumPy's indexing rules on strided arrays: views for basic keys, row gathers for fancy ones.

A fancy key is brought to one form: the indexed axes first and merged into one axis of rows. Then
reading is `gather_rows`, and its transpose (the gradient) is `scatter_add_rows` with the same row
numbers.

Index arrays of the host are checked and merged on the host. Integer NDArrays never pass the host:
their row numbers are computed with primitives, and `gather_rows` finds those out of range. The
shape that a mask selects depends on its values, so masks are read.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from .dtypes import BOOL, FLOAT32, INT64, is_float, is_stored
from .layout import Shape, broadcast_shapes, compact_strides

if TYPE_CHECKING:
    from .ndarray import NDArray


Basic: TypeAlias = tuple[slice | None, ...]
Index: TypeAlias = "np.ndarray | NDArray"  # integers into one axis


def _is_ndarray(item: object) -> TypeGuard[NDArray]:
    return hasattr(item, "_handle")


# What NumPy takes for an array of indices, beside arrays themselves. A bool is a 0-d mask.
_ARRAYS = (list, range, bool, np.bool_, np.ndarray)


def _is_array(item: object) -> bool:
    return isinstance(item, _ARRAYS) or hasattr(item, "_handle")


def is_fancy(key: object) -> bool:
    """Whether a key holds an array (or list) of indices or a mask."""
    if isinstance(key, tuple):
        return any(_is_array(item) or isinstance(item, tuple) for item in key)
    return _is_array(key)


def as_host_key(key: object) -> Any:
    """`key` with every array in it as a NumPy array of integers or bools."""
    if isinstance(key, tuple):
        return tuple(_as_host_index(item) for item in key)
    return _as_host_index(key)


def _as_host_index(item: object) -> Any:
    if not _is_array(item) and not isinstance(item, tuple):
        return item
    index = np.asarray(item)
    if index.size == 0 and isinstance(item, (list, tuple, range)):  # of no dtype
        return index.astype(np.int64)
    _check_dtype(index.dtype)
    return index


def _without_masks(key: object) -> object:
    """`as_host_key` that leaves integer NDArrays as they are."""
    if isinstance(key, tuple):
        return tuple(map(_index_of, key))
    return _index_of(key)


def _index_of(item: object) -> object:
    if not _is_ndarray(item) or item._dtype is BOOL:
        return _as_host_index(item)
    _check_dtype(item._dtype)
    return item


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind not in "iub":
        raise IndexError(f"arrays used as indices must be integer or bool, got {dtype}")


def _expand(key: object, ndim: int) -> list[object]:
    """The key as one entry per axis plus one per None, without `...`."""
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(
        (item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1)
        for item in items
        if item is not None and item is not Ellipsis
    )
    if used > ndim:
        raise IndexError(f"too many indices: the array has {ndim} dimensions, got {used} indices")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can hold only one ellipsis ('...')")
    at = dots[0] if dots else len(items)
    return items[:at] + [slice(None)] * (ndim - used) + items[at + 1 :]


def basic_view(x: NDArray, key: object) -> tuple[Shape, Shape, int]:
    """(shape, strides, offset) of the view that ints, slices, `...` and None select."""
    shape: list[int] = []
    strides: list[int] = []
    offset, axis = x._offset, 0
    for item in _expand(key, len(x._shape)):
        if item is None:
            shape.append(1)
            strides.append(0)
            continue
        n, stride = x._shape[axis], x._strides[axis]
        if isinstance(item, slice):
            start, stop, step = item.indices(n)
            length = len(range(start, stop, step))
            shape.append(length)
            strides.append(stride * step if length > 1 else stride)  # a step may be any number
            offset += start * stride if length else 0
        else:
            offset += _checked_int(item, n, axis) * stride
        axis += 1
    return tuple(shape), tuple(strides), offset


def _checked_int(item: object, n: int, axis: int) -> int:
    if isinstance(item, (bool, np.bool_)) or not hasattr(item, "__index__"):
        raise IndexError(
            f"an index must be an integer, a slice, '...', None or an array, got {item!r}"
        )
    i: int = item.__index__()
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of range for axis {axis} of length {n}")
    return i + n if i < 0 else i


class _Flag(NamedTuple):
    """A 0-d mask: an index into a new axis of length 1, of one element for True and none for False.

    The rule is NumPy's: `x[True]` is `x[None]` and `x[False]` selects nothing.
    """

    places: np.ndarray


class FancyIndex(NamedTuple):
    """A fancy key brought to one form, for an array of a certain shape."""

    basic: Basic  # the slices and Nones, applied first as a view
    order: tuple[int, ...]  # then the axes permuted: the indexed ones first
    indexed: int  # how many axes are indexed
    rows: NDArray  # which rows of the merged axes, flat int64
    index_shape: Shape  # the shape that the rows have in the result
    position: int  # where in the result index_shape stands

    def restore(self, ndim: int) -> tuple[int, ...]:
        """The axes order that moves index_shape from the front to its position."""
        k = len(self.index_shape)
        rest = list(range(k, ndim))
        return (*rest[: self.position], *range(k), *rest[self.position :])


def plan(x: NDArray, key: object) -> FancyIndex:
    """Bring a fancy key on `x` to one form. Raises IndexError for a bad key.

    Integers out of range in an NDArray are left to the kernel that looks them up.
    """
    items = _expand(_without_masks(key), len(x._shape))
    items = _split_masks(items, x._shape)
    basic: list[slice | None] = []
    arrays: list[tuple[int, Index]] = []  # (axis in the basic view, index)
    axis = 0
    for item in items:
        if item is None or isinstance(item, slice):
            basic.append(item)
        elif isinstance(item, _Flag):
            arrays.append((len(basic), item.places))
            basic.append(None)
            continue
        else:
            index = item if _is_ndarray(item) else _in_range(item, x._shape[axis], axis)
            arrays.append((len(basic), index))
            basic.append(slice(None))
        axis += item is not None
    return _merge(x, tuple(basic), arrays)


def _in_range(item: object, n: int, axis: int) -> np.ndarray:
    """Indices of the host counted from the front. Raises IndexError for one out of range."""
    if not isinstance(item, np.ndarray):
        return np.asarray(_checked_int(item, n, axis))
    index = item  # compared in its own dtype: uint64 may be beyond int64
    bad = (index < -n) | (index >= n) if index.dtype.kind == "i" else index >= n
    if bad.any():
        raise IndexError(
            f"index {index[bad].flat[0]} is out of range for axis {axis} of length {n}"
        )
    index = index.astype(np.int64, copy=False)
    return np.where(index < 0, index + n, index)


def _merge(x: NDArray, basic: Basic, arrays: list[tuple[int, Index]]) -> FancyIndex:
    axes = [axis for axis, _ in arrays]
    viewed = _basic_shape(x._shape, basic)
    index_shape: Shape = ()
    try:
        for _, index in arrays:
            index_shape = broadcast_shapes(index_shape, index.shape, "getitem")
    except ValueError:
        shapes = [index.shape for _, index in arrays]
        raise IndexError(f"index arrays of shapes {shapes} cannot be broadcast together") from None
    lengths = tuple(viewed[a] for a in axes)
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    order = (*axes, *(i for i in range(len(viewed)) if i not in axes))
    return FancyIndex(
        basic,
        order,
        len(axes),
        _rows(x, [index for _, index in arrays], lengths, index_shape),
        index_shape,
        axes[0] if adjacent else 0,
    )


def _rows(x: NDArray, indices: list[Index], lengths: Shape, shape: Shape) -> NDArray:
    """The row numbers, flat int64 on x's device, of indices into axes of these lengths."""
    known: np.ndarray | None = None  # the sum of what the host knows
    parts: list[NDArray] = []
    for index, n, stride in zip(indices, lengths, compact_strides(lengths), strict=True):
        if isinstance(index, np.ndarray):
            offsets = index if stride == 1 else index * stride
            known = offsets if known is None else known + offsets
        elif len(lengths) > 1:
            parts.append(_offsets(x, index, n, stride))
        else:
            parts.append(_as_rows(x, index))
    if known is not None:
        parts.append(_to_device(x, known).reshape(known.shape))
    rows = parts[0]
    for part in parts[1:]:
        rows = rows + part
    return rows.broadcast_to(shape).reshape((prod(shape),)).compact()


def _offsets(x: NDArray, index: NDArray, n: int, stride: int) -> NDArray:
    """index·stride, counted from the front.

    Looked up in a table, because the kernel that does it finds the indices out of range.
    """
    return gather_rows(_to_device(x, np.arange(n) * stride), index)


def _as_rows(x: NDArray, index: NDArray) -> NDArray:
    """`index` as int64 on x's device."""
    return index.to(x._device).astype(INT64)


def _split_masks(items: list[object], shape: Shape) -> list[object]:
    """The items with the positions that are True, an array an axis, in the place of each mask.

    Raises IndexError for a mask of another shape than the axes that it stands for.
    """
    parts: list[object] = []
    axis = 0
    for item in items:
        if isinstance(item, np.ndarray) and item.dtype == np.bool_ and not item.ndim:
            parts.append(_Flag(np.zeros(int(item), np.int64)))
        elif isinstance(item, np.ndarray) and item.dtype == np.bool_:
            covered = shape[axis : axis + item.ndim]
            if item.shape != covered:
                raise IndexError(
                    f"a mask of shape {item.shape} cannot select from axes of lengths {covered}"
                )
            parts.extend(item.nonzero())
            axis += item.ndim
        else:
            parts.append(item)
            axis += item is not None
    return parts


def _basic_shape(shape: Shape, basic: Basic) -> Shape:
    lengths = iter(shape)
    return tuple(1 if s is None else len(range(*s.indices(next(lengths)))) for s in basic)


def take(x: NDArray, key: object) -> NDArray:
    """x[key] for a fancy key: a new array."""
    if is_rows(key):
        return gather_rows(x, key)
    index = plan(x, key)
    moved = x[index.basic].permute(index.order)
    rest = moved._shape[index.indexed :]
    rows = moved.reshape((prod(moved._shape[: index.indexed]), prod(rest)))
    out = x._empty((index.rows.size, rows._shape[1]), x._device, x._dtype)
    x._device.gather_rows(rows, index.rows, out)
    out = out.reshape(index.index_shape + rest)
    return out.permute(index.restore(out.ndim))


def add_at(out: NDArray, key: object, src: NDArray) -> None:
    """out[key] += src for a fancy key, counting repeated indices every time.

    `out` must be compact. This is the transpose of `take`.
    """
    if is_stored(out._dtype):
        _add_in_float32(add_at, out, key, src)
        return
    index = plan(out, key)
    moved = out[index.basic].permute(index.order)
    rest = moved._shape[index.indexed :]
    rows = moved.reshape((prod(moved._shape[: index.indexed]), prod(rest)))
    restore = index.restore(len(index.index_shape) + len(rest))
    inverse = tuple(int(i) for i in np.argsort(restore))
    flat = src.permute(inverse).reshape((index.rows.size, rows._shape[1])).compact()
    out._device.scatter_add_rows(rows, index.rows, flat)
    if rows._handle is not out._handle:  # the reshape had to copy: write the sums back
        back = tuple(int(i) for i in np.argsort(index.order))
        out._put(index.basic, rows.reshape(moved._shape).permute(back))


def put(x: NDArray, key: object, values: NDArray) -> None:
    """x[key] = values for a fancy key, by primitives alone; the last of repeated indices counts.

    A mask whose values are not known yet takes what is the same for all that it selects.
    """
    if has_mask(key):
        same = _same_for_all(x, key, values)
        if same is not None:
            mask, new, view = same
            x._device.where(mask, new, view.copy(), view)
            return
    index = plan(x, key)
    moved = x[index.basic].permute(index.order)
    rest = moved._shape[index.indexed :]
    count, width = prod(moved._shape[: index.indexed]), prod(rest)
    order = index.restore(len(index.index_shape) + len(rest))
    front = (*index.index_shape, *rest)
    new = values.broadcast_to(tuple(front[i] for i in order))
    new = new.permute(tuple(int(i) for i in np.argsort(order))).reshape((index.rows.size, width))
    if not new.size:
        return
    which = _last_of_each(x, index.rows, count)
    is_written = which.compare("ge", 0)
    rows = gather_rows(new, which.maximum(0))
    old = moved.reshape((count, width))
    chosen = x._empty((count, width), x._device, x._dtype)
    x._device.where(is_written.reshape((count, 1)).broadcast_to((count, width)), rows, old, chosen)
    back = tuple(int(i) for i in np.argsort(index.order))
    x._put(index.basic, chosen.reshape(moved._shape).permute(back))


def has_mask(key: object) -> bool:
    """Whether a mask of a device is among the items of a key."""
    items = key if isinstance(key, tuple) else (key,)
    return any(_is_ndarray(item) and item._dtype is BOOL for item in items)


def _same_for_all(
    x: NDArray, key: object, values: NDArray
) -> tuple[NDArray, NDArray, NDArray] | None:
    """(mask, values, part of x), all of one shape, where the mask's own values do not matter.

    So it is for one mask beside ints, slices, `...` and None, if it fits and all that it selects
    gets the same. None for other keys.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    at = next(i for i, item in enumerate(items) if _is_ndarray(item) and item._dtype is BOOL)
    mask: Any = items.pop(at)
    if any(is_fancy(item) for item in items):
        return None
    covered = len(mask._shape)
    after = len(items) - at
    items[at:at] = [slice(None)] * covered
    every = _expand(tuple(items), len(x._shape))
    first = len(every) - after - covered if ... in items[:at] else at
    view = x[tuple(every)]
    lead = sum(item is None or isinstance(item, slice) for item in every[:first])
    rest = view._shape[lead + covered :]
    if any(not (item is None or isinstance(item, slice)) for item in every):
        rest = ()  # an int moves the selection to the front: only one number fits any order
    while values._shape[:1] == (1,) and len(values._shape) > len(rest):
        values = values.reshape(values._shape[1:])
    if view._shape[lead : lead + covered] != mask._shape or len(values._shape) > len(rest):
        return None
    if broadcast_shapes(values._shape, rest, "setitem") != rest:
        return None
    ones = (1,) * (len(view._shape) - lead - covered)
    whole = mask.reshape((*(1,) * lead, *mask._shape, *ones))
    return whole.broadcast_to(view._shape), values.broadcast_to(view._shape), view


def _last_of_each(x: NDArray, rows: NDArray, count: int) -> NDArray:
    """For each of `count` rows the last place in `rows` that names it, or -1."""
    rows = gather_rows(_to_device(x, np.arange(count)), rows)  # from the front, none out of range
    order = rows.argsort(0)  # is stable
    ranked = gather_rows(rows, order)
    is_last = ranked.compare("ne", ranked[1:].pad(((0, 1),), -1))
    places = (order + 1) * is_last.astype(INT64)
    which = x._device.full((count,), 0, INT64)
    scatter_add_rows(which, ranked, places)
    return which - 1


def is_rows(key: object) -> TypeGuard[NDArray]:
    """Whether a key is one integer NDArray, which selects along axis 0."""
    return _is_ndarray(key) and key._dtype is not BOOL and not is_float(key._dtype)


def gather_rows(x: NDArray, index: NDArray) -> NDArray:
    """x[index] along axis 0 for an integer array on x's device; nothing passes the host."""
    if not x._shape:
        raise IndexError("too many indices: the array has 0 dimensions, got 1 index")
    rest = x._shape[1:]
    rows = x.reshape((x._shape[0], prod(rest)))
    flat = _as_rows(x, index).reshape((index.size,)).compact()
    out = x._empty((flat.size, rows._shape[1]), x._device, x._dtype)
    x._device.gather_rows(rows, flat, out)
    return out.reshape(index._shape + rest)


def scatter_add_rows(out: NDArray, index: NDArray, src: NDArray) -> None:
    """out[index] += src along axis 0 for a compact `out`: the transpose of `gather_rows`."""
    if is_stored(out._dtype):
        _add_in_float32(scatter_add_rows, out, index, src)
        return
    width = prod(out._shape[1:])
    flat = _as_rows(out, index).reshape((index.size,)).compact()
    out._device.scatter_add_rows(
        out.reshape((out._shape[0], width)), flat, src.reshape((flat.size, width)).compact()
    )


def _add_in_float32(add: Callable[..., None], out: NDArray, key: object, src: NDArray) -> None:
    """Sums of numbers of 16 bits, rounded once."""
    sums = out.astype(FLOAT32)
    add(sums, key, src.astype(FLOAT32))
    out._assign(sums)


def _to_device(x: NDArray, rows: np.ndarray) -> NDArray:
    flat = np.ascontiguousarray(rows, dtype=np.int64).reshape(-1)
    return type(x)._view((flat.size,), (1,), 0, x._device.wrap(flat), x._device, INT64)
