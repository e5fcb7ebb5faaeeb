"""Functions of numbers that a compiled step reads at every call, as counts of steps."""

from __future__ import annotations

from collections.abc import Callable

from ..backend_ndarray import HostNumber


def of_host(function: Callable[..., float], *numbers: float | HostNumber) -> float | HostNumber:
    """`function(*numbers)`, computed on the host at every call where one is a HostNumber."""
    moving = [number for number in numbers if isinstance(number, HostNumber)]
    if not moving:
        return function(*numbers)

    def read() -> float:
        return function(*(n.read() if isinstance(n, HostNumber) else n for n in numbers))

    return HostNumber(read, moving[0].as_array)


def is_used(number: float | HostNumber) -> bool:
    """Whether an option may have an effect: one that is read at every call may."""
    return isinstance(number, HostNumber) or number != 0
