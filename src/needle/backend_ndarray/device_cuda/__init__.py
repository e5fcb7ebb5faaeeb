"""The CUDA device: found at run time, kernels compiled for the GPU at hand.

`library.py` finds the driver and NVRTC, `driver.py` has the driver's functions, and `compiler.py`
compiles kernels. `context.py` is one GPU, `streams.py` orders its work, `memory.py` and `pinned.py`
allocate its memory and the host's. `arrays.py` has the arrays that kernels see, `kernels.py`
launches the primitives, `blas.py` calls cuBLASLt, and the other files launch the fused kernels.
They take the context; only `device.py`, which is the backend, knows the device.
"""

from .device import CudaDevice
from .driver import CudaError
from .library import CudaUnavailable
from .memory import CudaOutOfMemory

__all__ = ["CudaDevice", "CudaError", "CudaOutOfMemory", "CudaUnavailable"]
