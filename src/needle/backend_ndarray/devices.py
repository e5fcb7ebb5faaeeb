"""The devices that there are: `cpu()`, `cpu_numpy()`, `cuda()`, by function and by name."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np

from . import ndarray  # noqa: F401 (devices make its arrays)
from .device import DEVICE_NAMES, BackendDevice, as_device, install, the_device
from .device_cpu import CpuDevice
from .device_numpy import NumpyDevice
from .dtypes import as_dtype

if TYPE_CHECKING:
    from .device_cuda import CudaDevice

_CPU: BackendDevice = the_device(CpuDevice)
_CPU_NUMPY: BackendDevice = the_device(NumpyDevice)


def cpu() -> BackendDevice:
    """The C++ device."""
    return _CPU


def cpu_numpy() -> BackendDevice:
    """The NumPy reference device."""
    return _CPU_NUMPY


def cuda(ordinal: int = 0) -> CudaDevice:
    """GPU number `ordinal`; `cuda().enabled()` says whether it can be used.

    Raises TypeError for a number that is no integer and ValueError for a negative one.
    """
    number = operator.index(ordinal)
    if number < 0:
        raise ValueError(f"[cuda] GPUs are numbered from 0, got {number}")
    from .device_cuda import (
        CudaDevice,
    )  # some fifteen files, which programs without a GPU do not need

    return the_device(CudaDevice, number)


def device_named(name: str) -> BackendDevice | None:
    """The device that is called "cpu", "cpu_numpy", "cuda" or "cuda:1"; None for another name."""
    if name == "cpu":
        return _CPU
    if name == "cpu_numpy":
        return _CPU_NUMPY
    if not name.startswith("cuda"):
        return None
    kind, colon, number = name.partition(":")
    numbered = number.isascii() and number.isdigit() if colon else not number
    if kind == "cuda" and numbered:
        return cuda(int(number or 0))
    return None


def as_device_or_dtype(target: object) -> BackendDevice | np.dtype:
    """What `.to` is given: a device, a dtype, or the name of either. Raises TypeError for others.

    >>> as_device_or_dtype("cpu"), as_device_or_dtype("float32")
    (cpu(), dtype('float32'))
    """
    if isinstance(target, BackendDevice):
        return target
    try:
        return as_dtype(target)
    except TypeError as error:
        device = device_named(target) if isinstance(target, str) else None
        if device is None:
            raise TypeError(f"[to] {error}, or a device: {DEVICE_NAMES}") from None
        return device


def memory_stats(device: BackendDevice | str | None = None) -> dict[str, int]:
    """What `device.memory_stats()` says, of `cpu()` by default.

    `in_use`, `held` and `peak` are bytes on every device that counts them: those of living arrays,
    those and the ones kept for the next arrays, and the most that were in use.

    >>> import needle as ndl
    >>> stats = ndl.memory_stats()
    >>> stats["held"] >= stats["in_use"]
    True
    """
    return (cpu() if device is None else as_device(device)).memory_stats()


def all_devices() -> list[BackendDevice]:
    """Every device of this version, enabled or not."""
    return [_CPU, cuda(), _CPU_NUMPY]


install(device_named, _CPU if _CPU.enabled() else _CPU_NUMPY)
