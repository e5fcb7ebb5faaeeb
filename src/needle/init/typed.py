"""PyTorch's older constructors: Tensors of one dtype, of data or of lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..autograd import Tensor
from ..autograd.answers import Size
from ..backend_selection import Device
from .creation import empty, tensor


def _of(name: str, dtype: str) -> Callable[..., Tensor]:
    def make(*data: object, device: Device | str | None = None) -> Tensor:
        are_lengths = all(isinstance(x, (int, np.integer)) for x in data)
        if are_lengths or (len(data) == 1 and isinstance(data[0], Size)):
            return empty(*(data or (0,)), dtype=dtype, device=device)  # type: ignore[arg-type]
        if len(data) > 1:
            raise TypeError(
                f"[{name}] takes data, as a list or an array, or integers, which are lengths; got "
                f"{len(data)} arguments"
            )
        return tensor(data[0], dtype=dtype, device=device)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""A Tensor of dtype {dtype} of data, or of integers as lengths.

    `tensor(data, dtype="{dtype}")` says the same.

    Parameters
    ----------
    *data : int, or nested sequence, array or Tensor
        Integers are the lengths of the axes; a shape, as `x.size()` gives it, is as well. Anything
        else is data, as one argument. Nothing makes an empty vector.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        A copy, which requires no gradient.

    Raises
    ------
    TypeError
        For several arguments that are no integers.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.{name}([0, 1]).dtype.name, ndl.{name}(2, 3).shape
    ('{dtype}', (2, 3))
    """
    return make


FloatTensor = _of("FloatTensor", "float32")
DoubleTensor = _of("DoubleTensor", "float64")
HalfTensor = _of("HalfTensor", "float16")
BFloat16Tensor = _of("BFloat16Tensor", "bfloat16")
ByteTensor = _of("ByteTensor", "uint8")
BoolTensor = _of("BoolTensor", "bool")
IntTensor = _of("IntTensor", "int32")
LongTensor = _of("LongTensor", "int64")

__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "DoubleTensor", "FloatTensor", "HalfTensor",
    "IntTensor", "LongTensor",
]  # fmt: skip
