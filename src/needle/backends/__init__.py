"""The settings of PyTorch's back ends. They can be set, and change nothing: needle has kernels of
its own, which are deterministic and compute float32 in float32.
"""

from . import cuda, cudnn, mps

__all__ = ["cuda", "cudnn", "mps"]
