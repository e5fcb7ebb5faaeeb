"""Gradient clipping: by the common norm, and element by element."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..autograd import Tensor
from ..backend_ndarray import NDArray, is_traced, widened


def clip_grad_norm(params: Iterable[Tensor] | Tensor, max_norm: float) -> float | Tensor:
    """Scale the gradients so that the norm of all of them together is at most `max_norm`.

    A parameter without a gradient is skipped. A gradient that changes is replaced by one without
    history.

    Parameters
    ----------
    params : Tensor or iterable of Tensor
        The parameters.
    max_norm : float
        The largest Euclidean norm; it must be positive.

    Returns
    -------
    float or Tensor
        The norm before; in a function that is being compiled a 0-d float64 Tensor.

    Raises
    ------
    ValueError
        If `max_norm` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0, 1.0])
    >>> w.grad = ndl.Tensor([3.0, 4.0])
    >>> ndl.optim.clip_grad_norm([w], max_norm=10.0)
    5.0
    """
    if not max_norm > 0:
        raise ValueError(f"[clip_grad_norm] max_norm must be positive, got {max_norm}")
    with_grad = _with_gradients(params)
    squares = _square_norms(with_grad)
    if any(map(is_traced, squares)):
        return _clip_traced(with_grad, squares, max_norm)
    norm = math.sqrt(sum(float(square.item()) for square in squares))
    # The small constant keeps the result below max_norm in rounding, as in PyTorch.
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:  # also for a NaN, which then shows in every gradient
        for p in with_grad:
            p.grad = Tensor.make_const(p.grad.realize_cached_data() * scale)
    return norm


def _clip_traced(params: list[Tensor], squares: list[NDArray], max_norm: float) -> Tensor:
    """The same without a look at the norm: where it is small enough the scale is 1."""
    total = squares[0].astype("float64")
    for square in squares[1:]:
        total = total + square.astype("float64")
    norm = total.sqrt()
    scale = (max_norm / (norm + 1e-6)).minimum(1.0)
    for p in params:
        data = p.grad.realize_cached_data()
        p.grad = Tensor.make_const(data * scale.astype(data.dtype))
    return Tensor.make_const(norm)


def clip_grad_value(params: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Clip every element of every gradient to [-clip_value, clip_value].

    A parameter without a gradient is skipped.

    Parameters
    ----------
    params : Tensor or iterable of Tensor
        The parameters.
    clip_value : float
        The largest absolute value; it must be positive.

    Raises
    ------
    ValueError
        If `clip_value` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0, 1.0])
    >>> w.grad = ndl.Tensor([0.5, -4.0])
    >>> ndl.optim.clip_grad_value([w], 1.0)
    >>> w.grad
    needle.Tensor([ 0.5 -1. ])
    """
    if not clip_value > 0:
        raise ValueError(f"[clip_grad_value] clip_value must be positive, got {clip_value}")
    for p in _with_gradients(params):
        clipped = p.grad.realize_cached_data().clip(-clip_value, clip_value)
        p.grad = Tensor.make_const(clipped)


def _with_gradients(params: Iterable[Tensor] | Tensor) -> list[Tensor]:
    if isinstance(params, Tensor):
        params = [params]
    return [p for p in params if p.grad is not None]


def _square_norms(params: list[Tensor]) -> list[NDArray]:
    """The squares of gradients' norms: of all of a dtype and device at once where the device has a
    kernel for it."""
    alike: dict[tuple[object, ...], list[NDArray]] = {}
    for p in params:
        data = p.grad.realize_cached_data()
        data = data.astype(widened(data._dtype))
        alike.setdefault((data._dtype, data._device.name), []).append(data)
    found: list[NDArray] = []
    for arrays in alike.values():
        device = arrays[0]._device
        kernel = device.fused("sum_of_squares")
        if kernel is None:
            found += [(data * data).sum() for data in arrays]
        else:
            found.append(device.empty((), "float64"))
            kernel([data.compact() for data in arrays], found[-1])
    return found
