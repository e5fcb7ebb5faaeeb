"""The CUDA device: found at run time, kernels compiled for the GPU at hand.

`library.py` finds the driver and NVRTC, `driver.py` has the driver's functions, `compiler.py` makes
kernels of source. `context.py` is one GPU, `streams.py` the order of its work, `memory.py` its
memory. `kernels.py` launches the kernels of csrc/cuda, `blas.py` calls cuBLASLt, and
`device.py` is the backend.
"""

from .device import CudaDevice
from .driver import CudaError
from .library import CudaUnavailable
from .memory import CudaOutOfMemory

__all__ = ["CudaDevice", "CudaError", "CudaOutOfMemory", "CudaUnavailable"]
