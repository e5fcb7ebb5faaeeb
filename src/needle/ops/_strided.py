"""What PyTorch has as views with strides; here the elements are gathered, and so copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis, whole, wholes
from ._indexing import getitem
from ._reordering import movedim
from ._shape import reshape


def unfold(a: Tensor, dimension: int, size: int, step: int = 1) -> Tensor:
    """Windows of `size` slices along an axis, one every `step`: PyTorch's `Tensor.unfold`.

    `nn.Unfold` and `F.unfold` make columns of the windows of images.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dimension : int
        The axis.
    size : int
        How many slices a window has.
    step : int, default 1
        How far the windows are apart.

    Returns
    -------
    Tensor
        As many slices along the axis as there are windows, and a new last axis of length `size`.

    Raises
    ------
    ValueError
        If the axis is shorter than `size`, or `step` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.arange(5).unfold(0, 3, 2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    along = normalize_axis(dimension, a.ndim, "unfold")
    size, step = whole(size, "unfold", "size"), whole(step, "unfold", "step")
    length = a.shape[along]
    if not 0 <= size <= length:
        raise ValueError(f"[unfold] size must be in 0 … {length} for axis {dimension}, got {size}")
    if step < 1:
        raise ValueError(f"[unfold] step must be positive, got {step}")
    starts = np.arange(0, length - size + 1, step)
    gathered = getitem(a, (slice(None),) * along + (starts[:, None] + np.arange(size),))
    return movedim(gathered, along + 1, -1)


def as_strided(
    a: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int = 0
) -> Tensor:
    """The elements storage_offset + Σ index·stride of `a` in row-major order.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype; its elements are counted in row-major order, whatever its memory.
    size : sequence of int
        The shape of the result.
    stride : sequence of int
        How many elements an index moves on, for each axis of the result.
    storage_offset : int, default 0
        The first element.

    Returns
    -------
    Tensor
        The shape `size`.

    Raises
    ------
    ValueError
        If the sequences have different lengths, or an element lies outside of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.as_strided(ndl.arange(5), (3, 3), (1, 1)).tolist()
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    shape, steps = wholes(size, "as_strided", "size"), wholes(stride, "as_strided", "stride")
    if len(shape) != len(steps):
        raise ValueError(f"[as_strided] size {shape} and stride {steps} must be equally long")
    places = np.full(shape, whole(storage_offset, "as_strided", "storage_offset"))
    for axis, (n, step) in enumerate(zip(shape, steps, strict=True)):
        places += (np.arange(n) * step).reshape((-1,) + (1,) * (len(shape) - axis - 1))
    if places.size and not (places.min() >= 0 and places.max() < a.size):
        raise ValueError(
            f"[as_strided] size {shape} and stride {steps} lead outside of {a.size} elements"
        )
    return getitem(reshape(a, (-1,)), (places,))


__all__ = ["as_strided", "unfold"]
