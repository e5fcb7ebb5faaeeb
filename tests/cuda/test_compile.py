"""Every kernel compiles with NVRTC for the GPUs of today, without one, and spills no register."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest

from needle.backend_ndarray.cuda import CudaDevice, compiler, kernels
from needle.backend_ndarray.cuda.memory import Block
from needle.backend_ndarray.cuda.streams import Uses
from needle.backend_ndarray.device_numpy import BINARY, UNARY
from needle.backend_ndarray.dtypes import BOOL, DTYPES, INT64, is_float, is_stored

from .test_gemm_mma import mma_source

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or")
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


def recorded(dtypes: Any) -> dict[str, str]:
    """The kernels of every primitive and fused function for arrays of the dtypes."""
    device, recorder = CudaDevice(), Recorder()
    device._context = recorder  # type: ignore[assignment]
    for dtype in dtypes:
        _moves(device, dtype)
        if is_stored(dtype):
            continue
        _primitives(device, dtype)
        if is_float(dtype):
            _fused(device, dtype)
    device._context = None
    return recorder.sources


def _moves(device: CudaDevice, dtype: np.dtype) -> None:
    x, index = device.empty((8, 6, 4), dtype), device.empty((5,), INT64)
    device.fill(x, 3)
    device.where(device.empty(x.shape, BOOL), x, x, x)
    for other in DTYPES:
        device.copy(x, device.empty(x.shape, other))
        device.copy(x.permute((2, 0, 1)), device.empty((4, 8, 6), other))
    device.take_rows(x.reshape((8, 24)), index, device.empty((5, 24), dtype))
    device.matmul(x, x.permute((0, 2, 1)), device.empty((8, 6, 6), dtype))


def _primitives(device: CudaDevice, dtype: np.dtype) -> None:
    x, index = device.empty((8, 6, 4), dtype), device.empty((5,), INT64)
    turned, flags = x.permute((2, 0, 1)), device.empty((8, 6, 4), BOOL)
    for op in UNARY:
        device.unary(op, x, flags if op in PREDICATES else device.empty(x.shape, dtype))
    for op in BINARY:
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
    device.add_rows(x.reshape((8, 24)), index, device.empty((5, 24), dtype))


def _fused(device: CudaDevice, dtype: np.dtype) -> None:
    def call(name: str, *operands: Any) -> None:
        kernel = device.fused(name)
        assert kernel is not None
        kernel(*operands)

    x, row, column = (device.empty(shape, dtype) for shape in ((512, 24), (24,), (512,)))
    labels = device.empty((512,), INT64)
    call("softmax", x, x)
    call("log_softmax", x, x)
    call("cross_entropy", x, labels, column, column, -100, 0.1)
    call("cross_entropy_grad", x, labels, column, column, x, -100, 0.1)
    call("layer_norm", x, row, row, 1e-5, x, column, column)
    call("layer_norm_grad", x, x, row, column, column, x, row, row)
    for features in (16, 32, 64, 128):
        q, lse = device.empty((2, 2, 70, features), dtype), device.empty((2, 2, 70), dtype)
        call("attention", q, q, q, None, q, lse, 0.1, True)
        call("attention_grad", q, q, q, q, None, q, lse, q, q, q, 0.1, True)
    for filters in (32, 128, 256):  # in two groups
        image, weights = (
            device.empty((8, 16, 16, 6), dtype),
            device.empty((3, 3, 3, filters), dtype),
        )
        y = device.empty((8, 16, 16, filters), dtype)
        geometry = (1, 1), (1, 1), (1, 1), 2
        call("conv2d", image, weights, y, *geometry)
        call("conv2d_weight_grad", image, y, weights, *geometry)
        weights = device.empty((3, 3, filters, 6), dtype)
        y, image = device.empty(image.shape, dtype), device.empty((8, 16, 16, 2 * filters), dtype)
        call("conv2d_input_grad", y, weights, image, *geometry)
    call("sgd", [x], [x], [], [x], 0.1, 0.0, 0.0, 0.0, False)
    call("sgd", [x], [x], [x], [x], 0.1, 0.9, 0.1, 0.0, True)
    call("adam", [x], [x], [x], [x], [x], 0.1, 0.9, 0.99, 1e-8, 0.1, 3, True)


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
    sources = recorded([dtype])
    assert len(sources) > (15 if is_stored(dtype) else 40)
    for number, (source, what) in enumerate(sources.items()):
        # Each for one GPU in turn: all for all of them would take minutes and find no more.
        architecture = ARCHITECTURES[number % len(ARCHITECTURES)]
        used = resources(source, architecture)
        assert used["spilled"] == 0, (what, architecture, used)
        assert used["shared"] <= 48 * 1024, (what, architecture, used)


def test_the_matrix_product_keeps_its_tile_in_registers(nvrtc):
    device, recorder = CudaDevice(), Recorder()
    device._context = recorder  # type: ignore[assignment]
    a = device.empty((64, 64), "float32")
    device.matmul(a, a, a)
    device._context = None
    (source,) = recorder.sources
    for architecture in ARCHITECTURES:
        used = resources(source, architecture)
        assert used["stack"] == used["spilled"] == 0
    assert used["registers"] <= 128, "two blocks of 256 threads fit a multiprocessor"


ATTENTION = {
    "attention": ("out", "float* lse"),
    "attention_query_grad": ("const g", "const y", "const float* lse", "float* dots", "dq"),
    "attention_key_grads": ("const g", "const float* lse", "const float* dots", "dk", "dv"),
}


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_by_tensor_cores(name, kind, nvrtc):
    parameters = [f"AttentionInput<{kind}> x"]
    for declared in ATTENTION[name]:
        *const, last = declared.split()
        array = f"Array<{' '.join([*const, kind])}, 4> {last}"
        parameters.append(declared if "*" in declared else array)
    names = ", ".join(parameter.split()[-1] for parameter in parameters)
    # dk and dv of 128 features need a few registers more than sm_90 has.
    widths = (64, 64, 64) if name == "attention_key_grads" else (64, 128, 128)
    for architecture, width in zip(ARCHITECTURES, widths, strict=True):
        call = f"{name}<MmaTiles<{kind}, {width}>>({names});"
        source = kernels.source("attention.cuh", parameters, call, resident="1")
        assert resources(source, architecture)["spilled"] == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_product_on_tensor_cores(architecture, nvrtc):
    for kind, turned in (("float16", (False, False)), ("bfloat16", (True, True))):
        used = resources(mma_source(kind, *turned), architecture)
        assert used["spilled"] == used["stack"] == 0
        assert used["shared"] <= 48 * 1024


def test_a_mistake_in_a_kernel_is_shown(nvrtc):
    with pytest.raises(compiler.KernelError, match='identifier "nonsense" is undefined'):
        compiler.compile_kernel('extern "C" __global__ void kernel() { nonsense(); }', "sm_90")
