"""Elements chosen by indices or masks, read and written.

What is written gives a new Tensor. Tensors also have forms that change them, such as
`index_add_`. Shapes that depend on values (`nonzero`, `unique`, `masked_select`) are read from the
device, which a compiled function cannot do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor, Untraceable, no_grad
from ..autograd.operators import MASKED_VALUES
from ..backend_ndarray import NDArray, indexing, is_float
from ..backend_ndarray.layout import normalize_axis
from ..operands import ArrayLike, Index
from ..typing import HostArray, Scalar
from ._common import as_tensor
from ._comparison import where
from ._cumulative import segmented_reduce
from ._indexing import PutItem, axis_key, covered, gather, getitem, index_data
from ._joining import concatenate
from ._shape import broadcast_to, reshape


def _key(axis: int, index: object) -> tuple[object, ...]:
    return (slice(None),) * axis + (index,)


def _positions(what: str, index: ArrayLike) -> NDArray | HostArray:
    """A vector of integers."""
    data = index_data(index)
    found = data if isinstance(data, NDArray) else np.asarray(data)
    if found.dtype.kind not in "iu":
        raise TypeError(f"[{what}] index must hold integers, got {found.dtype}")
    if found.ndim > 1:
        raise ValueError(f"[{what}] index must be a vector, got shape {found.shape}")
    return found if found.ndim else found.reshape(1)


# ---- slices along an axis -----------------------------------------------------------------------


def index_select(a: Tensor, axis: int, index: ArrayLike) -> Tensor:
    """The slices of `a` at the integers `index` along `axis`, in the order of `index`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    index : Tensor or array of integers
        The positions.

    Returns
    -------
    Tensor
        As long as the index along the axis.

    Raises
    ------
    TypeError
        Unless the index holds integers.
    IndexError
        Where one is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.index_select(ndl.Tensor([[1, 2], [3, 4]]), 1, [1]).tolist()
    [[2.0], [4.0]]
    """
    at = normalize_axis(axis, a.ndim, "index_select")
    return getitem(a, _key(at, _positions("index_select", index)))


def index_add(a: Tensor, axis: int, index: ArrayLike, source: Tensor, alpha: float = 1.0) -> Tensor:
    """`a` with alpha · the slices of `source` added at `index` along `axis`.

    A repeated index adds every time.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    index : Tensor or array of integers
        The positions.
    source : Tensor
        The slices; as many as there are positions.
    alpha : float, default 1
        A factor of `source`.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Raises
    ------
    ValueError
        Where the shapes do not fit.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.index_add(ndl.zeros(3), 0, [0, 0], ndl.Tensor([1, 2]))
    needle.Tensor([3. 0. 0.])
    """
    at = normalize_axis(axis, a.ndim, "index_add")
    positions = _positions("index_add", index)
    _check_slices("index_add", a, at, positions, source)
    scaled = source if alpha == 1 else source * alpha
    return a + PutItem(a.shape, _key(at, positions))(scaled.astype(a.dtype))


def index_copy(a: Tensor, axis: int, index: ArrayLike, source: Tensor) -> Tensor:
    """`a` with its slices at `index` along `axis` replaced by those of `source`.

    Of a repeated index the last one counts.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    index : Tensor or array of integers
        The positions.
    source : Tensor
        The slices; as many as there are positions.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.index_copy(ndl.zeros(3), 0, [2], ndl.Tensor([5]))
    needle.Tensor([0. 0. 5.])
    """
    at = normalize_axis(axis, a.ndim, "index_copy")
    positions = _positions("index_copy", index)
    _check_slices("index_copy", a, at, positions, source)
    return put(a, _key(at, positions), source)


def index_fill(a: Tensor, axis: int, index: ArrayLike, value: Scalar | Tensor) -> Tensor:
    """`a` with its slices at `index` along `axis` filled with a number.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        The axis. `dim` is another name of this argument.
    index : Tensor or array of integers
        The positions.
    value : number or Tensor
        What is written.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.index_fill(ndl.zeros(3), 0, [2], 7)
    needle.Tensor([0. 0. 7.])
    """
    at = normalize_axis(axis, a.ndim, "index_fill")
    return put(a, _key(at, _positions("index_fill", index)), value)


def _check_slices(
    what: str, a: Tensor, axis: int, positions: NDArray | HostArray, source: Tensor
) -> None:
    expected = (*a.shape[:axis], positions.shape[0], *a.shape[axis + 1 :])
    if source.shape != expected:
        raise ValueError(f"[{what}] source must have shape {expected}, got {source.shape}")


# ---- any positions ------------------------------------------------------------------------------


def put(a: Tensor, key: Index, value: Tensor | Scalar, accumulate: bool = False) -> Tensor:
    """`a` with `value` written, or added, at [key]; differentiable in both.

    Parameters
    ----------
    a : Tensor
        Any shape and dtype.
    key : index
        What `a[key]` takes.
    value : Tensor or number
        Broadcasts to the shape of `a[key]`, and is converted to the dtype of `a`.
    accumulate : bool, default False
        Whether the values are added to what is there; a repeated index then adds every time.
        Without it one of the values for a repeated index counts, the last one.

    Returns
    -------
    Tensor, the shape and dtype of `a`

    Raises
    ------
    IndexError
        If an index is out of range.
    ValueError
        If the value does not broadcast to the selection.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.put(ndl.zeros(3), [0, 2], 5)
    needle.Tensor([5. 0. 5.])
    """
    data = index_data(key)
    place = PutItem(a.shape, data)
    try:
        shape = a.detach().realize_cached_data()[data].shape
    except Untraceable as error:
        if not indexing.has_mask(data) or accumulate:
            raise
        new = as_tensor(value, a).astype(a.dtype)
        if new.ndim > (a.ndim - data.ndim if isinstance(data, NDArray) else 0):
            raise error.saying(MASKED_VALUES) from None
        return _put_where(a, data, new)
    given = as_tensor(value, a).astype(a.dtype)
    extra = given.ndim - len(shape)
    if extra > 0 and given.shape[:extra] == (1,) * extra:  # as NumPy takes it
        given = reshape(given, given.shape[extra:])
    new = broadcast_to(given, shape)
    if accumulate:
        return a + place(new)
    with no_grad():
        # Where each place of the result comes from: 0 is `a`, i the i-th value. Writing numbers of
        # values decides between those for one place once, for the result and its gradient.
        count = math.prod(shape)
        numbers = NDArray(np.arange(1, count + 1), device=a.device, dtype="int64").reshape(shape)
        origin = a.device.zeros(a.shape, numbers.dtype)
        origin[data] = numbers
        source = Tensor.make_const(origin)
    if not count:
        return a
    chosen = getitem(reshape(new, (-1,)), (source - 1) * (source > 0).astype("int64"))
    return where(source > 0, chosen, a)


def _put_where(a: Tensor, data: Any, value: Tensor) -> Tensor:
    """`put` at a mask whose values are not known: of one number, or of what every place gets."""
    with no_grad():
        is_chosen = a.device.zeros(a.shape, "bool")
        is_chosen[data] = True
    return where(Tensor.make_const(is_chosen), value, a)


def index_put(
    a: Tensor,
    indices: Sequence[ArrayLike | None],
    values: Tensor | Scalar,
    accumulate: bool = False,
) -> Tensor:
    """`a` with `values` written, or added, at a[indices[0], indices[1], …]; see `ops.put`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    indices : sequence
        An index for each axis; None takes all of it.
    values : Tensor or number
        Broadcasts to the selection.
    accumulate : bool, default False
        Whether the values are added.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.index_put(ndl.zeros(3), [[0, 2]], 7)
    needle.Tensor([7. 0. 7.])
    """
    key = tuple(slice(None) if i is None else index_data(i) for i in indices)
    return put(a, key, values, accumulate)


def take_along_dim(a: Tensor, index: ArrayLike, axis: int | None = None) -> Tensor:
    """Pick elements along an axis by an index that broadcasts: NumPy's `take_along_axis`.

    Without an axis both are flattened.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    index : Tensor or array of integers
        The positions.
    axis : int, optional
        None takes all elements. `dim` is another name.

    Returns
    -------
    Tensor
        The broadcast shape.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.take_along_dim(ndl.Tensor([[1, 2], [3, 4]]), [[1], [0]], 1).tolist()
    [[2.0], [3.0]]
    """
    positions = (
        index if isinstance(index, Tensor) else Tensor(index, dtype="int64", device=a.device)
    )
    if axis is None:
        return gather(reshape(a, (-1,)), 0, reshape(positions, (-1,)))
    at = normalize_axis(axis, a.ndim, "take_along_dim")
    shape = np.broadcast_shapes(
        (*a.shape[:at], 1, *a.shape[at + 1 :]),
        (*positions.shape[:at], 1, *positions.shape[at + 1 :]),
    )
    wide = broadcast_to(a, (*shape[:at], a.shape[at], *shape[at + 1 :]))
    spread = broadcast_to(positions, (*shape[:at], positions.shape[at], *shape[at + 1 :]))
    return gather(wide, at, spread)


def scatter(
    a: Tensor, axis: int, index: ArrayLike, src: Tensor | Scalar, reduce: str | None = None
) -> Tensor:
    """Write elements at the positions that an index gives along an axis.

    `out[…, index[…, j, …], …] = src[…, j, …]`, and `a` elsewhere.

    Parameters
    ----------
    a : Tensor
        Any dtype.
    axis : int
        The axis of the indices. `dim` is another name.
    index : Tensor or array of integers
        As many axes as `a`, and no longer than it outside `axis`.
    src : Tensor or number
        At least as long as `index` along every axis.
    reduce : {"add", "multiply"}, optional
        Add to what is there, or multiply it, instead of replacing it.

    Returns
    -------
    Tensor, the shape of `a`

    Raises
    ------
    TypeError
        If the index does not hold integers.
    ValueError
        If the shapes do not fit, or for another `reduce`.
    IndexError
        If an index is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.scatter(ndl.zeros(1, 3), 1, [[2]], 7.0).tolist()
    [[0.0, 0.0, 7.0]]
    """
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise ValueError(f"[scatter] reduce must be 'add' or 'multiply', got {reduce!r}")
        return scatter_reduce(a, axis, index, src, "sum" if reduce == "add" else "prod")
    key = axis_key(a.shape, axis, index, "scatter")
    return put(a, key, covered(src, key, "scatter") if isinstance(src, Tensor) else src)


def scatter_reduce(
    a: Tensor,
    axis: int,
    index: ArrayLike,
    src: Tensor | Scalar,
    reduce: str,
    include_self: bool = True,
) -> Tensor:
    """Reduce all elements of `src` that an index sends to the same place.

    Parameters
    ----------
    a, axis, index, src : as in `scatter`
    reduce : {"sum", "prod", "mean", "amax", "amin"}
        What is made of them.
    include_self : bool, default True
        Whether the element of `a` takes part where something is written.

    Returns
    -------
    Tensor, the shape of `a`

    Raises
    ------
    ValueError
        For another `reduce`, and as `scatter`.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([1, 2, 3])
    >>> ndl.scatter_reduce(ndl.zeros(2), 0, [0, 0, 1], x, "sum")
    needle.Tensor([3. 3.])
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ValueError(
            "[scatter_reduce] reduce must be 'sum', 'prod', 'mean', 'amax' or 'amin', "
            f"got {reduce!r}"
        )
    key = axis_key(a.shape, axis, index, "scatter_reduce")
    shape = np.broadcast_shapes(*(part.shape for part in key))
    if isinstance(src, Tensor):
        values = covered(src, key, "scatter_reduce")
    else:
        values = broadcast_to(as_tensor(src, a), shape)
    with no_grad():
        ones = Tensor(np.ones(shape), device=a.device, dtype=a.dtype, requires_grad=False)
        count = PutItem(a.shape, key)(ones)
    written = count > 0
    if reduce in ("sum", "mean"):
        total = PutItem(a.shape, key)(values) + (a if include_self else where(written, 0, a))
        if reduce == "sum":
            return total
        number = count + 1 if include_self else where(written, count, 1)
        return total / number if is_float(a.dtype) else (total // number).astype(a.dtype)
    # No primitive scatters products or extremes: the values are brought into the order of places.
    with no_grad():
        numbers = NDArray(np.arange(a.size), device=a.device, dtype="int64").reshape(a.shape)
        place = reshape(Tensor.make_const(numbers[key]), (-1,))
        own = reshape(Tensor.make_const(numbers), (-1,))
    values = reshape(values, (-1,))
    if include_self:
        values = concatenate([values, reshape(a, (-1,))])
        place = concatenate([place, own])
    joined = segmented_reduce(values, place, a.size, reduce)
    return where(written, reshape(joined, a.shape), a)


__all__ = [
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "put",
    "scatter",
    "scatter_reduce",
    "take_along_dim",
]
