"""Tuples of tensors: joining tensors along an axis, and taking them apart.

Their gradients need shapes only, and each is the transpose of another op here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, overload

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import SparseGradients, Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..backend_ndarray import NDArray
from ..backend_ndarray.layout import normalize_axis, whole, wholes


class MakeTensorTuple(TensorTupleOp):
    """Tensors as one TensorTuple."""

    saves_values = False

    def compute(self, *args: NDArray) -> tuple[NDArray, ...]:
        return args

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Tensor, ...]:
        return tuple(out_grad[i] for i in range(len(out_grad)))


class TupleGetItem(TensorOp):
    """One member of a TensorTuple; the gradient of the others is 0."""

    saves_values = False

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, a: TensorTuple, fold_const: bool = True) -> Tensor:  # type: ignore[override]
        # Taking a member out of a tuple that was just made is the member itself.
        if fold_const and isinstance(a.op, MakeTensorTuple):
            member: Tensor = a.inputs[self.index]
            return member
        return Tensor.make_from_op(self, [a])

    def compute(self, a: tuple[NDArray, ...]) -> NDArray:
        return a[self.index]

    def gradient(self, out_grad: Tensor, node: Tensor) -> SparseGradients:
        return SparseGradients(node.inputs[0], {self.index: out_grad})


class Stack(TensorOp):
    """The members of a TensorTuple joined along a new axis."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, args: Sequence[NDArray]) -> NDArray:
        return nd.stack(args, self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> TensorTuple:
        return _in_dtypes_of(node.inputs[0], split(out_grad, self.axis))


class Split(TensorTupleOp):
    """The slices along an axis, with that axis removed."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        along = normalize_axis(self.axis, a.ndim, "split")
        lead = (slice(None),) * along
        return tuple(a[(*lead, i)] for i in range(a.shape[along]))

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        return stack(out_grad, normalize_axis(self.axis, node.inputs[0].ndim, "split"))


class Parts(TensorTupleOp):
    """Parts of given lengths along an axis, which they fill."""

    saves_values = False

    def __init__(self, sizes: Sequence[int], axis: int) -> None:
        self.ends, self.axis = list(accumulate(sizes)), axis

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        lead = (slice(None),) * self.axis
        return tuple(a[(*lead, slice(i, j))] for i, j in pairwise((0, *self.ends)))

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        return concatenate(out_grad, self.axis)


class Concatenate(TensorOp):
    """The members of a TensorTuple joined along an existing axis."""

    saves_values = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def compute(self, args: Sequence[NDArray]) -> NDArray:
        return nd.concatenate(args, self.axis)

    def gradient(self, out_grad: Tensor, node: Tensor) -> TensorTuple:
        parts = node.inputs[0].realize_cached_data()
        lead = (slice(None),) * normalize_axis(self.axis, out_grad.ndim, "concatenate")
        ends = np.cumsum([x.shape[self.axis] for x in parts]).tolist()
        starts = [0, *ends[:-1]]
        cut = [out_grad[(*lead, slice(a, b))] for a, b in zip(starts, ends, strict=True)]
        return _in_dtypes_of(node.inputs[0], cut)


def _in_dtypes_of(members: Any, gradients: Iterable[Tensor]) -> TensorTuple:
    """Gradients of joined Tensors, of which some may have a narrower dtype than the result."""
    arrays = members.realize_cached_data()
    return make_tuple(*(g.astype(x._dtype) for x, g in zip(arrays, gradients, strict=True)))


def make_tuple(*args: Tensor) -> TensorTuple:
    """Combine tensors to one TensorTuple.

    Parameters
    ----------
    *args : Tensor
        The members.

    Returns
    -------
    TensorTuple

    Examples
    --------
    >>> import needle as ndl
    >>> len(ndl.ops.make_tuple(ndl.ones(2), ndl.zeros(3)))
    2
    """
    return MakeTensorTuple()(*args)


def tuple_get_item(value: TensorTuple, index: int) -> Tensor:
    """Member of a TensorTuple.

    Parameters
    ----------
    value : TensorTuple
        The tuple.
    index : int
        The member; a negative index counts from the end.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexError
        If the index is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> pair = ndl.ops.make_tuple(ndl.ones(1), ndl.zeros(1))
    >>> ndl.ops.tuple_get_item(pair, -1)
    needle.Tensor([0.])
    """
    n, index = len(value), whole(index, "tuple_get_item", "index")
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of range for a tuple of {n} tensors")
    return TupleGetItem(index % n)(value)


def stack(args: Sequence[Tensor] | TensorTuple, axis: int = 0) -> Tensor:
    """Join tensors of equal shape along a new axis.

    Parameters
    ----------
    args : sequence of Tensor or TensorTuple
        At least one tensor.
    axis : int, default 0
        The position of the new axis. `dim` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `args` is not a non-empty sequence of Tensors.
    ValueError
        If the shapes differ or the axis is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> a, b = ndl.Tensor([1, 2]), ndl.Tensor([3, 4])
    >>> ndl.stack([a, b], axis=1).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    return Stack(axis)(_as_tuple(args, "stack"))


_SPLIT_NAMES = {
    "dim": "axis",
    "axes": "axis",
    "split_size": "size",
    "split_size_or_sections": "size",
}


@overload
def split(a: Tensor, axis: int) -> TensorTuple: ...


@overload
def split(a: Tensor, size: int | Sequence[int], axis: int) -> tuple[Tensor, ...]: ...


def split(
    a: Tensor, *args: int | Sequence[int], **options: int | Sequence[int]
) -> TensorTuple | tuple[Tensor, ...]:
    """Slices along an axis, which they lack: the inverse of `stack`; or parts of a given size.

    `split(a, axis)` is the course's function: a slice for each position. `split(a, size, axis)` is
    PyTorch's, as is `a.split(size, axis)`: see `split_by_size`, also for PyTorch's `split(a, size)`
    without an axis.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    *args : int or sequence of int
        The axis, or a size and the axis.
    **options : int or sequence of int
        `axis` (`dim`) and `size` by name.

    Returns
    -------
    TensorTuple
        As many members as the axis is long; a tuple of Tensors where there is a size.

    Raises
    ------
    ValueError
        If `a` does not have the axis, or the sizes do not add up to its length.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.split(ndl.Tensor([[1, 2], [3, 4]]), 1)[0]
    needle.Tensor([1. 3.])
    """
    names = ["size", "axis"] if len(args) + len(options) > 1 or _has_sizes(args) else ["axis"]
    given = dict(zip(names, args, strict=False))
    given.update((_SPLIT_NAMES.get(name, name), value) for name, value in options.items())
    if set(given) == {"axis"}:
        return Split(whole(given["axis"], "split", "axis"))(a)
    if "size" not in given or set(given) - {"size", "axis"} or len(args) > 2:
        raise TypeError("[split] takes split(a, axis) or split(a, size, axis)")
    return split_by_size(a, given["size"], whole(given.get("axis", 0), "split", "axis"))


def _has_sizes(args: Sequence[int | Sequence[int]]) -> bool:
    return bool(args) and isinstance(args[0], (list, tuple))


def concatenate(args: Sequence[Tensor] | TensorTuple, axis: int = 0) -> Tensor:
    """Join tensors along an existing axis.

    `cat` and `concat` are aliases.

    Parameters
    ----------
    args : sequence of Tensor or TensorTuple
        At least one tensor; the shapes agree outside `axis`.
    axis : int, default 0
        The axis along which the tensors are joined. `dim` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `args` is not a non-empty sequence of Tensors.
    ValueError
        If the shapes differ outside the axis or the axis is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.concatenate([ndl.Tensor([1, 2]), ndl.Tensor([3])])
    needle.Tensor([1. 2. 3.])
    """
    return Concatenate(axis)(_as_tuple(args, "concatenate"))


def chunk(a: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """At most so many parts along an axis, all of one length but the last.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    chunks : int
        The number of parts.
    axis : int, default 0
        The axis. `dim` is another name of this argument.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ValueError
        Unless `chunks` is positive, or if `a` does not have the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.chunk(ndl.Tensor([1, 2, 3, 4]), 2)]
    [[1.0, 2.0], [3.0, 4.0]]
    """
    along = normalize_axis(axis, a.ndim, "chunk")
    n, chunks = a.shape[along], whole(chunks, "chunk", "chunks")
    if chunks < 1:
        raise ValueError(f"[chunk] chunks must be positive, got {chunks}")
    return split_by_size(a, -(-n // chunks) or 1, along)


def split_by_size(a: Tensor, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Parts of a given length along an axis, the last one shorter where it must be.

    This is PyTorch's `split`, which Tensors have as a method.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    size : int or sequence of int
        The length of the parts, or of each part.
    axis : int, default 0
        The axis. `dim` is another name of this argument.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ValueError
        If the size is not positive, or the sizes do not add up to the length of the axis.

    Examples
    --------
    >>> import needle as ndl
    >>> [part.tolist() for part in ndl.arange(5).split(2)]
    [[0, 1], [2, 3], [4]]
    """
    along = normalize_axis(axis, a.ndim, "split")
    n = a.shape[along]
    if isinstance(size, (list, tuple)):
        sizes = wholes(size, "split", "size")
        if sum(sizes) != n or any(part < 0 for part in sizes):
            raise ValueError(
                f"[split] the sizes must add up to {n}, the length of axis {axis}, got {sizes}"
            )
    else:
        step = whole(size, "split", "size")
        if step < 1:
            raise ValueError(f"[split] size must be positive, got {step}")
        sizes = (step,) * (n // step) + ((n % step,) if n % step or not n else ())
    return Parts(sizes, along)(a).tuple()


def _as_tuple(args: Sequence[Tensor] | TensorTuple, what: str) -> TensorTuple:
    if isinstance(args, TensorTuple):
        return args
    if isinstance(args, Tensor) or not args or not all(isinstance(x, Tensor) for x in args):
        raise TypeError(f"[{what}] needs a non-empty list or tuple of Tensors")
    return make_tuple(*args)


__all__ = [
    "Concatenate",
    "MakeTensorTuple",
    "Parts",
    "Split",
    "Stack",
    "TupleGetItem",
    "chunk",
    "concatenate",
    "make_tuple",
    "split",
    "split_by_size",
    "stack",
    "tuple_get_item",
]
