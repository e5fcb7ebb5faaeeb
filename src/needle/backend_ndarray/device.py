"""The backend protocol: what a device must be able to do for NDArray to live on it.

A device *is* its backend. `NDArray` decides shapes, strides and dtypes, allocates the result and
calls one primitive below; the primitive only calculates. Every primitive writes all of `out`.
float16 and bfloat16 reach only the primitives that move or convert elements: allocate, wrap, view
(not of bfloat16), fill, copy, where, gather_rows, and the kernels for which the device's
`takes_stored` is true. NDArray does all other arithmetic on them in float32.

Primitives (x, a, b, out are NDArrays; `a`, `b` and `out` have one shape, broadcasting is stride 0):

=================  ===============================================================================
allocate, wrap     a Buffer of `size` elements; a Buffer that shares a flat NumPy array's memory
view               the array as a NumPy array; without a copy on a CPU device
fill, copy         a scalar into every element; strided to strided copy with a cast
unary, binary      element-wise by name (`"exp"`, `"add"`, …), `binary_scalar` for a Python scalar
where              a select by a bool array
reduce, argreduce  sum prod max min over axes, argmax argmin over one (`out` keeps the axes)
cumsum, argsort    along one axis
matmul             (…, m, k) @ (…, k, n) with any strides, an optional bias row added
gather_rows        rows of a (n, d) array by an int64 index; `scatter_add_rows`: its transpose
=================  ===============================================================================

A device may also have *fused* kernels (softmax, batch_norm, adam, …). Ops use one where
`fused(name)` finds it and are otherwise computed from the primitives, so that a new device is
complete once the primitives are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ..forks import fork_safe
from ..given import is_of_torch, type_name
from ..typing import DTypeLike, ShapeLike
from .dtypes import (
    FLOAT32,
    INT64,
    as_dtype,
    below,
    convert,
    host_array,
    host_dtype,
    is_float,
    widened,
)
from .layout import Shape, as_shape, whole

if TYPE_CHECKING:
    from .ndarray import NDArray


class BackendDevice:
    """A place where arrays live, equal to every other device of the same name.

    A process has one of each (see `the_device`): copies and what is unpickled are that one.
    """

    name: str = "abstract"
    shares_memory = True  # `wrap` takes a NumPy array's memory as it is
    wraps_without_waiting = False  # `wrap` takes non_blocking=True
    array_type: ClassVar[type[NDArray]]

    # Memory is of a type that the device chooses (see `versions.Buffer` for what all have).
    allocate: Callable[[int, np.dtype], Any]
    wrap: Callable[..., Any]
    # Every primitive takes NDArrays and writes `out`; see the module's table.
    view: Callable[[NDArray], np.ndarray]
    fill: Callable[[NDArray, float], None]
    copy: Callable[[NDArray, NDArray], None]
    unary: Callable[[str, NDArray, NDArray], None]
    binary: Callable[[str, NDArray, NDArray, NDArray], None]
    binary_scalar: Callable[[str, NDArray, float, NDArray, bool], None]
    where: Callable[[NDArray, NDArray, NDArray, NDArray], None]
    reduce: Callable[[str, NDArray, Shape, NDArray], None]
    argreduce: Callable[[str, NDArray, int, NDArray], None]
    cumsum: Callable[[NDArray, int, NDArray], None]
    argsort: Callable[[NDArray, int, bool, NDArray], None]
    matmul: Callable[[NDArray, NDArray, NDArray, NDArray | None], None]
    gather_rows: Callable[[NDArray, NDArray, NDArray], None]
    scatter_add_rows: Callable[[NDArray, NDArray, NDArray], None]

    @property
    def type(self) -> str:
        """The kind of device by PyTorch's name: "cpu", of both that compute there, or "cuda"."""
        return "cuda" if self.name.startswith("cuda") else "cpu"

    @property
    def index(self) -> int | None:
        """The number of a GPU; None of others."""
        return None if self.type == "cpu" else int(self.name.partition(":")[2] or 0)

    def enabled(self) -> bool:
        """Whether this device can be used in this process."""
        return True

    def status(self) -> str:
        """Whether it is enabled, in words."""
        return "enabled" if self.enabled() else "not enabled"

    def fused(self, name: str) -> Callable[..., None] | None:
        """The device's fused kernel of that name, or None."""
        return None

    def takes_stored(self, kernel: str, dtype: np.dtype) -> bool:
        """Whether a primitive or a fused kernel takes float16 or bfloat16 as it is stored.

        It adds in float32 then, and rounds what it writes once.
        """
        return False

    def memory_stats(self) -> dict[str, int]:
        """Bytes `in_use` by arrays, bytes `held` (those and what is kept for the next arrays) and
        the `peak` of those in use; empty on a device that does not count them."""
        return {}

    def synchronize(self) -> None:
        """Wait until all work given to the device is done. CPU devices have nothing to wait for."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackendDevice) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"{self.name}()"

    def __copy__(self) -> BackendDevice:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> BackendDevice:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return the_device, (type(self),)

    def narrowed(self, host: np.ndarray) -> Any:
        """New memory with the elements of a float64 array of the host as float32, row by row."""
        return self.wrap(np.asarray(convert(host, FLOAT32), order="C").reshape(-1))

    # ---- creation -------------------------------------------------------------------------------

    def empty(self, shape: ShapeLike, dtype: DTypeLike = "float32") -> NDArray:
        """An array of the shape with unspecified contents."""
        return self.array_type._empty(as_shape(shape, "empty"), self, as_dtype(dtype))

    def full(self, shape: ShapeLike, fill_value: object, dtype: DTypeLike = "float32") -> NDArray:
        """An array of the shape with every element `fill_value`, a number or a 0-d array.

        Raises OverflowError for a number beyond an integer dtype, TypeError for no real number.
        """
        out = self.empty(shape, dtype)
        out.fill(fill_value)
        return out

    def zeros(self, shape: ShapeLike, dtype: DTypeLike = "float32") -> NDArray:
        """An array of the shape filled with 0."""
        out = self.empty(shape, dtype)
        self.fill(out, 0)
        return out

    def ones(self, shape: ShapeLike, dtype: DTypeLike = "float32") -> NDArray:
        """An array of the shape filled with 1."""
        out = self.empty(shape, dtype)
        self.fill(out, 1)
        return out

    def rand(self, *shape: int, dtype: DTypeLike = "float32") -> NDArray:
        """Uniform numbers in [0, 1): one draw of `numpy.random.rand(*shape)`.

        Those that would be rounded to 1 become the largest number below it.
        """
        dtype = as_dtype(dtype)
        drawn = self.draw(np.random.rand, shape, widened(dtype))
        rounds = is_float(dtype) and dtype.itemsize < 8
        return drawn.minimum(below(1.0, dtype)).astype(dtype) if rounds else drawn

    def randn(self, *shape: int, dtype: DTypeLike = "float32") -> NDArray:
        """Standard normal numbers: one draw of `numpy.random.randn(*shape)`."""
        dtype = as_dtype(dtype)
        return self.draw(np.random.randn, shape, widened(dtype)).astype(dtype)

    def draw(
        self,
        numbers: Callable[..., Any],
        shape: tuple[int, ...],
        dtype: DTypeLike,
        on_host: bool = True,
    ) -> NDArray:
        """`numbers(*shape)`: random numbers, which a compiled function draws at every call.

        They are an array of the host or, unless `on_host`, of this device.
        """
        drawn = numbers(*shape)
        return self.array_type(drawn, device=self, dtype=dtype) if on_host else drawn.astype(dtype)

    def one_hot(self, n: int, i: object, dtype: DTypeLike = "float32") -> NDArray:
        """Rows of the n×n identity chosen by the integers `i`; shape i.shape + (n,).

        Raises ValueError if an entry of `i` is outside 0 … n-1, TypeError for one that is no whole
        number.
        """
        n, given = whole(n, "one_hot", "n"), host_array(i, what="one_hot")
        index = convert(given, INT64)
        if given.dtype.kind == "f" and not np.array_equal(given, index):
            raise TypeError(f"[one_hot] indices must be whole numbers, got {given}")
        if index.size and (index.min() < 0 or index.max() >= n):
            raise ValueError(
                f"[one_hot] indices must be in 0 … {n - 1} for n={n}, "
                f"got values from {index.min()} to {index.max()}"
            )
        rows = np.zeros((*index.shape, n), dtype=host_dtype(as_dtype(dtype)))
        np.put_along_axis(rows, index[..., None], 1, axis=-1)
        return self.array_type(rows, device=self, dtype=dtype)


_Device = TypeVar("_Device", bound="BackendDevice")

_made: dict[tuple[object, ...], Any] = {}
_making = fork_safe(threading.Lock())


def the_device(kind: Callable[..., _Device], *arguments: int) -> _Device:
    """The process's one device `kind(*arguments)`, made when it is first asked for."""
    key = (kind, *arguments)
    device: _Device | None = _made.get(key)
    if device is None:
        with _making:
            device = _made.get(key)
            if device is None:
                device = _made[key] = kind(*arguments)
    return device


def made_devices() -> list[BackendDevice]:
    """Every device that has been asked for in this process."""
    return list(_made.values())


# ---- the default device, and devices by name ----------------------------------------------------

DEVICE_NAMES = "cpu, cpu_numpy, cuda, cuda:1 and so on"

_find: Callable[[str], BackendDevice | None]
_default: BackendDevice


def install(find: Callable[[str], BackendDevice | None], default: BackendDevice) -> None:
    """Says which devices there are (`devices` does): the one of a name, and the default."""
    global _find, _default
    _find, _default = find, default


def as_device(device: BackendDevice | str | None) -> BackendDevice:
    """The device that is given as itself or by name; None is the default device.

    Raises ValueError for an unknown name, TypeError for what is no device and no name.

    >>> as_device("cuda:1")
    cuda:1()
    """
    if isinstance(device, BackendDevice):
        return device
    if device is None:
        return default_device()
    if not isinstance(device, str):
        raise TypeError(
            f"[device] a device or its name is needed, got {device!r} ({type_name(device)})"
            + (": give options by name, as in batch_first=True" if isinstance(device, bool) else "")
            + (": write ndl.device(str(device))" if is_of_torch(device) else "")
        )
    named = _find(device)
    if named is None:
        raise ValueError(f"[device] there is no device {device!r}; use one of {DEVICE_NAMES}")
    return named


def default_device() -> BackendDevice:
    """The device of arrays made without one: `cpu()`, or `cpu_numpy()` without the C++ core."""
    return _default


def set_default_device(device: BackendDevice | str) -> None:
    """Make `device` the one that arrays are made on. Raises RuntimeError where it is disabled."""
    global _default
    device = as_device(device)
    if not device.enabled():
        raise RuntimeError(f"[set_default_device] {device} is not enabled on this machine")
    _default = device
