"""Arrays without data, for tracing: a device's primitives recorded instead of executed.

While a `Recorder` is installed on a device, this thread's arrays there get symbolic buffers: they
have shapes, strides and dtypes, and no memory. `NDArray` needs to know nothing of it.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

import numpy as np

from ..forks import fork_safe, in_child
from .device import BackendDevice
from .dtypes import SCALARS, python_number
from .primitives import FUNCTIONS

if TYPE_CHECKING:
    from .ndarray import NDArray

_Answer: TypeAlias = Callable[..., Any]  # a function in the place of one of the device's
# The 0-d array of the trace that stands for a number: (number, device, dtype) -> array.
_AsArray: TypeAlias = "Callable[[HostNumber, BackendDevice, np.dtype], NDArray]"

# What a recorder answers in the device's place: the primitives, the fused kernels by name, and
# draws of random numbers.
RECORDED = (*FUNCTIONS, "fused", "draw")


class SymbolicBuffer:
    """The buffer of an array that stands for one: `size` elements of `dtype`, no memory.

    `value` is for the recorder: what it knows of the contents at this point of the trace.
    """

    __slots__ = ("__weakref__", "dtype", "size", "value", "version")
    symbolic = True
    shared = False

    def __init__(self, size: int, dtype: np.dtype) -> None:
        self.size, self.dtype = size, dtype
        self.value: Any = None
        self.version = 0

    def ptr(self) -> NoReturn:
        """Raises RuntimeError: there is no memory."""
        raise RuntimeError("an array inside a traced function has no address")


def is_traced(array: NDArray) -> bool:
    """Whether an NDArray stands for data that is not there yet, inside a traced function."""
    return type(array._handle) is SymbolicBuffer


class Recorder(Protocol):
    """Provides the attributes named in `RECORDED` in place of a device."""

    def handler(self, device: BackendDevice, name: str, original: _Answer) -> _Answer:
        """The replacement for attribute `name` of `device`, which is `original` itself."""


class _Switchboard:
    """A device some of whose threads are recorded: a call goes to its thread's recorder."""

    def __init__(self, device: BackendDevice) -> None:
        self.device, self.before = device, dict(vars(device))
        self.originals = {name: getattr(device, name) for name in RECORDED}
        self.handlers: dict[int, dict[str, _Answer]] = {}  # by thread, then by name
        for name in RECORDED:
            setattr(device, name, self._switch(name))

    def _switch(self, name: str) -> _Answer:
        original, handlers = self.originals[name], self.handlers

        def call(*args: Any, **options: Any) -> Any:
            mine = handlers.get(threading.get_ident())
            return (original if mine is None else mine[name])(*args, **options)

        return call

    def remove(self) -> None:
        """Give the device its own answers back, one by one: other threads are using it."""
        for name in RECORDED:
            if name in self.before:
                setattr(self.device, name, self.before[name])
            else:
                delattr(self.device, name)


_switchboards: dict[BackendDevice, _Switchboard] = {}
_switching = fork_safe(threading.Lock())


@contextmanager
def recording(device: BackendDevice, recorder: Recorder) -> Iterator[None]:
    """A context in which `recorder` replaces the primitives of `device` in this thread.

    Other threads compute as usual, or have recorders of their own.
    """
    thread = threading.get_ident()
    with _switching:
        board = _switchboards.get(device)
        if board is None:
            board = _switchboards[device] = _Switchboard(device)
        outer = board.handlers.get(thread)
        answers = board.originals if outer is None else outer
        board.handlers[thread] = {
            name: recorder.handler(device, name, answers[name]) for name in RECORDED
        }
    try:
        yield
    finally:
        with _switching:
            if outer is not None:
                board.handlers[thread] = outer
            else:
                del board.handlers[thread]
            if not board.handlers:
                _switchboards.pop(device).remove()


def is_recorded(device: BackendDevice) -> bool:
    """Whether what this thread does on `device` is recorded."""
    board = _switchboards.get(device) if _switchboards else None
    return board is not None and threading.get_ident() in board.handlers


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread: the recordings of the others ended with them."""
    thread = threading.get_ident()
    for device, board in list(_switchboards.items()):
        for other in [key for key in board.handlers if key != thread]:
            del board.handlers[other]
        if not board.handlers:
            _switchboards.pop(device).remove()


class HostNumber:
    """A Python number that is known anew at every call of a traced function, as a learning rate.

    Arithmetic with numbers gives HostNumbers, computed on the host in double precision; arithmetic
    with an array makes it a 0-d array of that array's dtype, or of float32 for integers. Its value
    cannot be asked for.
    """

    __slots__ = ("as_array", "read")
    __array_ufunc__ = None  # NumPy's scalars leave the operators to this class

    def __init__(self, read: Callable[[], float], as_array: _AsArray) -> None:
        self.read = read  # its value in the current call
        self.as_array = as_array

    def _combined(self, op: Callable[..., float], other: object, swap: bool) -> HostNumber:
        if isinstance(other, HostNumber):
            return HostNumber(lambda: op(self.read(), other.read()), self.as_array)
        if not isinstance(other, SCALARS):
            return NotImplemented  # type: ignore[no-any-return]
        number = python_number(other)
        if swap:
            return HostNumber(lambda: op(number, self.read()), self.as_array)
        return HostNumber(lambda: op(self.read(), number), self.as_array)

    def __add__(self, other: object) -> HostNumber:
        return self._combined(operator.add, other, False)

    def __radd__(self, other: object) -> HostNumber:
        return self._combined(operator.add, other, True)

    def __sub__(self, other: object) -> HostNumber:
        return self._combined(operator.sub, other, False)

    def __rsub__(self, other: object) -> HostNumber:
        return self._combined(operator.sub, other, True)

    def __mul__(self, other: object) -> HostNumber:
        return self._combined(operator.mul, other, False)

    def __rmul__(self, other: object) -> HostNumber:
        return self._combined(operator.mul, other, True)

    def __truediv__(self, other: object) -> HostNumber:
        return self._combined(operator.truediv, other, False)

    def __rtruediv__(self, other: object) -> HostNumber:
        return self._combined(operator.truediv, other, True)

    def __pow__(self, other: object) -> HostNumber:
        return self._combined(operator.pow, other, False)

    def __rpow__(self, other: object) -> HostNumber:
        return self._combined(operator.pow, other, True)

    def __neg__(self) -> HostNumber:
        return HostNumber(lambda: -self.read(), self.as_array)

    def _refuse(self, *args: object) -> NoReturn:
        raise TypeError("a number that changes from call to call has no value in a trace")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = object.__hash__
