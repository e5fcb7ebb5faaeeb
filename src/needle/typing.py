"""Names of types that many signatures share.

An `Axis` counts from the end where it is negative. A `Scalar` is one number of Python or NumPy.

Example:
    def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
ShapeLike: TypeAlias = int | Sequence[int]
Axis: TypeAlias = int | Sequence[int] | None
DType: TypeAlias = np.dtype[np.generic]
DTypeLike: TypeAlias = str | type | np.dtype[np.generic]
Scalar: TypeAlias = bool | int | float | np.bool_ | np.number
# A number for all dimensions, or one for each: kernel sizes, strides, paddings.
Extent: TypeAlias = int | Sequence[int]
# The zeros around an image: an `Extent`, a pair (before, after) for each dimension, or a name.
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | str
# An array of NumPy, of any shape and dtype.
HostArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
# NumPy's generators of random numbers; as text, because NumPy imports them when they are used.
HostGenerator: TypeAlias = "np.random.Generator | np.random.RandomState"
# A document of JSON, as checkpoints keep it.
Json: TypeAlias = dict[str, Any]

__all__ = [
    "Axis",
    "DType",
    "DTypeLike",
    "Extent",
    "HostArray",
    "HostGenerator",
    "Json",
    "Padding",
    "Scalar",
    "Shape",
    "ShapeLike",
]
