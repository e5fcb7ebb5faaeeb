"""All parameters of a model as one vector."""

from __future__ import annotations

from collections.abc import Iterable

from ... import ops
from ...autograd import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters, one after the other; gradients flow back to them.

    Raises ValueError if there is no parameter.
    """
    flat = [p.reshape((p.size,)) for p in parameters]
    if not flat:
        raise ValueError("[parameters_to_vector] needs at least one parameter")
    return ops.concatenate(flat, 0)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give the parameters the elements of `vec`, in their order.

    Raises ValueError if the vector does not have as many elements as the parameters.
    """
    held = list(parameters)
    if vec.ndim != 1 or vec.size != sum(p.size for p in held):
        raise ValueError(
            f"[vector_to_parameters] needs a vector of {sum(p.size for p in held)} elements, got "
            f"shape {vec.shape}"
        )
    data, start = vec.detach().realize_cached_data(), 0
    for p in held:
        part = data[start : start + p.size].reshape(p.shape)
        p._replace_data(part.astype(p.dtype).compact())
        start += p.size
