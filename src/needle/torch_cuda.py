"""What PyTorch programs ask of `torch.cuda`, as attributes of `needle.cuda`.

`needle.cuda()` is the course's function for a GPU. So that `from needle.cuda.amp import autocast`
and `needle.cuda.is_available()` can stay as PyTorch programs have them, the function also stands
for a module.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from . import amp
from .backend_selection import Device, as_device, cuda
from .random import manual_seed
from .typing import DTypeLike

if TYPE_CHECKING:
    from .backend_ndarray.device_cuda import CudaDevice

_GPU = Device | str | int | None


def _gpu(given: _GPU) -> CudaDevice:
    """A GPU by its number, its name or itself; the first by default."""
    device = (
        cuda(given) if isinstance(given, int) else as_device("cuda" if given is None else given)
    )
    if not device.name.startswith("cuda"):
        raise ValueError(f"[cuda] {device} is no GPU")
    return cast("CudaDevice", device)


def is_available() -> bool:
    """Whether there is a GPU that can be used."""
    return cuda().enabled()


def device_count() -> int:
    """How many GPUs can be used."""
    count = 0
    while cuda(count).enabled():
        count += 1
    return count


def current_device() -> int:
    """The number of the GPU that `cuda()` is: 0."""
    return 0


def get_device_name(device: _GPU = None) -> str:
    """The name of a GPU. Raises CudaUnavailable where there is none."""
    name: str = _gpu(device).context.name
    return name


def is_bf16_supported() -> bool:
    """True: bfloat16 is there on every device."""
    return True


def synchronize(device: _GPU = None) -> None:
    """Wait until a GPU has done all work that it was given."""
    _gpu(device).synchronize()


def empty_cache() -> None:
    """Nothing: memory that is held for later arrays is given back when the GPU has none left."""


def memory_allocated(device: _GPU = None) -> int:
    """Bytes that living arrays take on a GPU; 0 where there is none."""
    return _stat("in_use", device)


def memory_reserved(device: _GPU = None) -> int:
    """Bytes that living arrays take and those held for later arrays; 0 where there is no GPU."""
    return _stat("held", device)


def max_memory_allocated(device: _GPU = None) -> int:
    """The most bytes that arrays took at a time; 0 where there is no GPU."""
    return _stat("peak", device)


def reset_peak_memory_stats(device: _GPU = None) -> None:
    """Count the most bytes from now on; nothing where there is no GPU."""
    gpu = _gpu(device)
    if gpu.enabled():
        gpu.context.memory.reset_peak()


def get_device_capability(device: _GPU = None) -> tuple[int, int]:
    """The compute capability of a GPU. Raises CudaUnavailable where there is none."""
    major, minor = _gpu(device).context.capability
    return major, minor


class Event:
    """A point in a GPU's work, for measuring how long work takes: `start.elapsed_time(end)`.

    `record` waits for the work before it, so that the clock of the host can measure. Options are
    accepted as in PyTorch.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self._time: float | None = None

    def record(self, stream: object = None) -> None:
        """Wait for the GPU, and note the time."""
        if cuda().enabled():
            synchronize()
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing: `record` has waited."""

    def query(self) -> bool:
        """Whether the work before `record` is done: True."""
        return True

    def elapsed_time(self, end: Event) -> float:
        """The milliseconds until another event. Raises RuntimeError unless both are recorded."""
        if self._time is None or end._time is None:
            raise RuntimeError("[Event] both events must be recorded first")
        return 1e3 * (end._time - self._time)


def _stat(name: str, device: _GPU) -> int:
    gpu = _gpu(device)
    return gpu.memory_stats()[name] if gpu.enabled() else 0


def set_device(device: _GPU) -> None:
    """Check that the GPU is the first one, which `cuda()` is.

    Raises ValueError for another: give the device instead, as in `x.to("cuda:1")`.
    """
    if _gpu(device).index:
        raise ValueError(
            f"[cuda] needle has no current GPU: give the device, as in x.to({_gpu(device).name!r})"
        )


def _autocast(
    enabled: bool = True, dtype: DTypeLike = "float16", cache_enabled: bool | None = None
) -> amp.autocast:
    """`needle.amp.autocast("cuda")` with the arguments of PyTorch's older form."""
    return amp.autocast("cuda", dtype, enabled, cache_enabled)


_ANSWERS: tuple[Callable[..., object], ...] = (
    is_available, device_count, current_device, get_device_name, is_bf16_supported, synchronize,
    empty_cache, memory_allocated, memory_reserved, max_memory_allocated, set_device,
    reset_peak_memory_stats, get_device_capability, Event,
)  # fmt: skip


def _install() -> None:
    older: Any = ModuleType("needle.cuda.amp", "`needle.amp` with the arguments of older programs.")
    older.autocast, older.GradScaler = _autocast, partial(amp.GradScaler, "cuda")
    answers: dict[str, object] = {answer.__name__: answer for answer in _ANSWERS}
    answers |= {"manual_seed": manual_seed, "manual_seed_all": manual_seed, "amp": older}
    for name, answer in answers.items():
        setattr(cuda, name, answer)
    sys.modules["needle.cuda"] = cuda  # type: ignore[assignment]
    sys.modules["needle.cuda.amp"] = older


_install()
