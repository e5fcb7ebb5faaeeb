"""Gradient clipping that returns and reads Tensors only, so that it can be compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ... import ops
from ...autograd import Tensor, no_grad
from ...backend_ndarray import is_traced, widened
from ...given import type_name
from ..arguments import at_least_zero


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of all tensors together, a Tensor of shape ().

    Raises ValueError if there is no tensor or `norm_type` is not positive.
    """
    arrays = [t.astype(widened(t.dtype)) for t in tensors]
    if not arrays:
        raise ValueError("[get_total_norm] needs at least one tensor")
    if not norm_type > 0:
        raise ValueError(f"[get_total_norm] norm_type must be positive, got {norm_type}")
    with no_grad():
        if math.isinf(norm_type):
            return ops.max(ops.stack([ops.max(ops.abs(t)) for t in arrays], 0))
        powers = (t * t if norm_type == 2 else ops.abs(t) ** norm_type for t in arrays)
        sums = [ops.summation(power) for power in powers]
        return ops.summation(ops.stack(sums, 0)) ** (1 / norm_type)


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients so that the norm of all of them together is at most `max_norm`.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        The parameters; one without a gradient is skipped.
    max_norm : float
        The largest norm; it must not be negative.
    norm_type : float, default 2.0
        Which norm, possibly infinity.
    error_if_nonfinite : bool, default False
        Whether a norm that is infinite or NaN is an error; not in compiled functions.
    foreach : bool, optional
        Ignored.

    Returns
    -------
    Tensor, shape ()
        The norm before.

    Raises
    ------
    RuntimeError
        If `error_if_nonfinite` says so.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0, 1.0])
    >>> w.grad = ndl.Tensor([3.0, 4.0])
    >>> ndl.nn.utils.clip_grad_norm_([w], max_norm=10.0)
    needle.Tensor(5.0)
    """
    max_norm = at_least_zero("clip_grad_norm_", "max_norm", max_norm)
    with_grad = _with_gradients(parameters)
    if not with_grad:
        return Tensor(0.0, requires_grad=False)
    norm = get_total_norm([p.grad for p in with_grad], norm_type)
    data = norm.realize_cached_data()
    if error_if_nonfinite and not is_traced(data) and not math.isfinite(norm.item()):
        raise RuntimeError(f"[clip_grad_norm_] the norm of the gradients is {norm.item()}")
    # The small constant keeps the result below max_norm in rounding, as in PyTorch.
    scale = (max_norm / (data + 1e-6)).minimum(1.0)
    for p in with_grad:
        gradient = p.grad.realize_cached_data()
        p.grad = Tensor.make_const(gradient * scale.astype(gradient.dtype))
    return norm


def clip_grad_value_(
    parameters: Iterable[Tensor] | Tensor, clip_value: float, foreach: bool | None = None
) -> None:
    """Clip every element of every gradient to [-clip_value, clip_value].

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        The parameters; one without a gradient is skipped.
    clip_value : float
        The largest absolute value; it must not be negative.
    foreach : bool, optional
        Ignored.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.nn.Parameter([1.0, 1.0])
    >>> w.grad = ndl.Tensor([0.5, -4.0])
    >>> ndl.nn.utils.clip_grad_value_([w], 1.0)
    >>> w.grad
    needle.Tensor([ 0.5 -1. ])
    """
    clip_value = at_least_zero("clip_grad_value_", "clip_value", clip_value)
    for p in _with_gradients(parameters):
        clipped = p.grad.realize_cached_data().clip(-clip_value, clip_value)
        p.grad = Tensor.make_const(clipped)


def _with_gradients(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(
            "parameters must be Tensors or an iterable of them, got "
            f"{type_name(parameters)}: write model.parameters()"
        )
    return [p for p in parameters if p.grad is not None]
