"""Tensors of random numbers and of constants.

Every function takes the shape as separate integers (or as one tuple) and the keywords `device`
(the default device), `dtype` (float32; None is the backend's default) and `requires_grad` (False).
A shape that is not made of non-negative integers raises TypeError or ValueError. Those that draw
take a `generator` (`needle.Generator`) to draw from instead of NumPy's; on another device than the
given one it raises ValueError.
"""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray, as_dtype, is_float, is_traced, traced_one_hot
from ..backend_ndarray.dtypes import below, python_number
from ..backend_ndarray.layout import checked_shape, whole
from ..backend_selection import Device, as_device, default_float
from ..operands import ArrayLike
from ..random import Generator
from ..typing import DTypeLike


def rand(
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers from `low` on, below `high`. Draws `numpy.random.rand(*shape)`."""
    low, high = python_number(low), python_number(high)
    source = _source("rand", device, generator)
    data = source.rand(*checked_shape("rand", shape), dtype=_float("rand", dtype))
    if (low, high) != (0, 1):
        data = _affine(data, high - low, low)
        if low < high:  # rounding may have led there
            data = data.minimum(max(low, below(high, data.dtype)))
    return _tensor(data, requires_grad)


def randn(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers of the given mean and deviation. Draws `numpy.random.randn(*shape)`."""
    source = _source("randn", device, generator)
    data = source.randn(*checked_shape("randn", shape), dtype=_float("randn", dtype))
    return _tensor(_affine(data, std, mean), requires_grad)


def randb(
    *shape: int,
    p: float = 0.5,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "bool",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """True with probability `p` (1 in numeric dtypes). Draws `numpy.random.rand(*shape)`.

    Raises ValueError unless 0 ≤ p ≤ 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[randb] p must be in [0, 1], got {p}")
    data = _source("randb", device, generator).rand(*checked_shape("randb", shape))
    return _tensor(data.compare("lt", p).astype("bool" if dtype is None else dtype), requires_grad)


def constant(
    *shape: int,
    c: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Every element `c`."""
    data = as_device(device).full(checked_shape("constant", shape), c, _dtype(dtype))
    return _tensor(data, requires_grad)


def ones(
    *shape: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Every element 1."""
    return constant(*shape, c=1, device=device, dtype=dtype, requires_grad=requires_grad)


def zeros(
    *shape: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Every element 0."""
    return constant(*shape, c=0, device=device, dtype=dtype, requires_grad=requires_grad)


def ones_like(
    array: Tensor,
    *,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the shape of `array`, and of its dtype and device unless they are given."""
    return _constant_like(array, 1, device, dtype, requires_grad)


def zeros_like(
    array: Tensor,
    *,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the shape of `array`, and of its dtype and device unless they are given."""
    return _constant_like(array, 0, device, dtype, requires_grad)


def one_hot(
    n: int,
    i: ArrayLike | int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Rows of the n by n identity chosen by the integers `i`, a Tensor or array; i.shape + (n,).

    Raises ValueError if an entry of `i` is outside 0 … n-1.
    """
    if isinstance(i, (Tensor, NDArray)) and device is None:
        device = i.device
    data = i.realize_cached_data() if isinstance(i, Tensor) else i
    n = whole(n, "one_hot", "n")
    if isinstance(data, NDArray) and is_traced(data):
        return _tensor(traced_one_hot(data, n, _dtype(dtype)), requires_grad)
    return _tensor(as_device(device).one_hot(n, np.asarray(data), _dtype(dtype)), requires_grad)


def _constant_like(
    array: Tensor,
    value: int,
    device: Device | str | None,
    dtype: DTypeLike | None,
    requires_grad: bool,
) -> Tensor:
    return constant(
        *array.shape,
        c=value,
        device=array.device if device is None else device,
        dtype=array.dtype if dtype is None else dtype,
        requires_grad=requires_grad,
    )


def _affine(data: NDArray, scale: float, shift: float) -> NDArray:
    """data · scale + shift, without work where nothing changes."""
    if scale != 1:
        data = data * scale
    return data + shift if shift != 0 else data


def _source(
    name: str, device: Device | str | None, generator: Generator | None
) -> Device | Generator:
    """What draws: both have `rand` and `randn`."""
    if generator is None:
        return as_device(device)
    if device is not None and as_device(device) != generator.device:
        raise ValueError(f"[{name}] the generator is on {generator.device}, not on {device}")
    return generator


def _tensor(data: NDArray, requires_grad: bool) -> Tensor:
    return Tensor.make_const(data, requires_grad=requires_grad and is_float(data.dtype))


def _dtype(dtype: DTypeLike | None) -> np.dtype:
    return as_dtype(default_float() if dtype is None else dtype)


def _float(name: str, dtype: DTypeLike | None) -> np.dtype:
    own = _dtype(dtype)
    if not is_float(own):
        raise TypeError(f"[{name}] dtype must be a floating one, got {own}")
    return own
