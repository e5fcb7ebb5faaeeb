"""Which device and which float width programs get by default: the environment's NEEDLE_BACKEND.

`nd` (default): the C++ device, and floats become float32.
`np`: the NumPy reference device, and floats keep NumPy's width (float64), which makes finite
differences exact enough to check gradients with.
"""

from __future__ import annotations

import warnings

import numpy as np

from . import backend_ndarray as array_api
from .backend_ndarray import (
    BackendDevice,
    NDArray,
    all_devices,
    as_device,
    cpu,
    cpu_numpy,
    cuda,
    default_device,
    set_default_device,
)
from .environment import backend

BACKEND = backend()
Device = BackendDevice

__all__ = [
    "BACKEND",
    "Device",
    "NDArray",
    "all_devices",
    "array_api",
    "as_device",
    "cpu",
    "cpu_numpy",
    "cuda",
    "default_device",
    "default_float",
    "set_default_device",
]

if BACKEND == "np":
    set_default_device(cpu_numpy())
elif not cpu().enabled():
    warnings.warn(
        "needle runs on its NumPy backend, which is slow: its C++ core was not built. Install a "
        "C++ compiler and reinstall needle-dl",
        RuntimeWarning,
        stacklevel=2,
    )


def default_float(dtype: np.dtype | None = None) -> str:
    """The dtype that a Tensor made from floats of `dtype` (None: Python numbers) gets."""
    if BACKEND == "nd":
        return "float32"
    return "float32" if dtype == np.float32 else "float64"
