"""The C++ device. Its primitives are the functions of the extension module `needle._core`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NoReturn

import numpy as np

from ..environment import MAX_THREADS
from ..native import core
from .device import BackendDevice
from .dtypes import BFLOAT16, DTYPES, FLOAT32, FLOAT64
from .layout import whole
from .primitives import FUNCTIONS, PRIMITIVES


class CpuDevice(BackendDevice):
    """`cpu()`: SIMD and threads; enabled where the extension module was built."""

    name = "cpu"

    def __init__(self) -> None:
        if core is None:
            return
        core.register(self.array_type, list(DTYPES), self)
        # The native functions become the device's own: one call from NDArray to the kernel.
        for name in FUNCTIONS:
            setattr(self, name, getattr(core, name))
        self.__tile_size__ = core.TILE_SIZE
        self.matmul_tiled = core.matmul_tiled

    def narrowed(self, host: np.ndarray) -> core.Buffer:
        """As on every device, without NumPy, which would have to be kept from warnings of overflow:
        that takes longer than a small array."""
        if not host.flags.carray:
            buffer: core.Buffer = super().narrowed(host)
            return buffer
        view, size = self.array_type._view, host.size
        result: core.Buffer = self.allocate(size, FLOAT32)
        self.copy(
            view((size,), (1,), 0, self.wrap(host), self, FLOAT64),
            view((size,), (1,), 0, result, self, FLOAT32),
        )
        return result

    def enabled(self) -> bool:
        return core is not None

    def __getattr__(self, name: str) -> NoReturn:
        if core is None and name in FUNCTIONS:
            raise RuntimeError(
                "cpu() is not available: needle was installed without its C++ core. Install a C++ "
                "compiler and reinstall needle-dl, or use cpu_numpy()"
            )
        raise AttributeError(name)

    def memory_stats(self) -> dict[str, int]:
        """Bytes `in_use`, `held` and their `peak`, and how many `allocations` the system was asked
        for."""
        return {} if core is None else core.memory_stats()

    def takes_stored(self, kernel: str, dtype: np.dtype) -> bool:
        """Products of bfloat16, where the processor has instructions for them."""
        return kernel == "matmul" and dtype is BFLOAT16 and multiplies_bfloat16()

    def fused(self, name: str) -> Callable[..., None] | None:
        return getattr(core, name, None) if name in PRIMITIVES else None


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16 (AVX-512 BF16 or AMX)."""
    return simd_level() in ("amx", "avx512_bf16")


def set_num_threads(n: int) -> None:
    """Let the kernels of `cpu()` use `n` threads.

    Raises TypeError where `n` is no integer, ValueError unless 1 ≤ n ≤ 255.
    """
    if isinstance(n, bool):
        raise TypeError(f"[set_num_threads] n must be an integer, got {n!r}")
    count = whole(n, "set_num_threads", "n")
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(
            f"[set_num_threads] n must be an integer from 1 to {MAX_THREADS}, got {count}"
        )
    if core is not None:
        core.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads the kernels of `cpu()` use; 1 without the C++ core."""
    return 1 if core is None else core.get_num_threads()


def simd_level() -> str:
    """The instruction set of the kernels, `"none"` without the C++ core.

    `"amx"`, `"avx512_bf16"`, `"avx512"`, `"avx2"`, `"neon"` or `"portable"`. The first two are
    AVX-512 with products of bfloat16.
    """
    return "none" if core is None else core.simd_level()
