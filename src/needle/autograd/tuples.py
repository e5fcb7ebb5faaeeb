"""Tuples of Tensors as one value of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

from ..backend_ndarray import NDArray
from .tensor import Tensor
from .value import Value

if TYPE_CHECKING:
    from .. import ops


class TensorTuple(Value):
    """Several tensors that one operation returns or takes together."""

    __slots__ = ()

    if TYPE_CHECKING:

        def realize_cached_data(self) -> tuple[NDArray, ...]: ...

    @classmethod
    def make_const(cls, data: Iterable[NDArray], *, requires_grad: bool = False) -> Self:
        return super().make_const(tuple(data), requires_grad=requires_grad)

    def __len__(self) -> int:
        return len(self.realize_cached_data())

    def __getitem__(self, index: int) -> Tensor:
        return ops.tuple_get_item(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def tuple(self) -> tuple[Tensor, ...]:
        """The members as a Python tuple."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"needle.TensorTuple{self.tuple()}"

    def __add__(self, other: TensorTuple) -> TensorTuple:
        if not isinstance(other, TensorTuple):
            return NotImplemented
        if len(self) != len(other):
            raise ValueError(f"[add] tuples of {len(self)} and {len(other)} tensors differ")
        return ops.make_tuple(*[a + b for a, b in zip(self, other, strict=True)])

    def detach(self) -> TensorTuple:
        """The same data without history."""
        return TensorTuple.make_const(self.realize_cached_data())

    def numpy(self) -> list[np.ndarray]:
        """A NumPy copy of every member."""
        return [x.numpy() for x in self.realize_cached_data()]


class SparseGradients:
    """The gradient of a TensorTuple while it is accumulated: only of the members that have one.

    The gradients of the T members of a sequence arrive one by one. Adding T full tuples would take
    O(T²) time.
    """

    def __init__(self, whole: Value, gradients: dict[int, Tensor]) -> None:
        self.whole, self.gradients = whole, gradients

    def __add__(self, other: SparseGradients | TensorTuple) -> SparseGradients:
        added = other.gradients if isinstance(other, SparseGradients) else dict(enumerate(other))
        both = {i: g + added[i] if i in added else g for i, g in self.gradients.items()}
        return SparseGradients(self.whole, {**added, **both})

    def __radd__(self, other: TensorTuple) -> SparseGradients:
        return SparseGradients(self.whole, dict(enumerate(other))) + self

    def to_tuple(self) -> TensorTuple:
        """The gradients of all members; zeros for members without a gradient."""
        arrays = self.whole.realize_cached_data()
        return ops.make_tuple(
            *(
                self.gradients[i]
                if i in self.gradients
                else Tensor.make_const(x._device.zeros(x._shape, x._dtype))
                for i, x in enumerate(arrays)
            )
        )
