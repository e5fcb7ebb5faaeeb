"""Ops that move elements without changing them: views, padding, dilation and tiling.

Their gradients need shapes only, and each is the transpose of another op here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor, TensorOp
from ..autograd.eager import eager_view
from ..backend_ndarray import NDArray, Shape
from ..backend_ndarray.layout import normalize_axes, normalize_axis, resolve_shape, whole, wholes
from ..typing import Axis, ShapeLike

# ---- views ----------------------------------------------------------------------------------


class BroadcastTo(TensorOp):
    """Axes of length 1 (and new leading ones) repeated to reach a shape."""

    saves_values = False

    def __init__(self, shape: Shape) -> None:
        self.shape = tuple(shape)

    def compute(self, a: NDArray) -> NDArray:
        return a.broadcast_to(self.shape)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        shape = node.inputs[0].shape
        lead = len(self.shape) - len(shape)
        repeated = tuple(i for i, n in enumerate(self.shape) if i < lead or shape[i - lead] != n)
        return reshape(out_grad.sum(repeated), shape)


class Reshape(TensorOp):
    """The elements in row-major order under another shape."""

    saves_values = False

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def compute(self, a: NDArray) -> NDArray:
        return a.reshape(self.shape)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return reshape(out_grad, node.inputs[0].shape)


class Permute(TensorOp):
    """The axes in another order."""

    saves_values = False

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.permute(self.axes)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Permute(tuple(int(i) for i in np.argsort(self.axes)))(out_grad)


class Transpose(TensorOp):
    """Two axes exchanged, the last two by default; its own inverse."""

    saves_values = False

    def __init__(self, axes: tuple[int, int] | None = None) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.swapaxes(*(self.axes or (-2, -1)))

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Transpose(self.axes)(out_grad)


class Flip(TensorOp):
    """The order along axes reversed; its own inverse."""

    saves_values = False

    def __init__(self, axes: Axis = None) -> None:
        self.axes = axes

    def compute(self, a: NDArray) -> NDArray:
        return a.flip(self.axes)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return Flip(self.axes)(out_grad)


def broadcast_to(a: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat axes of length 1, and add leading axes, to reach a shape.

    Parameters
    ----------
    a : Tensor
        Of any dtype.
    shape : sequence of int
        The shape of the result.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the shape of `a` does not broadcast to `shape`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.broadcast_to(ndl.Tensor([1, 2]), (3, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """
    shape = wholes(shape, "broadcast_to", "the shape")
    return a if shape == a.realize_cached_data().shape else BroadcastTo(shape)(a)


def reshape(a: Tensor, shape: ShapeLike) -> Tensor:
    """Give the elements, in row-major order, another shape.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    shape : int or sequence of int
        The shape of the result; one entry may be -1, which stands for the length that fits.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the shape does not fit the number of elements.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.reshape(ndl.ones(2, 3, 4), (6, -1)).shape
    (6, 4)
    """
    view = eager_view(Reshape, a, shape)
    if view is not None:
        return view
    shape = resolve_shape(shape, a.size)
    return a if shape == a.realize_cached_data().shape else Reshape(shape)(a)


def transpose(a: Tensor, axes: tuple[int, int] | int | None = None, *more: int) -> Tensor:
    """Exchange two axes, the last two by default.

    This is not NumPy's `transpose`, which reverses all axes; `permute` takes any order.

    Parameters
    ----------
    a : Tensor
        At least two axes, any dtype.
    axes : (int, int), optional
        The two axes, as a pair or one after the other. `dims` is another name of this argument.
    *more : int
        The second axis, where `axes` is the first.

    Returns
    -------
    Tensor
        The elements of `a`, with the two lengths exchanged in the shape.

    Raises
    ------
    ValueError
        If `axes` does not name two axes of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.ones(2, 3, 4)
    >>> ndl.transpose(x).shape, ndl.transpose(x, (0, 1)).shape
    ((2, 4, 3), (3, 2, 4))
    """
    view = eager_view(Transpose, a, (axes, *more) if more else axes)
    if view is not None:
        return view
    pair = wholes((axes, *more), "transpose", "axes") if isinstance(axes, int) else axes
    if a.ndim < 2 and pair is None:
        raise ValueError(f"[transpose] needs at least 2 axes, got shape {a.shape}")
    if pair is not None and len(pair) != 2:
        raise ValueError(f"[transpose] axes must name two axes, got {pair}; permute takes all")
    if pair is None:
        return Transpose()(a)
    first, second = (normalize_axis(i, a.ndim, "transpose") for i in pair)
    return Transpose((first, second))(a)


def permute(a: Tensor, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis `axes[i]` of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axes : sequence of int
        Every axis of `a` once. `dims` is another name of this argument.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.permute(ndl.ones(2, 3, 4), (2, 0, 1)).shape
    (4, 2, 3)
    """
    view = eager_view(Permute, a, axes)
    if view is not None:
        return view
    ndim = a.ndim
    order = tuple(normalize_axis(i, ndim, "permute") for i in axes)
    return Permute(order)(a)


def flip(a: Tensor, axes: Axis = None, *more: int) -> Tensor:
    """Reverse the order of the elements along axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axes : int or tuple of int, optional
        The axes; None reverses all. `axis` is another name of this argument.
    *more : int
        Further axes, where `axes` is the first.

    Returns
    -------
    Tensor
        The shape of `a`.

    Raises
    ------
    ValueError
        If `a` does not have an axis, or one is named twice.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.flip(ndl.Tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    return Flip((axes, *more) if isinstance(axes, int) else axes)(a)


def squeeze(a: Tensor, axis: Axis = None) -> Tensor:
    """Remove axes of length 1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int or tuple of int, optional
        The axes; None removes all axes of length 1. An axis that is longer stays, as in PyTorch.
        `dim` is another name.

    Returns
    -------
    Tensor
        The elements of `a` without these axes.

    Raises
    ------
    ValueError
        If `a` does not have an axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.squeeze(ndl.ones(1, 3, 1)).shape
    (3,)
    """
    shape = a.shape
    dropped = {i for i in normalize_axes(axis, len(shape), "squeeze") if shape[i] == 1}
    return reshape(a, tuple(n for i, n in enumerate(shape) if i not in dropped))


def unsqueeze(a: Tensor, axis: int) -> Tensor:
    """Insert an axis of length 1.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axis : int
        Its position in the result. `dim` is another name of this argument.

    Returns
    -------
    Tensor
        The elements of `a` with one more axis.

    Raises
    ------
    ValueError
        If the position is out of range.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.unsqueeze(ndl.ones(2, 3), 1).shape
    (2, 1, 3)
    """
    at = normalize_axis(axis, a.ndim + 1, "unsqueeze")
    return reshape(a, (*a.shape[:at], 1, *a.shape[at:]))


# ---- padding and dilation -------------------------------------------------------------------


class Pad(TensorOp):
    """Surrounded with a value: `axes` gives (before, after) for every axis."""

    saves_values = False

    def __init__(self, axes: tuple[tuple[int, int], ...], value: float) -> None:
        self.axes, self.value = axes, value

    def compute(self, a: NDArray) -> NDArray:
        return a.pad(self.axes, self.value)

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        shape = node.inputs[0].shape
        return out_grad[tuple(slice(b, b + n) for n, (b, _) in zip(shape, self.axes, strict=True))]


class Dilate(TensorOp):
    """`dilation` zeros inserted after every element along axes; axes out of range are ignored."""

    saves_values = False

    def __init__(self, axes: Sequence[int], dilation: int) -> None:
        self.axes, self.dilation = axes, dilation

    def compute(self, a: NDArray) -> NDArray:
        axes = _axes_in_range(self.axes, a.ndim)
        step = self.dilation + 1
        shape = tuple(n * step if i in axes else n for i, n in enumerate(a.shape))
        out = a.device.zeros(shape, a.dtype)
        out._put(
            tuple(slice(None, None, step) if i in axes else slice(None) for i in range(a.ndim)), a
        )
        return out

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return undilate(out_grad, self.axes, self.dilation)


class UnDilate(TensorOp):
    """The inverse of Dilate: every (dilation + 1)-th element along axes."""

    saves_values = False

    def __init__(self, axes: Sequence[int], dilation: int) -> None:
        self.axes, self.dilation = axes, dilation

    def compute(self, a: NDArray) -> NDArray:
        axes = _axes_in_range(self.axes, a.ndim)
        step = slice(None, None, self.dilation + 1)
        return a[tuple(step if i in axes else slice(None) for i in range(a.ndim))]

    def gradient(self, out_grad: Tensor, node: Tensor) -> Tensor:
        return dilate(out_grad, self.axes, self.dilation)


def _axes_in_range(axes: Sequence[int], ndim: int) -> set[int]:
    return {axis % ndim for axis in axes if -ndim <= axis < ndim}


def pad(a: Tensor, axes: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Surround a tensor with a value.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axes : sequence of (int, int)
        How many elements stand before and after, for every axis.
    value : float, default 0.0
        The value.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there is not one pair for each axis, or a number is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.pad(ndl.Tensor([1, 2]), [(1, 2)], 9)
    needle.Tensor([9. 1. 2. 9. 9.])
    """
    return Pad(tuple(wholes(pair, "pad", "axes") for pair in axes), value)(a)  # type: ignore[misc]


def dilate(a: Tensor, axes: Sequence[int], dilation: int) -> Tensor:
    """Insert zeros after every element along axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axes : sequence of int
        The axes; one that `a` does not have is ignored.
    dilation : int
        The number of zeros after each element.

    Returns
    -------
    Tensor
        Length n·(dilation + 1) along these axes.

    Raises
    ------
    ValueError
        If `dilation` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.dilate(ndl.Tensor([1, 2]), (0,), 1)
    needle.Tensor([1. 0. 2. 0.])
    """
    return Dilate(*_dilation("dilate", axes, dilation))(a)


def undilate(a: Tensor, axes: Sequence[int], dilation: int) -> Tensor:
    """Take every (dilation + 1)-th element along axes: the inverse of `dilate`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    axes : sequence of int
        The axes; one that `a` does not have is ignored.
    dilation : int
        The number of elements left out after each.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `dilation` is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.undilate(ndl.Tensor([1, 0, 2, 0]), (0,), 1)
    needle.Tensor([1. 2.])
    """
    return UnDilate(*_dilation("undilate", axes, dilation))(a)


def _dilation(what: str, axes: Sequence[int], dilation: int) -> tuple[Shape, int]:
    dilation = whole(dilation, what, "dilation")
    if dilation < 0:
        raise ValueError(f"[{what}] dilation must not be negative, got {dilation}")
    return wholes(axes, what, "axes"), dilation


def tile(a: Tensor, repeats: Sequence[int]) -> Tensor:
    """Repeat a tensor along its axes.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    repeats : sequence of int
        How often, for each of the last axes; more entries than axes add leading axes.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If a number is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.tile(ndl.Tensor([1, 2]), (2, 2)).tolist()
    [[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    """
    repeats = wholes(repeats, "tile", "repeats")
    if any(r < 0 for r in repeats):
        raise ValueError(f"[tile] repeats must not be negative, got {repeats}")
    shape = (1,) * (len(repeats) - a.ndim) + a.shape
    repeats = (1,) * (len(shape) - len(repeats)) + repeats
    spread = reshape(
        a, tuple(n for pair in zip((1,) * len(shape), shape, strict=True) for n in pair)
    )
    wide = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    return reshape(
        broadcast_to(spread, wide), tuple(r * n for r, n in zip(repeats, shape, strict=True))
    )


__all__ = [
    "BroadcastTo",
    "Dilate",
    "Flip",
    "Pad",
    "Permute",
    "Reshape",
    "Transpose",
    "UnDilate",
    "broadcast_to",
    "dilate",
    "flip",
    "pad",
    "permute",
    "reshape",
    "squeeze",
    "tile",
    "transpose",
    "undilate",
    "unsqueeze",
]
