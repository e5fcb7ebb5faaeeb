"""The emulated CUDA driver and NVRTC, called through ctypes with small kernels."""

import ctypes
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda.emulator import build

_COMPILER = shlex.split(os.environ.get("CXX") or "c++")[0]
pytestmark = pytest.mark.skipif(shutil.which(_COMPILER) is None, reason="needs a C++ compiler")

INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED = 1, 2, 3
INVALID_DEVICE, INVALID_CONTEXT, INVALID_HANDLE, NOT_FOUND = 101, 201, 400, 500
NOT_READY, ILLEGAL_ADDRESS, LAUNCH_FAILED, CAPTURE_UNSUPPORTED = 600, 700, 719, 900
NVRTC_INVALID_OPTION, NVRTC_COMPILATION = 5, 6
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

ORDERS = ["forward", "reverse", "1", "2"]


class Nvrtc:
    """NVRTC, as far as the tests need it."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))

    def compile(
        self, source: str, *options: str, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """The code of nvrtcCompileProgram, the log and the binary."""
        program = ctypes.c_void_p()
        names = [name.encode() for name in headers or {}]
        texts = [text.encode() for text in (headers or {}).values()]
        strings = ctypes.c_char_p * len(names)
        created = self.library.nvrtcCreateProgram(
            ctypes.byref(program),
            source.encode(),
            b"test.cu",
            len(names),
            strings(*texts),
            strings(*names),
        )
        assert created == 0
        options = ("--gpu-architecture=sm_90", *options)
        arguments = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        code = self.library.nvrtcCompileProgram(program, len(options), arguments)
        log = self._text("nvrtcGetProgramLog", program)
        binary = self._text("nvrtcGetCUBIN", program)
        assert self.library.nvrtcDestroyProgram(ctypes.byref(program)) == 0
        return code, log.decode(), binary

    def _text(self, function: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        assert getattr(self.library, f"{function}Size")(program, ctypes.byref(size)) == 0
        if size.value == 0:
            return b""
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(self.library, function)(program, buffer) == 0
        return buffer.value


class Gpu:
    """The driver with a current context and a stream; `call` checks that it returns 0."""

    def __init__(self, library: ctypes.CDLL, nvrtc: Nvrtc) -> None:
        self.library, self.nvrtc = library, nvrtc
        context, self.stream = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)
        self.call("cuStreamCreate", ctypes.byref(self.stream), 1)

    def code(self, function: str, *arguments: Any) -> int:
        return getattr(self.library, function)(*arguments)

    def call(self, function: str, *arguments: Any) -> None:
        assert self.code(function, *arguments) == 0, function

    def allocate(self, nbytes: int) -> ctypes.c_uint64:
        pointer = ctypes.c_uint64()
        self.call("cuMemAllocAsync", ctypes.byref(pointer), ctypes.c_size_t(nbytes), self.stream)
        return pointer

    def free(self, pointer: ctypes.c_uint64) -> int:
        return self.code("cuMemFreeAsync", pointer, self.stream)

    def put(self, array: np.ndarray, pointer: ctypes.c_uint64 | None = None) -> ctypes.c_uint64:
        pointer = pointer or self.allocate(array.nbytes)
        nbytes = ctypes.c_size_t(array.nbytes)
        data = array.ctypes.data_as(ctypes.c_void_p)
        self.call("cuMemcpyHtoDAsync_v2", pointer, data, nbytes, self.stream)
        return pointer

    def get(self, pointer: ctypes.c_uint64, like: np.ndarray) -> np.ndarray:
        result = np.empty_like(like)
        data = result.ctypes.data_as(ctypes.c_void_p)
        nbytes = ctypes.c_size_t(result.nbytes)
        self.call("cuMemcpyDtoHAsync_v2", data, pointer, nbytes, self.stream)
        return result

    def synchronize(self) -> int:
        return self.code("cuStreamSynchronize", self.stream)

    def kernel(self, source: str, name: str) -> ctypes.c_void_p:
        code, log, binary = self.nvrtc.compile(source)
        assert code == 0, log
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), binary)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        *values: Any,
        shared: int = 0,
    ) -> int:
        parameters = (ctypes.c_void_p * len(values))(
            *[ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in values]
        )
        sizes = [*grid, 1, 1][:3] + [*block, 1, 1][:3]
        arguments = [*sizes, shared, self.stream, parameters, None]
        return self.code("cuLaunchKernel", function, *arguments)

    def calls(self) -> list[str]:
        return self.library.emulator_calls().decode().splitlines()


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(scope="session")
def nvrtc(libraries: Path) -> Nvrtc:
    return Nvrtc(libraries / "libnvrtc.so")


@pytest.fixture
def library(libraries: Path) -> Iterator[ctypes.CDLL]:
    driver = ctypes.CDLL(str(libraries / "libcuda.so.1"))
    driver.emulator_calls.restype = ctypes.c_char_p
    driver.emulator_bytes_in_use.restype = ctypes.c_longlong
    driver.emulator_reset()
    yield driver
    driver.emulator_reset()


@pytest.fixture
def gpu(library: ctypes.CDLL, nvrtc: Nvrtc) -> Gpu:
    return Gpu(library, nvrtc)


ADD = r"""
extern "C" __global__ void __launch_bounds__(256)
add(float* __restrict__ out, const float* a, const float* b, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = a[i] + b[i];
}
"""


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1001])
def test_vector_add(gpu: Gpu, n: int) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n)).astype(np.float32)
    out = gpu.allocate(a.nbytes)
    add = gpu.kernel(ADD, "add")
    blocks = (n + 255) // 256
    assert gpu.launch(add, (blocks,), (256,), out, gpu.put(a), gpu.put(b), ctypes.c_int(n)) == 0
    np.testing.assert_array_equal(gpu.get(out, a), a + b)
    assert gpu.synchronize() == 0


BLOCK_SUM = r"""
extern "C" __global__ void sum(float* out, const float* in, int n) {
  DYNAMIC_SHARED(float, partial);
  const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  partial[t] = i < n ? in[i] : 0.0f;
  __syncthreads();
  for (int step = blockDim.x / 2; step > 0; step /= 2) {
    if (t < step) partial[t] += partial[t + step];
    BARRIER
  }
  if (t == 0) atomicAdd(out, partial[0]);
}
"""


def _block_sum(gpu: Gpu, source: str) -> np.ndarray:
    values = np.arange(1000, dtype=np.float32)
    total = gpu.put(np.zeros(1, np.float32))
    kernel = gpu.kernel(source, "sum")
    size = ctypes.c_int(values.size)
    assert gpu.launch(kernel, (4,), (256,), total, gpu.put(values), size, shared=1024) == 0
    return gpu.get(total, np.zeros(1, np.float32))


@pytest.mark.parametrize("order", ORDERS)
def test_block_reduction(gpu: Gpu, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
    assert _block_sum(gpu, BLOCK_SUM.replace("BARRIER", "__syncthreads();")) == 499500


def test_missing_barrier_depends_on_the_order(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for order in ORDERS:
        monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
        results.append(float(_block_sum(gpu, BLOCK_SUM.replace("BARRIER", ""))[0]))
    assert len(set(results)) > 1, results


WARPS = r"""
template <class T>
__device__ T warp_sum(T x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(0xffffffffu, x, step);
  return __shfl_sync(0xffffffffu, x, 0);
}
extern "C" __global__ void warps(float* floats, double* doubles, int* ints, unsigned* votes) {
  const int t = threadIdx.x, lane = t % warpSize;
  floats[t] = warp_sum(float(t));
  doubles[t] = warp_sum(double(t));
  int other = __shfl_xor_sync(0xffffffffu, t, 1);
  ints[t] = __shfl_up_sync(0xffffffffu, other, 1, 16);
  unsigned vote = __ballot_sync(0xffffffffu, lane % 3 == 0);
  if (lane < 16) {  // half a warp
    vote += __any_sync(0xffffu, lane == 15) + __all_sync(0xffffu, lane < 16);
    vote += __all_sync(0xffffu, lane < 15);
  }
  __syncwarp();
  votes[t] = vote;
}
"""


@pytest.mark.parametrize("order", ORDERS)
def test_warp_shuffles_and_votes(gpu: Gpu, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
    t = np.arange(96)
    floats, doubles = t.astype(np.float32), t.astype(np.float64)
    ints, votes = t.astype(np.int32), t.astype(np.uint32)
    pointers = [gpu.put(array) for array in (floats, doubles, ints, votes)]
    assert gpu.launch(gpu.kernel(WARPS, "warps"), (1,), (96,), *pointers) == 0
    sums = np.repeat(t.reshape(3, 32).sum(axis=1), 32)
    np.testing.assert_array_equal(gpu.get(pointers[0], floats), sums)
    np.testing.assert_array_equal(gpu.get(pointers[1], doubles), sums)
    flipped = t ^ 1
    up = np.where(t % 16 == 0, flipped, np.roll(flipped, 1))
    np.testing.assert_array_equal(gpu.get(pointers[2], ints), up)
    ballot = sum(1 << lane for lane in range(0, 32, 3))
    expected = np.where(t % 32 < 16, ballot + 2, ballot)
    np.testing.assert_array_equal(gpu.get(pointers[3], votes), expected)


HISTOGRAM = r"""
__constant__ int scale = 1;
extern "C" __global__ void histogram(unsigned* bins, int* largest, const int* values, int n) {
  __shared__ unsigned local[16];
  if (threadIdx.x < 16) local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&local[values[i] * scale], 1u);
    atomicMax(largest, values[i]);
  }
  if (__syncthreads_or(threadIdx.x == 3) && threadIdx.x < 16) {
    atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
  }
}
"""


@pytest.mark.parametrize("order", ORDERS)
def test_histogram(gpu: Gpu, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
    values = np.random.default_rng(0).integers(0, 16, 999).astype(np.int32)
    bins, largest = np.zeros(16, np.uint32), np.full(1, -1, np.int32)
    pointers = [gpu.put(bins), gpu.put(largest), gpu.put(values), ctypes.c_int(values.size)]
    assert gpu.launch(gpu.kernel(HISTOGRAM, "histogram"), (3,), (64,), *pointers) == 0
    np.testing.assert_array_equal(gpu.get(pointers[0], bins), np.bincount(values, minlength=16))
    assert gpu.get(pointers[1], largest) == values.max()


TRANSPOSE = r"""
template <class T, int N>
__device__ void transpose_tile(T* out, const T* in, int rows, int columns) {
  __shared__ T tile[N][N + 1];
  int row = blockIdx.y * N + threadIdx.y, column = blockIdx.x * N + threadIdx.x;
  if (row < rows && column < columns) {
    tile[threadIdx.y][threadIdx.x] = in[row * columns + column];
  }
  __syncthreads();
  row = blockIdx.x * N + threadIdx.y, column = blockIdx.y * N + threadIdx.x;
  if (row < columns && column < rows) out[row * rows + column] = tile[threadIdx.x][threadIdx.y];
}
struct Shape { int rows, columns; };
extern "C" __global__ void transpose(float* out, const float* in, Shape shape) {
  transpose_tile<float, 16>(out, in, shape.rows, shape.columns);
}
extern "C" __global__ void transpose_double(double* out, const double* in, Shape shape) {
  transpose_tile<double, 16>(out, in, shape.rows, shape.columns);
}
"""


@pytest.mark.parametrize("order", ORDERS)
def test_transpose(gpu: Gpu, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_ORDER", order)
    matrix = np.arange(33 * 50, dtype=np.float32).reshape(33, 50)
    shape = (ctypes.c_int * 2)(*matrix.shape)
    out = gpu.allocate(matrix.nbytes)
    transpose = gpu.kernel(TRANSPOSE, "transpose")
    assert gpu.launch(transpose, (4, 3), (16, 16), out, gpu.put(matrix), shape) == 0
    np.testing.assert_array_equal(gpu.get(out, np.empty((50, 33), np.float32)), matrix.T)


MATH = {
    "expf(x)": np.exp,
    "exp(double(x))": np.exp,
    "log1pf(x)": np.log1p,
    "tanh(x)": np.tanh,
    "rsqrtf(x)": lambda x: 1 / np.sqrt(x),
    "fmaf(x, x, 1.0f)": lambda x: x * x + 1,
    "powf(x, 2.5f)": lambda x: x**2.5,
    "fmaxf(x, 0.5f) + max(1, 2)": lambda x: np.maximum(x, 0.5) + 2,
    "rintf(4.0f * x)": lambda x: np.rint(4 * x),
    "__fdividef(__expf(x), __logf(x + 2.0f))": lambda x: np.exp(x) / np.log(x + 2),
    "__int_as_float(__float_as_int(x) ^ 0x80000000)": lambda x: -x,
    "isnan(x) + isinf(1.0f / 0.0f) + isfinite(x)": lambda x: np.full_like(x, 2),
    "__popc(7) + __clz(1) + __ffs(8) + (__brev(1u) >> 31)": lambda x: np.full_like(x, 39),
    "float(__umulhi(0x80000000u, 6u)) + __umul64hi(1ull << 63, 2)": lambda x: np.full_like(x, 4),
    "reinterpret_cast<const float4*>(in)[i / 4].y": lambda x: np.repeat(x[1::4], 4),
    "make_int2(3, 4).y + sizeof(float3) + alignof(uint4)": lambda x: np.full_like(x, 32),
}


def test_built_in_functions(gpu: Gpu) -> None:
    x = np.linspace(0.1, 3, 16, dtype=np.float32)
    lines = [f"out[{k} * 16 + i] = {expression};" for k, expression in enumerate(MATH)]
    source = (
        'extern "C" __global__ void functions(double* out, const float* in) {\n'
        "const int i = threadIdx.x; const float x = in[i];\n" + "\n".join(lines) + "\n}"
    )
    out, expected = gpu.allocate(len(MATH) * x.size * 8), np.empty((len(MATH), 16))
    assert gpu.launch(gpu.kernel(source, "functions"), (1,), (16,), out, gpu.put(x)) == 0
    rows = zip(MATH.items(), gpu.get(out, expected), strict=True)
    for (expression, function), row in rows:
        # The functions in float32 are right to a few units in the last place.
        np.testing.assert_allclose(row, function(x), rtol=1e-6, err_msg=expression)


def test_memory_and_shared_memory_begin_as_nan(gpu: Gpu) -> None:
    source = r"""
    extern "C" __global__ void fresh(float* out) {
      __shared__ float fixed[4];
      DYNAMIC_SHARED(float, dynamic);
      if (threadIdx.x == 1000) fixed[threadIdx.x - 1000] = dynamic[0] = 0.0f;
      out[blockIdx.x * 2] = fixed[threadIdx.x];
      out[blockIdx.x * 2 + 1] = dynamic[threadIdx.x];
      fixed[threadIdx.x] = dynamic[threadIdx.x] = 1.0f;
    }"""
    out = gpu.allocate(16)
    assert np.isnan(gpu.get(out, np.empty(4, np.float32))).all()
    assert gpu.launch(gpu.kernel(source, "fresh"), (2,), (1,), out, shared=16) == 0
    assert np.isnan(gpu.get(out, np.empty(4, np.float32))).all()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("if (threadIdx.x != 5) __syncthreads();", "thread (5,0,0) does not reach: it has ended"),
        ("if (threadIdx.x < 5) __syncthreads();\n else __syncthreads();", "while thread (0,0,0)"),
        ("if (threadIdx.x) __syncwarp(); else __syncthreads();", "does not reach: it waits at"),
        ("if (threadIdx.x == 7) return; __syncwarp();", "thread (7,0,0) does not reach"),
        ("__syncwarp(2);", "with a mask without its own lane"),
    ],
)
def test_barrier_that_not_all_reach(
    gpu: Gpu, body: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stuck = gpu.kernel(f'extern "C" __global__ void stuck() {{\n {body}\n}}', "stuck")
    assert gpu.launch(stuck, (2,), (64,)) == LAUNCH_FAILED
    message = capfd.readouterr().err
    assert "CUDA_ERROR_LAUNCH_FAILED: kernel stuck, block (0,0,0): thread (" in message
    assert reason in message
    assert gpu.synchronize() == LAUNCH_FAILED, "the context is lost"
    assert gpu.launch(stuck, (1,), (1,)) == LAUNCH_FAILED


def test_out_of_memory(library: ctypes.CDLL, nvrtc: Nvrtc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_MEMORY", str(1 << 20))
    gpu = Gpu(library, nvrtc)
    first = gpu.allocate(700_000)
    second = ctypes.c_uint64()
    arguments = ("cuMemAllocAsync", ctypes.byref(second), ctypes.c_size_t(400_000), gpu.stream)
    assert gpu.code(*arguments) == OUT_OF_MEMORY
    assert library.emulator_bytes_in_use() == 700_000
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    gpu.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    assert (free.value, total.value) == ((1 << 20) - 700_000, 1 << 20)
    assert gpu.free(first) == 0
    assert gpu.free(first) == INVALID_VALUE
    assert gpu.code(*arguments) == 0
    assert library.emulator_bytes_in_use() == 400_000


WRITE = r"""
extern "C" __global__ void write(unsigned char* data, int offset) { data[offset] = 1; }
"""


@pytest.mark.parametrize("offset", [-1, -512, 100, 101, 1000])
@pytest.mark.parametrize("found_by", ["free", "synchronize"])
def test_write_out_of_bounds(
    gpu: Gpu, offset: int, found_by: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, data, after = (gpu.allocate(100) for _ in range(3))
    write = gpu.kernel(WRITE, "write")
    assert gpu.launch(write, (1,), (1,), data, ctypes.c_int(99)) == 0
    assert gpu.synchronize() == 0
    assert gpu.launch(write, (1,), (1,), data, ctypes.c_int(offset)) == 0
    assert (gpu.free(data) if found_by == "free" else gpu.synchronize()) == ILLEGAL_ADDRESS
    distance = f"{-offset} bytes before" if offset < 0 else f"{offset - 100} bytes beyond"
    message = capfd.readouterr().err
    assert f"written {distance} the" in message
    assert "the last kernel was write" in message
    assert gpu.free(after) == gpu.free(before) == ILLEGAL_ADDRESS, "the context is lost"


def test_dynamic_shared_memory_limits(gpu: Gpu, capfd: pytest.CaptureFixture[str]) -> None:
    source = r"""
    extern "C" __global__ void touch(int last) {
      DYNAMIC_SHARED(char, data);
      data[last] = 1;
    }"""
    touch, kib = gpu.kernel(source, "touch"), 1024
    assert gpu.launch(touch, (1,), (1,), ctypes.c_int(0), shared=49 * kib) == INVALID_VALUE
    too_much, all_of_it = 228 * kib, 227 * kib
    assert gpu.code("cuFuncSetAttribute", touch, MAX_DYNAMIC_SHARED, too_much) == INVALID_VALUE
    gpu.call("cuFuncSetAttribute", touch, MAX_DYNAMIC_SHARED, all_of_it)
    assert gpu.launch(touch, (1,), (1,), ctypes.c_int(all_of_it - 1), shared=all_of_it) == 0
    code = gpu.launch(touch, (1,), (1,), ctypes.c_int(kib), shared=kib)
    assert code == ILLEGAL_ADDRESS
    assert "beyond its dynamic shared memory of 1024" in capfd.readouterr().err


def test_injected_failure_and_log(gpu: Gpu) -> None:
    gpu.library.emulator_clear_calls()
    gpu.library.emulator_fail(b"cuMemAllocAsync", 1, OUT_OF_MEMORY)
    first, second = ctypes.c_uint64(), ctypes.c_uint64()

    def allocate(pointer: ctypes.c_uint64) -> int:
        nbytes = ctypes.c_size_t(8)
        return gpu.code("cuMemAllocAsync", ctypes.byref(pointer), nbytes, gpu.stream)

    assert [allocate(first), allocate(second), allocate(second)] == [0, OUT_OF_MEMORY, 0]
    assert gpu.calls() == [
        "cuMemAllocAsync 8",
        "cuMemAllocAsync -> CUDA_ERROR_OUT_OF_MEMORY",
        "cuMemAllocAsync 8",
    ]


def test_graph_reads_its_inputs_again(gpu: Gpu) -> None:
    a, b = np.arange(10, dtype=np.float32), np.ones(10, np.float32)
    add = gpu.kernel(ADD, "add")
    device_a, device_b, out, copied = gpu.put(a), gpu.put(b), gpu.put(b), gpu.put(b)
    size, nbytes = ctypes.c_int(10), ctypes.c_size_t(a.nbytes)
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()

    gpu.call("cuStreamBeginCapture_v2", gpu.stream, 2)
    assert gpu.launch(add, (1,), (32,), out, device_a, device_b, size) == 0
    gpu.call("cuMemcpyDtoDAsync_v2", copied, out, nbytes, gpu.stream)
    gpu.call("cuMemsetD8Async", out, 0, nbytes, gpu.stream)
    size.value = 0  # the graph has its own copy
    gpu.call("cuStreamEndCapture", gpu.stream, ctypes.byref(graph))
    np.testing.assert_array_equal(gpu.get(out, b), b, err_msg="nothing was done yet")

    gpu.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_uint64(0))
    gpu.call("cuGraphDestroy", graph)
    for factor in (1, 5):
        gpu.put(a * factor, device_a)
        gpu.call("cuGraphLaunch", executable, gpu.stream)
        np.testing.assert_array_equal(gpu.get(copied, b), a * factor + b)
        np.testing.assert_array_equal(gpu.get(out, b), 0)
    gpu.call("cuGraphExecDestroy", executable)
    assert gpu.code("cuGraphLaunch", executable, gpu.stream) == INVALID_VALUE


def test_waiting_for_a_captured_stream_spoils_the_capture(gpu: Gpu) -> None:
    graph = ctypes.c_void_p()
    gpu.call("cuStreamBeginCapture_v2", gpu.stream, 2)
    assert gpu.synchronize() == CAPTURE_UNSUPPORTED
    assert gpu.code("cuStreamEndCapture", gpu.stream, ctypes.byref(graph)) == 901
    assert gpu.synchronize() == 0


def test_events(gpu: Gpu) -> None:
    start, end = ctypes.c_void_p(), ctypes.c_void_p()
    elapsed = ctypes.c_float(-1)
    for event in (start, end):
        gpu.call("cuEventCreate", ctypes.byref(event), 0)
    timing = ("cuEventElapsedTime", ctypes.byref(elapsed), start, end)
    assert gpu.code(*timing) == INVALID_HANDLE
    for event in (start, end):
        gpu.call("cuEventRecord", event, gpu.stream)
    gpu.call("cuEventSynchronize", end)
    gpu.call(*timing)
    assert 0 <= elapsed.value < 1000
    gpu.call("cuStreamWaitEvent", None, end, 0)
    gpu.call("cuEventDestroy_v2", end)
    assert gpu.code("cuEventRecord", end, gpu.stream) == INVALID_HANDLE


def test_delayed_work_is_done_when_it_is_waited_for(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_DELAY", "1")
    source, target = np.arange(4.0), np.zeros(4)
    nbytes, event, other = ctypes.c_size_t(32), ctypes.c_void_p(), ctypes.c_void_p()
    gpu.call("cuStreamCreate", ctypes.byref(other), 1)
    gpu.call("cuEventCreate", ctypes.byref(event), 0)
    pointer = gpu.put(source)
    gpu.call("cuEventRecord", event, gpu.stream)
    assert gpu.code("cuEventQuery", event) == NOT_READY
    source += 1  # too early: the copy has not happened

    def read() -> np.ndarray:
        data = target.ctypes.data_as(ctypes.c_void_p)
        gpu.call("cuMemcpyDtoHAsync_v2", data, pointer, nbytes, other)
        gpu.call("cuStreamSynchronize", other)
        return target

    assert np.isnan(read()).all(), "the other stream has not waited"
    gpu.call("cuStreamWaitEvent", other, event, 0)
    np.testing.assert_array_equal(read(), source)
    assert gpu.code("cuEventQuery", event) == 0


def test_before_init_and_without_context(library: ctypes.CDLL) -> None:
    count, context = ctypes.c_int(), ctypes.c_void_p()
    assert library.cuDeviceGetCount(ctypes.byref(count)) == NOT_INITIALIZED
    assert library.cuCtxSynchronize() == NOT_INITIALIZED
    assert library.cuInit(0) == 0
    assert library.cuCtxSynchronize() == INVALID_CONTEXT
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 1) == INVALID_DEVICE
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert library.cuCtxSetCurrent(context) == 0
    assert library.cuCtxSynchronize() == 0
    assert library.cuDevicePrimaryCtxRelease_v2(0) == 0
    assert library.cuCtxSynchronize() == 709, "the context is destroyed"


def test_device(library: ctypes.CDLL, nvrtc: Nvrtc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_EMULATOR_CAPABILITY", "7.5")
    monkeypatch.setenv("NEEDLE_EMULATOR_DEVICES", "2")
    gpu = Gpu(library, nvrtc)
    value, name = ctypes.c_int(), ctypes.create_string_buffer(64)
    gpu.call("cuDeviceGetCount", ctypes.byref(value))
    assert value.value == 2
    gpu.call("cuDeviceGetName", name, 64, 1)
    assert name.value == b"needle emulator"
    for attribute, expected in {1: 1024, 10: 32, 16: 2, 75: 7, 76: 5, 97: 64 << 10}.items():
        gpu.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, 1)
        assert value.value == expected, attribute
    text = ctypes.c_char_p()
    gpu.call("cuGetErrorName", OUT_OF_MEMORY, ctypes.byref(text))
    assert text.value == b"CUDA_ERROR_OUT_OF_MEMORY"


def test_launches_that_do_not_fit(gpu: Gpu) -> None:
    write = gpu.kernel(WRITE, "write")
    values = (gpu.allocate(1), ctypes.c_int(0))
    assert gpu.launch(write, (1,), (1025,), *values) == INVALID_VALUE
    assert gpu.launch(write, (0,), (1,), *values) == INVALID_VALUE
    assert gpu.launch(write, (1, 65536), (1,), *values) == INVALID_VALUE
    assert gpu.launch(ctypes.c_void_p(8), (1,), (1,), *values) == INVALID_HANDLE


def test_compile_error(nvrtc: Nvrtc) -> None:
    code, log, binary = nvrtc.compile('extern "C" __global__ void k() {\n  undeclared();\n}')
    assert code == NVRTC_COMPILATION
    assert "test.cu:2" in log
    assert "undeclared" in log
    assert binary == b""


def test_compile_options_and_headers(gpu: Gpu, tmp_path: Path) -> None:
    (tmp_path / "included.h").write_text("#pragma once\nconstexpr int kIncluded = 20;\n")
    source = r"""
    #include "given.h"
    #include <included.h>
    #define KERNEL(name) extern "C" __global__ void name(int* out)
    KERNEL(from_macro) { *out = kGiven + kIncluded + DEFINED; }
    extern "C" __device__ int helper(int x) { return x; }
    """
    code, log, binary = gpu.nvrtc.compile(
        source,
        "-DDEFINED=300",
        "-I",
        str(tmp_path),
        "--use_fast_math",
        headers={"given.h": "constexpr int kGiven = 1;"},
    )
    assert code == 0, log
    module, function, out = ctypes.c_void_p(), ctypes.c_void_p(), gpu.allocate(4)
    gpu.call("cuModuleLoadData", ctypes.byref(module), binary)
    gpu.call("cuModuleGetFunction", ctypes.byref(function), module, b"from_macro")
    assert gpu.launch(function, (1,), (1,), out) == 0
    assert gpu.get(out, np.zeros(1, np.int32)) == 321
    lookup = gpu.code("cuModuleGetFunction", ctypes.byref(function), module, b"absent")
    assert lookup == NOT_FOUND
    gpu.call("cuModuleUnload", module)


def test_architectures(nvrtc: Nvrtc) -> None:
    code, log, _ = nvrtc.compile(ADD, "--gpu-architecture=sm_13")
    assert code == NVRTC_INVALID_OPTION
    assert "sm_13" in log
    code, _, binary = nvrtc.compile(ADD, "-arch=compute_90")
    assert (code, binary) == (0, b""), "only a real architecture has a binary"
