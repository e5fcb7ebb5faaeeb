"""What runs on the host: checks of matrices, arrays from a device and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .. import ops
from ..autograd import SparseGradients, Tensor, TensorTuple
from ..autograd.tracing import Untraceable
from ..backend_ndarray import NDArray, is_float, is_traced
from ..given import not_a_tensor
from ..typing import DType

# An array of NumPy whose dtype is known when the program runs.
HostNumbers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]


def to_host(array: NDArray, what: str) -> HostNumbers:
    """The data on the host. Raises Untraceable inside a function that is being compiled."""
    if is_traced(array):
        raise Untraceable(
            f"[{what}] runs on the host, which a compiled function cannot do: call it outside of "
            "ndl.jit and pass its result in"
        )
    return array.numpy()


def from_host(host: HostNumbers, like: NDArray) -> NDArray:
    """The data on the device of `like`, in its dtype."""
    return NDArray(host, device=like._device, dtype=like._dtype)


def as_matrix(a: object, what: str, square: bool = False, name: str = "A") -> Tensor:
    """`a`, a matrix or a batch of them; float16 and bfloat16 become float32.

    Raises TypeError for what is no Tensor of floats, ValueError for other shapes.
    """
    x = as_floats(a, what, name)
    if x.ndim < 2:
        raise ValueError(f"[{what}] {name} must have at least two axes, got shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"[{what}] {name} must be square matrices, got shape {x.shape}")
    return x


def as_floats(a: object, what: str, name: str = "x") -> Tensor:
    """`a`, a Tensor of floats; float16 and bfloat16 become float32. Raises TypeError for others."""
    if not isinstance(a, Tensor):
        raise TypeError(f"[{what}] {name} must be a Tensor, {not_a_tensor(a, name)}")
    if not is_float(a.dtype):
        raise TypeError(f"[{what}] {name} must be of a floating dtype, got {a.dtype}")
    return a if a.dtype in ("float32", "float64") else a.astype("float32")


def constant(host: HostNumbers, like: Tensor, dtype: DType | None = None) -> Tensor:
    """A Tensor that needs no gradient on the device of `like`, of its dtype by default."""
    return Tensor(
        host, device=like.device, dtype=like.dtype if dtype is None else dtype, requires_grad=False
    )


def lower(x: Tensor, strictly: bool = False) -> Tensor:
    """The lower triangle of matrices, the rest 0."""
    rows, columns = x.shape[-2:]
    mask = np.tri(rows, columns, -1 if strictly else 0, dtype=bool)
    return ops.where(constant(mask, x, np.dtype(bool)), x, 0.0)


def upper(x: Tensor) -> Tensor:
    """The upper triangle of matrices, the rest 0."""
    return x - lower(x, strictly=True)


def symmetric(x: Tensor) -> Tensor:
    """(X + Xᵀ) / 2."""
    return (x + ops.transpose(x)) * 0.5


def eye_like(x: Tensor) -> Tensor:
    """The identity that a product with a square matrix needs."""
    return constant(np.eye(x.shape[-1]), x)


def members(gradient: TensorTuple | SparseGradients, n: int) -> list[Tensor | None]:
    """The gradient of each of the `n` results of an op, None where nothing flows to it."""
    if isinstance(gradient, SparseGradients):
        return [gradient.gradients.get(i) for i in range(n)]
    return list(gradient)
