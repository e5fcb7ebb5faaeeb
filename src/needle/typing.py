"""Names of types that many signatures share.

An `Axis` counts from the end where it is negative. A `Scalar` is one number of Python or NumPy.
What a function takes besides (Tensors, nested lists) stands in its own signature.

Example:
    def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
ShapeLike: TypeAlias = int | Sequence[int]
Axis: TypeAlias = int | Sequence[int] | None
DType: TypeAlias = np.dtype[np.generic]
DTypeLike: TypeAlias = str | type | np.dtype[np.generic]
Scalar: TypeAlias = bool | int | float | np.bool_ | np.number
# A number for all dimensions, or one for each: kernel sizes, strides, paddings.
Extent: TypeAlias = int | Sequence[int]
# An array of NumPy, of any shape and dtype.
HostArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

__all__ = ["Axis", "DType", "DTypeLike", "Extent", "HostArray", "Scalar", "Shape", "ShapeLike"]
