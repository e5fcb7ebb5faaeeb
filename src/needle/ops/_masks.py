"""Elements chosen by masks, read and written."""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..given import not_a_tensor
from ..typing import Scalar
from ._common import as_tensor
from ._comparison import where
from ._indexing import getitem
from ._selection import put
from ._shape import broadcast_to, reshape


def masked_fill(a: Tensor, mask: Tensor, value: Scalar | Tensor) -> Tensor:
    """`a` with a number where `mask`, which broadcasts, is True.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    mask : Tensor of bools
        Broadcasts with `a`.
    value : number or Tensor
        What is written.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Raises
    ------
    TypeError
        Unless the mask is bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.masked_fill(ndl.zeros(2), ndl.Tensor([True, False]), -1)
    needle.Tensor([-1.  0.])
    """
    _check_mask("masked_fill", mask)
    filled = value if isinstance(value, Tensor) else as_tensor(value, a)
    return where(mask, filled.astype(a.dtype), a)


def masked_select(a: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` is True, as a vector; both broadcast.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    mask : Tensor of bools
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        One axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.masked_select(ndl.Tensor([[1, 2], [3, 4]]), ndl.Tensor([[1, 2], [3, 4]]) > 2)
    needle.Tensor([3. 4.])
    """
    _check_mask("masked_select", mask)
    shape = np.broadcast_shapes(a.shape, mask.shape)
    return getitem(broadcast_to(a, shape), broadcast_to(mask, shape))


def masked_scatter(a: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`a` with the elements of `source`, one after the other, where `mask` is True.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    mask : Tensor of bools
        Broadcasts with `a`.
    source : Tensor
        At least as many elements as are written.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.masked_scatter(ndl.zeros(3), ndl.Tensor([True, False, True]), ndl.Tensor([1, 2]))
    needle.Tensor([1. 0. 2.])
    """
    _check_mask("masked_scatter", mask)
    shape = np.broadcast_shapes(a.shape, mask.shape)
    a, places = broadcast_to(a, shape), broadcast_to(mask, shape).numpy()
    count = int(places.sum())
    if count > source.size:
        raise ValueError(f"[masked_scatter] source has {source.size} elements for {count} places")
    return put(a, np.nonzero(places), reshape(source, (-1,))[:count])


def _check_mask(what: str, mask: Tensor) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"[{what}] mask must be a Tensor, {not_a_tensor(mask, 'mask')}")
    if mask.dtype != "bool":
        raise TypeError(f"[{what}] mask must be bool, got {mask.dtype}; write mask != 0")


__all__ = [
    "masked_fill",
    "masked_scatter",
    "masked_select",
]
