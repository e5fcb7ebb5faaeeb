"""Properties that may also be called: the course has methods where PyTorch has properties, and the
other way round.
"""

from __future__ import annotations

from math import prod
from typing import NoReturn, Self


class Truth(int):
    """A bool that gives itself when called: `x.is_leaf` and `x.is_leaf()` are the same."""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))

    def __reduce__(self) -> tuple[type[bool], tuple[int]]:
        return bool, (int(self),)


class Size(tuple[int, ...]):
    """A shape, with its number of elements by PyTorch's name: what `x.size()` gives."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements of that shape."""
        return prod(self)


class Count(int):
    """The number of elements, which gives the shape, or the length of an axis, when called.

    `x.size` is the course's and NumPy's, `x.size()` and `x.size(0)` are PyTorch's.
    """

    _lengths: tuple[int, ...]

    def __new__(cls, count: int, shape: tuple[int, ...]) -> Self:
        size = super().__new__(cls, count)
        size._lengths = shape
        return size

    def __call__(self, axis: int | None = None, *, dim: int | None = None) -> int | Size:
        axis = dim if axis is None else axis
        return Size(self._lengths) if axis is None else self._lengths[axis]

    def __getitem__(self, axis: object) -> NoReturn:
        raise TypeError(f"size is the number of elements; write x.size({axis}) or x.shape[{axis}]")

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)
