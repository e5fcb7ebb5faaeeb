"""Every kernel compiles with NVRTC for the GPUs of today, without one, and spills no register."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest

from needle.backend_ndarray.device_cuda import CudaDevice, compiler
from needle.backend_ndarray.device_cuda.memory import Block
from needle.backend_ndarray.device_cuda.streams import Uses
from needle.backend_ndarray.device_numpy import BINARY, UNARY
from needle.backend_ndarray.dtypes import (
    BFLOAT16,
    BOOL,
    DTYPES,
    FLOAT32,
    INT64,
    is_float,
    is_stored,
    widened,
)

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")
PREDICATES = ("isnan", "isfinite", "logical_not")


class Recorder:
    """Stands for a GPU: keeps the sources of the kernels it is given, and runs nothing."""

    multiprocessors = 132
    capability = 9, 0

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}  # what each is for, by source

    def launch(self, what: str, source: str, blocks: int, threads: int, parameters: Any) -> None:
        assert 0 < blocks < 2**31
        assert 0 < threads <= 1024
        self.sources.setdefault(source, what)

    def upload(self, array: np.ndarray, address: int, non_blocking: bool = False) -> None:
        pass

    def download(self, address: int, array: np.ndarray) -> None:
        array.fill(2**64 - 1)  # no index is out of range

    @property
    def memory(self) -> Recorder:
        return self

    def allocate(self, nbytes: int) -> Block:
        return Block(1 << 20, nbytes)

    def free(self, block: Block) -> None:
        pass

    @property
    def streams(self) -> Recorder:
        return self

    @property
    def current(self) -> Recorder:
        return self

    watch: int | None = None

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def use(self, uses: Uses) -> None:
        pass


def recorded(work: Callable[[CudaDevice], None]) -> dict[str, str]:
    """The kernels that `work` launches, on a GPU with tensor cores and on one without."""
    device, recorder = CudaDevice(), Recorder()
    device._context = recorder  # type: ignore[assignment]
    for recorder.capability in ((9, 0), (7, 5)):
        work(device)
    device._context = None
    return recorder.sources


def everything(device: CudaDevice, dtype: np.dtype) -> None:
    """Every primitive and fused function that takes arrays of the dtype."""
    _moves(device, dtype)
    products(device, dtype)
    _convolutions(device, dtype)
    if not is_stored(dtype):
        _primitives(device, dtype)
        if is_float(dtype):
            _fused(device, dtype)


def products(device: CudaDevice, dtype: np.dtype) -> None:
    """Matrix products in all layouts, and attention where the device has it for the dtype."""
    x = device.empty((8, 6, 4), dtype)
    turned = device.empty((8, 4, 6), dtype).permute((0, 2, 1))
    for device.allow_tf32 in (False, True):
        for a, b in ((x, x), (x, turned), (turned, x), (turned, turned)):
            device.matmul(a, b.permute((0, 2, 1)), device.empty((8, 6, 6), dtype))
    if not _is_taken(device, dtype, "attention"):
        return
    lse, scores = (device.empty((2, 2, 70, *rest), widened(dtype)) for rest in ((2,), (70,)))
    sizes = (16, 32, 64, 128)
    for features, mask in (*((size, None) for size in sizes), (64, scores), (128, scores)):
        q = device.empty((2, 2, 70, features), dtype)
        _call(device, "attention", q, q, q, mask, q, lse, 0.1, True)
        _call(device, "attention_grad", q, q, q, q, mask, q, lse, q, q, q, 0.1, True)


def _call(device: CudaDevice, name: str, *operands: Any) -> None:
    kernel = device.fused(name)
    assert kernel is not None
    kernel(*operands)


def _moves(device: CudaDevice, dtype: np.dtype) -> None:
    x, index = device.empty((8, 6, 4), dtype), device.empty((5,), INT64)
    device.fill(x, 3)
    device.where(device.empty(x.shape, BOOL), x, x, x)
    for other in DTYPES:
        device.copy(x, device.empty(x.shape, other))
        device.copy(x.permute((2, 0, 1)), device.empty((4, 8, 6), other))
        device.copy(device.empty((64, 48), dtype).permute((1, 0)), device.empty((48, 64), other))
    device.gather_rows(x.reshape((8, 24)), index, device.empty((5, 24), dtype))


# The functions of csrc/common/library.h.
LIBRARY = frozenset(
    (
        "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "exp2",
        "log2", "log10",
    )
)  # fmt: skip


def _primitives(device: CudaDevice, dtype: np.dtype) -> None:
    x, index = device.empty((8, 6, 4), dtype), device.empty((5,), INT64)
    turned, flags = x.permute((2, 0, 1)), device.empty((8, 6, 4), BOOL)
    for op in UNARY:
        if op in LIBRARY and not is_float(dtype):  # arrays are converted to floats before
            continue
        device.unary(op, x, flags if op in PREDICATES else device.empty(x.shape, dtype))
    for op in BINARY:
        if is_float(dtype) and op in BITS:
            continue
        device.binary(op, x, x, device.empty(x.shape, dtype))
    for op in COMPARISONS:
        device.binary(op, turned, turned, device.empty(turned.shape, BOOL))
    device.binary_scalar("mul", x, 2.5, x)
    for op in ("sum", "prod", "max", "min"):
        out = INT64 if op in ("sum", "prod") and not is_float(dtype) else dtype
        device.reduce(op, x, (0, 1, 2), device.empty((1, 1, 1), out))
        device.reduce(op, device.empty((4096, 64), dtype), (0,), device.empty((1, 64), out))
    for op in ("argmax", "argmin"):
        device.argreduce(op, x, 1, device.empty((8, 1, 4), INT64))
    if is_float(dtype) or dtype is INT64:
        device.cumsum(x, 1, device.empty(x.shape, dtype))
    for descending in (False, True):
        device.argsort(x, 2, descending, device.empty(x.shape, INT64))
    device.scatter_add_rows(x.reshape((8, 24)), index, device.empty((5, 24), dtype))


def _is_taken(device: CudaDevice, dtype: np.dtype, kernel: str) -> bool:
    return is_float(dtype) and (not is_stored(dtype) or device.takes_stored(kernel, dtype))


def _convolutions(device: CudaDevice, dtype: np.dtype) -> None:
    """Of every width of a tile, with and without packs, by FMAs and by tensor cores."""
    if not _is_taken(device, dtype, "conv2d"):
        return
    geometry = (1, 1), (1, 1), (1, 1), 2
    # In two groups; 131 channels lie in no packs, 1 in no tile.
    sizes = ((64, 64), (6, 128), (256, 256), (262, 262), (2, 2))
    for device.allow_tf32 in (True, False):
        for channels, filters in sizes:
            x, y = (device.empty((8, 9, 9, n), dtype) for n in (channels, filters))
            w = device.empty((3, 3, channels // 2, filters), dtype)
            _call(device, "conv2d", x, w, y, *geometry)
            _call(device, "conv2d_input_grad", y, w, x, *geometry)
            _call(device, "conv2d_weight_grad", x, y, w, *geometry)


def _fused(device: CudaDevice, dtype: np.dtype) -> None:
    call = partial(_call, device)
    x, row, column = (device.empty(shape, dtype) for shape in ((512, 24), (24,), (512,)))
    labels = device.empty((512,), INT64)
    call("softmax", x, x)
    call("log_softmax", x, x)
    call("cross_entropy", x, labels, column, column, -100, 0.1)
    call("cross_entropy_grad", x, labels, column, column, x, -100, 0.1)
    call("layer_norm", x, row, row, 1e-5, x, column, column)
    call("layer_norm_grad", x, x, row, column, column, x, row, row)
    call("batch_norm", x, row, row, 1e-5, x, row, row)
    call("batch_norm_grad", x, x, row, row, row, 1e-5, x, row, row)
    gates, weights, states = (
        device.empty(shape, dtype) for shape in ((2, 5, 48), (12, 48), (3, 5, 12))
    )
    call("lstm", gates, weights, states, states)
    call("lstm_grad", gates, weights, states, states, states, states[0], states[0])
    gates, weights = device.empty((2, 5, 12), dtype), device.empty((12, 12), dtype)
    for relu in (False, True):
        call("rnn", gates, weights, states, relu)
        call("rnn_grad", gates, weights, states, states, states[0], relu)
    image, pooled = device.empty((2, 9, 9, 4), dtype), device.empty((2, 4, 4, 4), dtype)
    for size in ((2, 2), (3, 3), (5, 5)):
        window = size, (2, 2), (1, 1), (1, 1)
        call("max_pool2d", image, pooled, pooled, *window)
        call("avg_pool2d", image, pooled, *window)
    call("max_pool2d_grad", pooled, image, pooled, pooled, image, *window)
    call("avg_pool2d_grad", pooled, image, *window)
    for normal in (False, True):
        call("philox", normal, labels, labels, x)
    call("sgd", [x], [x], [], [x], 0.1, 0.0, 0.0, 0.0, False)
    call("sgd", [x], [x], [x], [x], 0.1, 0.9, 0.1, 0.0, True)
    call("adam", [x], [x], [x], [x], [x], 0.1, 0.9, 0.99, 1e-8, 0.1, 3, True)
    call("sum_of_squares", [x], device.empty((), "float64"))


# ---- NVRTC ----------------------------------------------------------------------------------


def resources(source: str, architecture: str) -> dict[str, int]:
    """Registers, bytes of shared memory and of spilled registers that the assembler reports."""
    _, log = compiler.compile_with_log(source, architecture, ("--ptxas-options=-v",))
    used = {
        "registers": r"Used (\d+) registers",
        "shared": r"(\d+) bytes smem",
        "spilled": r"(\d+) bytes spill stores",
        "stack": r"(\d+) bytes stack frame",
    }
    found = {name: re.search(pattern, log) for name, pattern in used.items()}
    assert found["registers"], log
    return {name: int(match[1]) if match else 0 for name, match in found.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernels_compile_and_spill_nothing(dtype, nvrtc):
    sources = recorded(lambda device: everything(device, dtype))
    assert len(sources) > (15 if is_stored(dtype) else 40)
    for number, (source, what) in enumerate(sources.items()):
        # Each for one GPU in turn: all for all of them would take minutes and find no more.
        architecture = ARCHITECTURES[number % len(ARCHITECTURES)]
        used = resources(source, architecture)
        assert used["spilled"] == 0, (what, architecture, used)
        assert used["shared"] <= 48 * 1024, (what, architecture, used)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_the_matrix_product_keeps_its_tile_in_registers(dtype, nvrtc):
    sources = recorded(lambda device: products(device, dtype))
    for source in (source for source, what in sources.items() if what.startswith("matmul")):
        for architecture in ARCHITECTURES:
            used = resources(source, architecture)
            assert used["stack"] == used["spilled"] == 0
            if dtype is FLOAT32 and architecture != "sm_80":
                assert used["registers"] <= 128, "two blocks of 256 threads fit a multiprocessor"


def test_a_mistake_in_a_kernel_is_shown(nvrtc):
    with pytest.raises(compiler.KernelError, match='identifier "nonsense" is undefined'):
        compiler.compile_kernel('extern "C" __global__ void kernel() { nonsense(); }', "sm_90")
