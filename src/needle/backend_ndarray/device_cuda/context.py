"""One GPU: its context, with streams, memory and loaded kernels."""

from __future__ import annotations

import ctypes
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_uint64, c_void_p

import numpy as np

from . import compiler
from .driver import (
    CAPABILITY_MAJOR,
    CAPABILITY_MINOR,
    CAPTURE_THREAD_LOCAL,
    MULTIPROCESSORS,
    POOL_RELEASE_THRESHOLD,
    CudaError,
    driver,
)
from .library import CudaUnavailable
from .memory import Block, Memory
from .pinned import CHUNK, PinnedMemory, Watch
from .streams import Stream, Streams, Uses

OLDEST_CAPABILITY = (7, 0)
_current = threading.local()  # the Context that is this thread's current one
# A parameter of a kernel: a word of 8 bytes (an integer, address or double), or a struct of words.
Parameter = int | float | tuple[int | float, ...]


class CapturedGraph:
    """A CUDA graph: launches that one call repeats, and the scratch memory that they use."""

    def __init__(self, context: Context, executable: c_void_p, blocks: list[Block]) -> None:
        self._context, self._executable, self._blocks = context, executable, blocks
        self._uses: Uses = {stream: n for block in blocks for stream, n in block.uses.items()}

    def replay(self) -> None:
        """Launch the graph on this thread's stream."""
        here = self._context.streams.current
        self._context.streams.use(self._uses)
        self._context.call("cuGraphLaunch", self._executable, here.handle)
        here.issued += 1

    def __del__(self) -> None:
        self._context.call("cuGraphExecDestroy", self._executable)
        for block in self._blocks:
            block.uses.update(self._uses)
            self._context.memory.free(block)


class Context:
    """The context of GPU number `ordinal`. Raises CudaUnavailable where it cannot be used."""

    def __init__(self, ordinal: int) -> None:
        self._driver = driver()
        compiler.check_available()
        count = self._driver.integer("cuDeviceGetCount")
        if not 0 <= ordinal < count:
            raise CudaUnavailable(f"cuda({ordinal}) is not available: there are {count} GPUs")
        self.device = self._driver.integer("cuDeviceGet", ordinal)
        self.capability = self._attribute(CAPABILITY_MAJOR), self._attribute(CAPABILITY_MINOR)
        self.multiprocessors = self._attribute(MULTIPROCESSORS)
        self.name = self._name()
        if self.capability < OLDEST_CAPABILITY:
            raise CudaUnavailable(
                f"cuda({ordinal}) is not available: {self.name} has compute capability "
                f"{self.capability[0]}.{self.capability[1]}, needle needs 7.0 or later"
            )
        self._check_versions()
        self._handle = self._driver.handle("cuDevicePrimaryCtxRetain", self.device)
        self._kernels: dict[str, c_void_p] = {}
        self._compiling = threading.Lock()
        # Held while a stream captures, so that no other thread allocates or records an event.
        self.lock = threading.RLock()
        self.streams = Streams(self)
        self.pool = self.create("cuDeviceGetDefaultMemPool", self.device)
        keep = c_uint64(2**64 - 1)
        self.call("cuMemPoolSetAttribute", self.pool, POOL_RELEASE_THRESHOLD, byref(keep))
        self.memory, self.pinned = Memory(self), PinnedMemory(self)
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        # Watches that unfinished work may write to, with its stream; they outlive their programs.
        self.awaited: dict[Watch, Stream] = {}

    def _check_versions(self) -> None:
        """Raises CudaUnavailable if NVRTC is of a later major version than the driver can load."""
        made, loaded = compiler.version(), self._driver.integer("cuDriverGetVersion")
        if int(made.split(".")[0]) > loaded // 1000:
            raise CudaUnavailable(
                f"cuda() is not available: NVRTC {made} makes kernels for a later driver than this "
                f"one, which is for CUDA {loaded // 1000}.{loaded % 1000 // 10}. Install a later "
                "driver, or NVRTC of its major version, such as nvidia-cuda-nvrtc-cu12"
            )

    def _attribute(self, number: int) -> int:
        return self._driver.integer("cuDeviceGetAttribute", number, self.device)

    def _name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._driver("cuDeviceGetName", text, len(text), self.device)
        return text.value.decode()

    @property
    def architecture(self) -> str:
        """The architecture that kernels are compiled for, such as "sm_90"."""
        return "sm_{}{}".format(*self.capability)

    @property
    def stream(self) -> c_void_p:
        """The stream of this thread."""
        return self.streams.current.handle

    def call(self, name: str, *args: object) -> None:
        """Call a function of the driver, with this GPU as the thread's current one."""
        self.activate()
        self._driver(name, *args)

    def activate(self) -> None:
        """Make this GPU the thread's current one."""
        if getattr(_current, "context", None) is not self:
            self._driver("cuCtxSetCurrent", self._handle)
            _current.context = self

    def create(self, name: str, *args: object) -> c_void_p:
        """Call a function of the driver; returns what it stores through its first argument."""
        value = c_void_p()
        self.call(name, byref(value), *args)
        return value

    def synchronize(self) -> None:
        """Wait until the work of all threads is done. Raises CudaError if some has failed."""
        self.streams.synchronize()
        self._check_watches()

    def watch(self) -> Watch:
        """A word for indices out of range, checked whenever the host waits for the GPU."""
        watch = Watch(self)
        self._watches.add(watch)
        return watch

    def _check_watches(self, waited_for: Stream | None = None) -> None:
        """Check all watches after the work of a stream, or of all streams, is done."""
        for watch in tuple(self._watches):
            if waited_for in (None, self.awaited.get(watch)):
                self.awaited.pop(watch, None)
            watch.check()

    # ---- data -------------------------------------------------------------------------------

    def upload(self, array: np.ndarray, address: int, non_blocking: bool = False) -> None:
        """Copy a contiguous array to the GPU without blocking; the array may be changed at once.

        With `non_blocking` an array in pinned memory must not change before the copy is done.
        """
        block = self.pinned.block_of(array) if non_blocking else None
        if block is not None:
            self._copy_pinned(block, address, array.nbytes)
            return
        data = array.reshape(-1).view(np.uint8)
        for start in range(0, array.nbytes, CHUNK):
            part = data[start : start + CHUNK]
            block = self.pinned.allocate(part.nbytes)
            ctypes.memmove(block.address, part.ctypes.data, part.nbytes)
            self.upload_block(block, address + start, part.nbytes)

    def upload_block(self, block: Block, address: int, nbytes: int) -> None:
        """Copy the first bytes of a block of pinned memory to the GPU, then free the block."""
        try:
            self._copy_pinned(block, address, nbytes)
        finally:
            self.pinned.free(block)

    def _copy_pinned(self, block: Block, address: int, nbytes: int) -> None:
        here = self.streams.current
        self.call("cuMemcpyHtoDAsync_v2", address, block.address, nbytes, here.handle)
        here.issued += 1
        block.uses[here] = here.issued

    def download(self, address: int, array: np.ndarray) -> None:
        """Copy from the GPU into a contiguous array, after this thread's earlier work."""
        here = self.streams.current
        if array.nbytes:
            self.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, here.handle)
            here.issued += 1
        self.call("cuStreamSynchronize", here.handle)
        self._check_watches(here)

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy bytes on the GPU."""
        here = self.streams.current
        if nbytes and source != target and not here.rehearsing:
            self.call("cuMemcpyDtoDAsync_v2", target, source, nbytes, here.handle)
            here.issued += 1

    # ---- graphs -----------------------------------------------------------------------------

    def capture(self, work: Callable[[], None]) -> CapturedGraph:
        """Capture the launches of `work` as a graph.

        `work` must not wait for the GPU. It is called twice. The first call compiles its kernels
        and determines the memory that it needs, which then belongs to the graph.
        """
        here = self.streams.current
        with self.lock:
            here.rehearsing = True
            try:
                with self.memory.keeping() as blocks, self._own_workspace():
                    work()
            finally:
                here.rehearsing = False
            for block in blocks:
                self.memory.free(block)
            with self.memory.keeping() as blocks, self._own_workspace():
                executable = self._captured(work)
            return CapturedGraph(self, executable, blocks)

    @contextmanager
    def _own_workspace(self) -> Iterator[None]:
        """A context in which this thread's stream has a new workspace, freed at the end."""
        here = self.streams.current
        before, here.workspace = here.workspace, None
        try:
            yield
        finally:
            if here.workspace is not None:
                self.memory.free(here.workspace)
            here.workspace = before

    def _captured(self, work: Callable[[], None]) -> c_void_p:
        here = self.streams.current
        self.call("cuStreamBeginCapture_v2", here.handle, CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        here.capturing = True
        try:
            try:
                work()
            finally:
                here.capturing = False
                self.call("cuStreamEndCapture", here.handle, byref(graph))
            return self.create("cuGraphInstantiateWithFlags", graph, c_uint64(0))
        finally:
            if graph:
                self.call("cuGraphDestroy", graph)

    # ---- kernels ----------------------------------------------------------------------------

    def kernel(self, source: str) -> c_void_p:
        """The function `kernel` of a source, which is compiled and loaded once."""
        function = self._kernels.get(source)
        if function is None:
            with self._compiling:
                module = self._load(source)
                function = self._kernels[source] = self.create(
                    "cuModuleGetFunction", module, b"kernel"
                )
        return function

    def _load(self, source: str) -> c_void_p:
        try:
            return self.create(
                "cuModuleLoadData", compiler.cached_kernel(source, self.architecture)
            )
        except CudaError:  # the cached kernel may be for an earlier driver
            compiler.forget_kernel(source, self.architecture)
        return self.create("cuModuleLoadData", compiler.cached_kernel(source, self.architecture))

    def launch(
        self, what: str, source: str, blocks: int, threads: int, parameters: Sequence[Parameter]
    ) -> None:
        """Launch a kernel. `what`, the op and the shapes, names it in error messages."""
        words: list[int | float] = []
        starts = []
        for parameter in parameters:
            starts.append(8 * len(words))
            words += parameter if isinstance(parameter, tuple) else (parameter,)
        kinds = "".join("q" if isinstance(word, int) else "d" for word in words)
        memory = ctypes.create_string_buffer(struct.pack(kinds, *words), 8 * len(words))
        base = ctypes.addressof(memory)
        addresses = (c_void_p * len(starts))(*(base + start for start in starts))
        function, here = self.kernel(source), self.streams.current
        if here.rehearsing:
            return
        try:
            self.call(
                "cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, here.handle, addresses,
                None,
            )  # fmt: skip
            here.issued += 1
        except CudaError as error:
            error.args = (f"{error.args[0]} in {what}",)
            raise
