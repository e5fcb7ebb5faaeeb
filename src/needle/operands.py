"""Names of types for what stands beside a Tensor: operands, indices and masks.

What needs no Tensor is in `needle.typing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import SupportsIndex, TypeAlias

from .autograd import Tensor
from .backend_ndarray import HostNumber, NDArray
from .typing import HostArray, Scalar

# Elements of an array on the host or on a device, or numbers in nested lists.
ArrayLike: TypeAlias = Tensor | NDArray | HostArray | Sequence[object]
# What an operator takes. A `HostNumber` is a number that a compiled function reads at every call.
Operand: TypeAlias = ArrayLike | Scalar | HostNumber
# What stands in brackets: `x[index]`.
_IndexItem: TypeAlias = SupportsIndex | slice | EllipsisType | ArrayLike | None
Index: TypeAlias = _IndexItem | tuple[_IndexItem, ...]
# Which positions attention sees: True, or a number to add to the score.
Mask: TypeAlias = Tensor | NDArray | HostArray | None

__all__ = ["ArrayLike", "Index", "Mask", "Operand"]
