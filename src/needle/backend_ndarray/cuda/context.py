"""One GPU: its context, stream, memory and loaded kernels."""

from __future__ import annotations

import ctypes
import gc
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_size_t, c_uint64, c_void_p

import numpy as np

from . import compiler
from .driver import (
    CAPABILITY_MAJOR,
    CAPABILITY_MINOR,
    CAPTURE_THREAD_LOCAL,
    MULTIPROCESSORS,
    OUT_OF_MEMORY,
    POOL_RELEASE_THRESHOLD,
    STREAM_NON_BLOCKING,
    CudaError,
    driver,
)
from .library import CudaUnavailable

OLDEST_CAPABILITY = (7, 0)
SMALL_BLOCK, LARGE_BLOCK, SMALL = 512, 2 << 20, 1 << 20
MIB = 1 << 20
# What a kernel takes: words of 8 bytes, integers (also addresses) or doubles; structs as tuples.
Parameter = int | float | tuple[int | float, ...]


class CudaOutOfMemory(CudaError, MemoryError):
    """The GPU has no memory left; the message gives what was asked for, held and free."""

    def __init__(self, asked: int, stats: dict[str, int]) -> None:
        RuntimeError.__init__(
            self,
            f"[cuda] out of memory: {asked / MIB:.1f} MiB were asked for; needle uses "
            f"{stats['in_use'] / MIB:.1f} MiB and holds {stats['held'] / MIB:.1f} MiB, of the "
            f"GPU's {stats['total'] / MIB:.1f} MiB {stats['free'] / MIB:.1f} MiB are free. Use "
            "smaller batches or ndl.checkpoint",
        )
        self.function, self.code, self.name = "cuMemAllocAsync", OUT_OF_MEMORY, "OUT_OF_MEMORY"


class Memory:
    """A cache of blocks over the driver's stream-ordered pool.

    A block that is freed is kept for the next one of its size. All work is on one stream, so that a
    block can be used again at once: what is still to be read from it comes before what is written.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._free: dict[int, list[int]] = defaultdict(list)
        self._kept: list[tuple[int, int]] | None = None
        self.lock = threading.RLock()  # a collection of garbage inside may free blocks
        self.in_use = self.held = self.peak = 0

    def allocate(self, nbytes: int) -> tuple[int, int]:
        """(address, size to free it with) of a block. Raises CudaOutOfMemory."""
        size = rounded(nbytes)
        with self.lock:
            blocks = self._free[size]
            address = blocks.pop() if blocks else self._fresh(size)
            self.in_use += size
            self.peak = max(self.peak, self.in_use)
            return address, size

    def free(self, address: int, size: int) -> None:
        """Give a block back."""
        with self.lock:
            if self._kept is not None:
                self._kept.append((address, size))
                return
            self._free[size].append(address)
            self.in_use -= size

    @contextmanager
    def keeping(self) -> Iterator[list[tuple[int, int]]]:
        """Inside, blocks that are given back go to the list: a captured graph goes on using them.

        No other thread can allocate meanwhile. After an exception they are given back.
        """
        with self.lock:
            blocks: list[tuple[int, int]] = []
            self._kept = blocks
            try:
                yield blocks
            except BaseException:
                self._kept = None
                for block in blocks:
                    self.free(*block)
                raise
            finally:
                self._kept = None

    def _fresh(self, size: int) -> int:
        address = self._ask(size)
        if address is None:
            gc.collect()  # reference cycles may hold blocks
            if self._free[size]:
                return self._free[size].pop()
            self.release_cached()
            address = self._ask(size)
        if address is None:
            raise CudaOutOfMemory(size, self.stats())
        return address

    def _ask(self, size: int) -> int | None:
        """A block of the driver; None where it has no memory."""
        address = c_uint64()
        try:
            self._context.call("cuMemAllocAsync", byref(address), size, self._context.stream)
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            return None
        self.held += size
        return address.value

    def release_cached(self) -> None:
        """Give the blocks that nobody uses back to the driver."""
        with self.lock:
            for size, blocks in self._free.items():
                while blocks:
                    self._context.call("cuMemFreeAsync", blocks.pop(), self._context.stream)
                    self.held -= size
            self._context.call("cuStreamSynchronize", self._context.stream)
            self._context.call("cuMemPoolTrimTo", self._context.pool, 0)

    def stats(self) -> dict[str, int]:
        """Bytes in use and held by needle, their peak, and the GPU's free and total ones."""
        free, total = c_size_t(), c_size_t()
        self._context.call("cuMemGetInfo_v2", byref(free), byref(total))
        return {
            "in_use": self.in_use, "held": self.held, "peak": self.peak,
            "free": free.value, "total": total.value,
        }  # fmt: skip


class CapturedGraph:
    """Launches that run again with one call, and the scratch memory they use."""

    def __init__(
        self, context: Context, executable: c_void_p, blocks: list[tuple[int, int]]
    ) -> None:
        self._context, self._executable, self._blocks = context, executable, blocks

    def replay(self) -> None:
        """Run it."""
        self._context.call("cuGraphLaunch", self._executable, self._context.stream)

    def __del__(self) -> None:
        self._context.call("cuGraphExecDestroy", self._executable)
        for block in self._blocks:
            self._context.memory.free(*block)


def rounded(nbytes: int) -> int:
    """The size of the block that holds `nbytes`."""
    unit = SMALL_BLOCK if nbytes <= SMALL else LARGE_BLOCK
    return max(-(-nbytes // unit), 1) * unit


class Context:
    """The context of GPU number `ordinal`. Raises CudaUnavailable where it cannot be used."""

    def __init__(self, ordinal: int) -> None:
        self._driver = driver()
        compiler.check_available()
        count = self._driver.integer("cuDeviceGetCount")
        if not 0 <= ordinal < count:
            raise CudaUnavailable(f"cuda({ordinal}) is not available: there are {count} GPUs")
        self.device = self._driver.integer("cuDeviceGet", ordinal)
        attribute = lambda number: self._driver.integer(  # noqa: E731
            "cuDeviceGetAttribute", number, self.device
        )
        self.capability = attribute(CAPABILITY_MAJOR), attribute(CAPABILITY_MINOR)
        self.multiprocessors = attribute(MULTIPROCESSORS)
        self.name = self._name()
        if self.capability < OLDEST_CAPABILITY:
            raise CudaUnavailable(
                f"cuda({ordinal}) is not available: {self.name} has compute capability "
                f"{self.capability[0]}.{self.capability[1]}, needle needs 7.0 or later"
            )
        self._handle = self._driver.handle("cuDevicePrimaryCtxRetain", self.device)
        self._current = threading.local()
        self._kernels: dict[str, c_void_p] = {}
        self._compiling = threading.Lock()
        self.rehearsing = False  # kernels are compiled and not launched
        self.stream = self._create("cuStreamCreate", STREAM_NON_BLOCKING)
        self.pool = self._create("cuDeviceGetDefaultMemPool", self.device)
        keep = c_uint64(2**64 - 1)
        self.call("cuMemPoolSetAttribute", self.pool, POOL_RELEASE_THRESHOLD, byref(keep))
        self.memory = Memory(self)

    def _name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._driver("cuDeviceGetName", text, len(text), self.device)
        return text.value.decode()

    @property
    def architecture(self) -> str:
        """What kernels are compiled for, such as "sm_90"."""
        return "sm_{}{}".format(*self.capability)

    def call(self, name: str, *args: object) -> None:
        """A function of the driver, with this GPU the thread's current one."""
        self.activate()
        self._driver(name, *args)

    def activate(self) -> None:
        """Make this GPU the thread's current one."""
        if not getattr(self._current, "is_set", False):
            self._driver("cuCtxSetCurrent", self._handle)
            self._current.is_set = True

    def _create(self, name: str, *args: object) -> c_void_p:
        value = c_void_p()
        self.call(name, byref(value), *args)
        return value

    def synchronize(self) -> None:
        """Wait until all work is done. Raises CudaError for what has failed."""
        self.call("cuStreamSynchronize", self.stream)

    # ---- data -------------------------------------------------------------------------------

    def upload(self, array: np.ndarray, address: int) -> None:
        """Copy a contiguous array to the GPU; it may be changed afterwards."""
        if array.nbytes:
            self.call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)
            self.synchronize()

    def download(self, address: int, array: np.ndarray) -> None:
        """Fill a contiguous array from the GPU, when all work before is done."""
        if array.nbytes:
            self.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self.stream)
        self.synchronize()

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy bytes on the GPU."""
        if nbytes and source != target and not self.rehearsing:
            self.call("cuMemcpyDtoDAsync_v2", target, source, nbytes, self.stream)

    # ---- graphs -----------------------------------------------------------------------------

    def capture(self, work: Callable[[], None]) -> CapturedGraph:
        """What `work` launches, as a graph: one call for all of it.

        `work` must not wait. It is called twice, the first time to compile its kernels and to find
        the memory it needs, which then belongs to the graph.
        """
        with self.memory.lock:
            self.rehearsing = True
            try:
                with self.memory.keeping() as blocks:
                    work()
            finally:
                self.rehearsing = False
            for block in blocks:
                self.memory.free(*block)
            with self.memory.keeping() as blocks:
                return CapturedGraph(self, self._captured(work), blocks)

    def _captured(self, work: Callable[[], None]) -> c_void_p:
        self.call("cuStreamBeginCapture_v2", self.stream, CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        try:
            work()
        finally:
            self.call("cuStreamEndCapture", self.stream, byref(graph))
        executable = self._create("cuGraphInstantiateWithFlags", graph, c_uint64(0))
        self.call("cuGraphDestroy", graph)
        return executable

    # ---- kernels ----------------------------------------------------------------------------

    def kernel(self, source: str) -> c_void_p:
        """The function `kernel` of a source, compiled and loaded once."""
        function = self._kernels.get(source)
        if function is None:
            with self._compiling:
                cubin = compiler.compile_kernel(source, self.architecture)
                module = self._create("cuModuleLoadData", cubin)
                function = self._kernels[source] = self._create(
                    "cuModuleGetFunction", module, b"kernel"
                )
        return function

    def launch(
        self, what: str, source: str, blocks: int, threads: int, parameters: Sequence[Parameter]
    ) -> None:
        """Run a kernel. `what` names it in an error: the op and the shapes."""
        words: list[int | float] = []
        starts = []
        for parameter in parameters:
            starts.append(8 * len(words))
            words += parameter if isinstance(parameter, tuple) else (parameter,)
        kinds = "".join("q" if isinstance(word, int) else "d" for word in words)
        memory = ctypes.create_string_buffer(struct.pack(kinds, *words), 8 * len(words))
        base = ctypes.addressof(memory)
        addresses = (c_void_p * len(starts))(*(base + start for start in starts))
        function = self.kernel(source)
        if self.rehearsing:
            return
        try:
            self.call(
                "cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, self.stream, addresses,
                None,
            )  # fmt: skip
        except CudaError as error:
            error.args = (f"{error.args[0]} in {what}",)
            raise
