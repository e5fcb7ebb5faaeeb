"""`cuda()`: an NVIDIA GPU as a device of needle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from ...typing import DType, HostArray
from ..device import BackendDevice, the_device
from ..dtypes import INT64, is_float
from ..layout import check_size, is_compact
from ..primitives import PRIMITIVES
from . import attention, columns, convolution, fused, kernels, pooling, random, recurrent  # noqa: F401
from .arrays import Array, CudaBuffer, address
from .blas import Blas
from .context import Context
from .library import CudaUnavailable


class CudaDevice(BackendDevice):
    """GPU number `ordinal`; enabled where the driver, NVRTC and a GPU are there.

    The first use looks for them, so that `import needle` costs nothing. That use raises
    CudaUnavailable where a part is missing, and the message names the part.
    """

    shares_memory = False
    wraps_without_waiting = True

    def __init__(self, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        self.name = "cuda" if ordinal == 0 else f"cuda:{ordinal}"
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._missing: str | None = None
        self._blas: tuple[Context, Blas] | None = None
        # Whether products and convolutions of float32 may round what they multiply to TF32 (10
        # bits), on tensor cores. A program of ndl.jit keeps what was set when it was captured.
        self.allow_tf32 = False

    @property
    def context(self) -> Context:
        """The GPU. Raises CudaUnavailable."""
        if self._context is None:
            with self._lock:
                if self._missing is not None:
                    raise CudaUnavailable(self._missing)
                if self._context is None:
                    try:
                        self._context = Context(self.ordinal)
                    except CudaUnavailable as missing:
                        # Not the exception: its traceback keeps the callers' variables alive.
                        self._missing = str(missing)
                        raise
        return self._context

    @property
    def blas(self) -> Blas:
        """The GPU's cuBLASLt, or why it is not used."""
        context = self.context
        if self._blas is None or self._blas[0] is not context:
            self._blas = context, Blas(context)
        return self._blas[1]

    def enabled(self) -> bool:
        try:
            return self.context is not None
        except CudaUnavailable:
            return False

    def status(self) -> str:
        """Which GPU it is, or what is missing."""
        try:
            major, minor = self.context.capability
        except CudaUnavailable as missing:
            return f"not enabled: {str(missing).removeprefix('cuda() is not available: ')}"
        gpu = f"{self.context.name}, compute capability {major}.{minor}"
        return f"enabled: {gpu}, {self.blas.status()}"

    @property
    def has_tensor_cores(self) -> bool:
        """Whether the GPU has the tensor cores that mma.cuh uses."""
        return self.context.capability >= kernels.TENSOR_CORES

    def synchronize(self) -> None:
        """Wait until all work given to the GPU is done. Raises CudaError for what has failed."""
        self.context.synchronize()

    def memory_stats(self) -> dict[str, int]:
        """Bytes `in_use` and `held` by needle, their `peak`, the GPU's `free` and `total` ones."""
        return self.context.memory.stats()

    def __repr__(self) -> str:
        return "cuda()" if self.ordinal == 0 else f"cuda({self.ordinal})"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[type[CudaDevice], int]]:
        return the_device, (CudaDevice, self.ordinal)

    # ---- memory -----------------------------------------------------------------------------

    def allocate(self, size: int, dtype: DType) -> CudaBuffer:
        check_size("allocate", (size,))  # the driver takes the number of bytes modulo 2^64
        return CudaBuffer(self.context, size, dtype)

    def wrap(self, array: HostArray, non_blocking: bool = False) -> CudaBuffer:
        """A copy on the GPU: memory of the host cannot be shared."""
        buffer = CudaBuffer(self.context, array.size, array.dtype)
        with self.context.streams.current.together():
            self.context.upload(array, buffer.use_address(), non_blocking)
        return buffer

    def pinned_copy(self, array: HostArray) -> HostArray:
        """The array in pinned memory, which `.to(device, non_blocking=True)` copies from."""
        copy = self.context.pinned.array(array.shape, array.dtype)
        copy[...] = array
        return copy

    def view(self, x: Array) -> HostArray:
        """A copy on the host, when all work is done. NumPy has no bfloat16."""
        if not is_compact(x._shape, x._strides):
            compact = self.empty(x._shape, x._dtype)
            self.copy(x, compact)
            x = compact
        host = np.empty(x._shape, x._dtype)
        self.context.download(address(x), host)
        host.flags.writeable = False  # what is written there would not reach the GPU
        return host

    # ---- element-wise -----------------------------------------------------------------------

    def fill(self, out: Array, value: float) -> None:
        kernels.elementwise(self.context, "fill", "s", out, scalar=value)

    def copy(self, x: Array, out: Array) -> None:
        kernels.copy(self.context, x, out)

    def unary(self, op: str, x: Array, out: Array) -> None:
        kernels.elementwise(self.context, op, f"f::{op}<T>(a)", out, x)

    def binary(self, op: str, a: Array, b: Array, out: Array) -> None:
        kernels.elementwise(self.context, op, f"f::{op}<T>(a, b)", out, a, b)

    def binary_scalar(
        self, op: str, x: Array, scalar: float, out: Array, reverse: bool = False
    ) -> None:
        if op == "pow" and scalar == 0.5 and not reverse and is_float(x._dtype):
            self.unary("sqrt", x, out)  # as on the other devices: NaN at -inf
            return
        operands = "s, a" if reverse else "a, s"
        kernels.elementwise(self.context, op, f"f::{op}<T>({operands})", out, x, scalar=scalar)

    def where(self, cond: Array, a: Array, b: Array, out: Array) -> None:
        kernels.elementwise(self.context, "where", "a ? b : c", out, cond, a, b)

    # ---- along axes -------------------------------------------------------------------------

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], out: Array) -> None:
        kernels.reduce(self.context, op, x, axes, out)

    def argreduce(self, op: str, x: Array, axis: int, out: Array) -> None:
        call = f"argreduce<{'true' if op == 'argmax' else 'false'}>"
        kernels.along_axis(self.context, op, call, x, axis, out, out_stride=False)

    def cumsum(self, x: Array, axis: int, out: Array) -> None:
        kernels.along_axis(self.context, "cumsum", "cumsum", x, axis, out)

    def argsort(self, x: Array, axis: int, descending: bool, out: Array) -> None:
        length = max(x._shape[axis], 1)
        padded = 1 << (length - 1).bit_length()
        order = CudaBuffer(self.context, out.size // length * padded, INT64)
        extra = (("int64_t padded", padded), ("int64_t* order", order.use_address()))
        call = f"argsort<{'true' if descending else 'false'}>"
        kernels.along_axis(self.context, "argsort", call, x, axis, out, extra)

    # ---- products and rows ------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array, bias: Array | None = None) -> None:
        if not self.blas.matmul(a, b, out, bias, tf32=self.allow_tf32):
            kernels.matmul(self.context, a, b, out, bias, self.allow_tf32)

    def matmul_relu(self, a: Array, b: Array, out: Array, bias: Array | None = None) -> None:
        """out = relu(a @ b + bias). Only compiled code calls it."""
        if not self.blas.matmul(a, b, out, bias, relu=True, tf32=self.allow_tf32):
            product = self.empty(out._shape, out._dtype)
            self.matmul(a, b, product, bias)
            self.unary("relu", product, out)

    def gather_rows(self, x: Array, index: Array, out: Array) -> None:
        if not index.size:
            return
        watch = self.context.streams.current.watch
        if watch is not None and out.size:  # a program checks later what the kernel notes
            kernels.gather_rows(self.context, x, index, out, watch)
            return
        self._check_rows(index, x._shape[0])
        bad = CudaBuffer(self.context, 1, INT64)
        kernels.gather_rows(self.context, x, index, out, bad.use_address())

    def scatter_add_rows(self, out: Array, index: Array, src: Array) -> None:
        if not index.size or not src.size:
            return
        rows = out._shape[0]
        self._check_rows(index, rows)
        wrapped, order = self.empty(index._shape, INT64), self.empty(index._shape, INT64)
        kernels.elementwise(self.context, "index", "a < 0 ? a + s : a", wrapped, index, scalar=rows)
        self.argsort(wrapped, 0, False, order)
        kernels.scatter_add_rows(self.context, out, wrapped, order, src)

    def _check_rows(self, index: Array, rows: int) -> None:
        context = self.context
        position = kernels.first_bad(
            context, lambda bad: kernels.check_rows(context, index, rows, bad)
        )
        if position is not None:
            wrong = kernels.integer_at(context, index, position)
            raise IndexError(f"index {wrong} is out of range for an axis of length {rows}")

    def takes_stored(self, kernel: str, dtype: DType) -> bool:
        return kernel == "matmul" or (
            PRIMITIVES[kernel].takes_tensor_cores and self.has_tensor_cores
        )

    def fused(self, name: str) -> Callable[..., None] | None:
        """The GPU's kernel of that name, or None."""
        function = kernels.LAUNCHERS.get(name)
        return None if function is None else partial(function, self)
