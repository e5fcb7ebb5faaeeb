"""To the host: arrays as NumPy arrays, DLPack capsules and Python numbers, and `x.flat`.

`NDArray` lists these functions as its methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import DTypeLike
from . import versions
from .symbolic import is_traced

if TYPE_CHECKING:
    from .ndarray import NDArray


def numpy(x: NDArray) -> np.ndarray:
    """A NumPy array with a copy of the elements; float32 for bfloat16."""
    return np.array(x._host(), order="C")


def as_numpy(x: NDArray, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
    host = x._host()
    if dtype is not None and host.dtype != dtype:
        if copy is False:
            raise ValueError(f"a {x._dtype} array cannot be seen as {dtype} without a copy")
        return host.astype(dtype)
    if copy:
        return host.copy()
    _share(x)
    return host


def _share(x: NDArray) -> None:
    """Note that others may write to this array's memory, where the host sees it."""
    if x._device.shares_memory and not is_traced(x):  # a traced constant is copied
        versions.share(x._handle)


def dlpack(x: NDArray, **options: Any) -> object:
    host = x._host()
    _share(x)
    return (host if host.flags.writeable else host.copy()).__dlpack__(**options)


def dlpack_device(x: NDArray) -> tuple[int, int]:
    return x._host().__dlpack_device__()


def item(x: NDArray) -> Any:
    """The only element as a Python scalar. Raises ValueError when there is not exactly one."""
    if x.size != 1:
        raise ValueError(
            f"[item] needs an array of one element, got shape {x._shape}; reduce it first, as by "
            ".mean(), or write .numpy() or .tolist() for all elements"
        )
    return x._host().item()


def tolist(x: NDArray) -> Any:
    """The elements as nested Python lists."""
    return x._host().tolist()


def as_float(x: NDArray) -> float:
    return float(item(x))


def as_int(x: NDArray) -> int:
    return int(item(x))


def as_index(x: NDArray) -> int:
    if x._dtype.kind not in "iu":
        raise TypeError(f"a {x._dtype} array cannot be an index; write int(x) for its number")
    return int(item(x))


def as_bool(x: NDArray) -> bool:
    if x.size != 1:
        raise ValueError(
            f"the truth of an array of shape {x._shape} is ambiguous; use .any() or .all()"
        )
    return bool(item(x))


class Flat:
    """The elements in row-major order of an array whose layout has no flat view, as `x.flat`.

    Reading gives copies; writing goes through the array, which checks it and notes the change.
    """

    def __init__(self, array: NDArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return self._array.size

    def __iter__(self) -> Iterator[NDArray]:
        return iter(self._array.flatten())

    def __getitem__(self, key: object) -> NDArray:
        return self._array.flatten()[key]

    def __setitem__(self, key: object, value: object) -> None:
        places = np.arange(self._array.size)[key]  # type: ignore[call-overload]
        self._array[np.unravel_index(places, self._array.shape)] = value

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self._array.flatten().__array__(dtype, copy)
