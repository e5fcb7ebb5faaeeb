"""The functions of the CUDA driver that needle calls, with their types and errors.

CUDA Driver API reference: https://docs.nvidia.com/cuda/cuda-driver-api/. Functions whose interface
has changed carry the suffix of their version, as in cuda.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint8, c_uint64, c_void_p
from functools import cache

from .library import DRIVER, CudaUnavailable, load

OUT_OF_MEMORY, NOT_READY = 2, 600
# CUdevice_attribute.
MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR, MEMORY_POOLS = 16, 75, 76, 115
STREAM_NON_BLOCKING = 1
EVENT_DISABLE_TIMING = 2
CAPTURE_THREAD_LOCAL = 1
# CUmemPool_attribute: how many free bytes the driver's pool keeps at a synchronization.
POOL_RELEASE_THRESHOLD = 4

_pointer, _device_pointer = c_void_p, c_uint64
_SIGNATURES: dict[str, tuple[type[object], ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(_pointer), c_int),
    "cuCtxSetCurrent": (_pointer,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAllocAsync": (POINTER(_device_pointer), c_size_t, _pointer),
    "cuMemFreeAsync": (_device_pointer, _pointer),
    "cuMemcpyHtoDAsync_v2": (_device_pointer, _pointer, c_size_t, _pointer),
    "cuMemcpyDtoHAsync_v2": (_pointer, _device_pointer, c_size_t, _pointer),
    "cuMemcpyDtoDAsync_v2": (_device_pointer, _device_pointer, c_size_t, _pointer),
    "cuMemsetD8Async": (_device_pointer, c_uint8, c_size_t, _pointer),
    "cuDeviceGetDefaultMemPool": (POINTER(_pointer), c_int),
    "cuMemPoolSetAttribute": (_pointer, c_int, _pointer),
    "cuMemPoolTrimTo": (_pointer, c_size_t),
    "cuStreamCreate": (POINTER(_pointer), c_uint),
    "cuStreamSynchronize": (_pointer,),
    "cuStreamWaitEvent": (_pointer, _pointer, c_uint),
    "cuEventCreate": (POINTER(_pointer), c_uint),
    "cuEventRecord": (_pointer, _pointer),
    "cuEventSynchronize": (_pointer,),
    "cuEventQuery": (_pointer,),
    "cuEventElapsedTime": (POINTER(c_float), _pointer, _pointer),
    "cuEventDestroy_v2": (_pointer,),
    "cuModuleLoadData": (POINTER(_pointer), _pointer),
    "cuModuleGetFunction": (POINTER(_pointer), _pointer, c_char_p),
    "cuLaunchKernel": (
        _pointer, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, _pointer,
        POINTER(_pointer), POINTER(_pointer),
    ),
    "cuMemHostAlloc": (POINTER(_pointer), c_size_t, c_uint),
    "cuMemFreeHost": (_pointer,),
    "cuStreamBeginCapture_v2": (_pointer, c_int),
    "cuStreamEndCapture": (_pointer, POINTER(_pointer)),
    "cuGraphInstantiateWithFlags": (POINTER(_pointer), _pointer, c_uint64),
    "cuGraphLaunch": (_pointer, _pointer),
    "cuGraphDestroy": (_pointer,),
    "cuGraphExecDestroy": (_pointer,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}  # fmt: skip


class CudaError(RuntimeError):
    """A function of the driver failed."""

    def __init__(self, function: str, code: int, name: str, text: str) -> None:
        super().__init__(f"[cuda] {function} failed: {name} ({text})")
        self.function, self.code, self.name = function, code, name


class Driver:
    """The loaded driver: `driver("cuMemFree", pointer)` calls a function and raises CudaError."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions: dict[str, Callable[..., int]] = {}
        for name, types in _SIGNATURES.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise CudaUnavailable(
                    f"cuda() is not available: the NVIDIA driver has no {name}. Install a driver "
                    "for CUDA 12 or later"
                ) from None
            function.argtypes, function.restype = types, c_int
            self._functions[name] = function

    def __call__(self, name: str, *args: object) -> None:
        code = self._functions[name](*args)
        if code:
            raise CudaError(name, code, *self._text(code))

    def _text(self, code: int) -> tuple[str, str]:
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            self._functions[function](code, ctypes.byref(text))
            texts.append((text.value or b"unknown error").decode())
        return texts[0], texts[1]

    def integer(self, name: str, *args: object) -> int:
        """What a function puts into the integer that is its first argument."""
        value = c_int()
        self(name, ctypes.byref(value), *args)
        return value.value

    def handle(self, name: str, *args: object) -> c_void_p:
        """What a function puts into the pointer that is its first argument."""
        value = c_void_p()
        self(name, ctypes.byref(value), *args)
        return value


@cache
def driver() -> Driver:
    """The driver, loaded and initialized once. Raises CudaUnavailable."""
    library = load(DRIVER, "the NVIDIA driver", "Install the driver of your GPU, or use cpu()")
    loaded = Driver(library)
    try:
        loaded("cuInit", 0)
        devices = loaded.integer("cuDeviceGetCount")
    except CudaError as error:
        raise CudaUnavailable(f"cuda() is not available: {error}") from None
    if devices == 0:
        raise CudaUnavailable("cuda() is not available: the driver sees no GPU")
    return loaded
