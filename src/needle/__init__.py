"""needle: a deep-learning framework small enough to read and fast enough to keep."""

from . import amp, autograd, data, init, nn, ops, optim
from .autograd import Tensor, TensorTuple, enable_grad, grad, no_grad
from .backend_ndarray import get_num_threads, memory_stats, set_num_threads
from .backend_selection import (
    Device,
    NDArray,
    all_devices,
    array_api,
    cpu,
    cpu_numpy,
    cuda,
    default_device,
)
from .init import ones, ones_like, zeros, zeros_like
from .jit import jit
from .ops import *  # noqa: F403
from .random import Generator

__version__ = "0.1.0"
