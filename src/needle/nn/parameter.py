"""Tensors that modules train."""

from __future__ import annotations

from ..autograd import Tensor


class Parameter(Tensor):
    """Tensor that a module trains: `Module.parameters()` finds it.

    Examples
    --------
    >>> import needle as ndl
    >>> weight = ndl.nn.Parameter([1.0, 2.0])
    >>> weight.requires_grad
    True
    """

    __slots__ = ()
