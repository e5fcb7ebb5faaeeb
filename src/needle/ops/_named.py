"""What functions of several results return: tuples whose members have PyTorch's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..autograd import Tensor


class _Several:
    """A base of the tuples: what a Tensor does and a tuple does not is an error that says so.

    `x.max(1) * 2` would repeat the tuple.
    """

    if not TYPE_CHECKING:  # it would give every attribute a type

        def __getattr__(self, name: str) -> NoReturn:
            if not hasattr(Tensor, name):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            raise AttributeError(f"a Tensor has {name!r}; {explained(self)}")

        def __mul__(self, other: object) -> NoReturn:
            raise TypeError(explained(self))

        __rmul__ = __add__ = __sub__ = __truediv__ = __mul__


class _ValuesIndices(NamedTuple):
    values: Tensor
    indices: Tensor


class ValuesIndices(_Several, _ValuesIndices):
    """Elements along an axis, and the int64 indices at which they are."""


class _MinMax(NamedTuple):
    min: Tensor
    max: Tensor


class MinMax(_Several, _MinMax):
    """The results of `aminmax`."""


def explained(several: Any) -> str:
    """What a tuple in the place of a Tensor is, and how to get one."""
    fields = getattr(several, "_fields", None)
    if fields is None:
        return f"this is a {type(several).__name__} of Tensors; take one of them, or ndl.stack them"
    way = f"take .{fields[0]}"
    if fields == ValuesIndices._fields:
        way += ", or give max, min and median axis= instead of dim for the values alone"
    return f"this is a tuple ({', '.join(fields)}); {way}"


__all__ = ["MinMax", "ValuesIndices", "explained"]
