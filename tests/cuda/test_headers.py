"""What the ctypes tables say of CUDA's functions and constants, held against its own headers.

The C++ compiler does it: the headers are those of the wheels nvidia-cuda-runtime (cuda.h) and
nvidia-cublas (cublasLt.h), CUDA 12 or 13, no GPU is needed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from needle.backend_ndarray.device_cuda import blas, driver

DRIVER_CONSTANTS = {
    "CUDA_ERROR_OUT_OF_MEMORY": driver.OUT_OF_MEMORY,
    "CUDA_ERROR_NOT_READY": driver.NOT_READY,
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": driver.MULTIPROCESSORS,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": driver.CAPABILITY_MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": driver.CAPABILITY_MINOR,
    "CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED": driver.MEMORY_POOLS,
    "CU_STREAM_NON_BLOCKING": driver.STREAM_NON_BLOCKING,
    "CU_EVENT_DISABLE_TIMING": driver.EVENT_DISABLE_TIMING,
    "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": driver.CAPTURE_THREAD_LOCAL,
    "CU_MEMPOOL_ATTR_RELEASE_THRESHOLD": driver.POOL_RELEASE_THRESHOLD,
}
BLAS_CONSTANTS = {
    "CUBLAS_COMPUTE_32F": blas.COMPUTE_FLOAT,
    "CUBLAS_COMPUTE_64F": blas.COMPUTE_DOUBLE,
    "CUBLAS_COMPUTE_32F_FAST_TF32": blas.COMPUTE_TF32,
    "CUDA_R_32F": blas.DATA_TYPES["float32"],
    "CUDA_R_64F": blas.DATA_TYPES["float64"],
    "CUBLASLT_MATMUL_DESC_TRANSA": blas.DESC_TRANSPOSE_A,
    "CUBLASLT_MATMUL_DESC_TRANSB": blas.DESC_TRANSPOSE_B,
    "CUBLASLT_MATMUL_DESC_EPILOGUE": blas.DESC_EPILOGUE,
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER": blas.DESC_BIAS,
    "CUBLASLT_EPILOGUE_DEFAULT": blas.EPILOGUE_PLAIN,
    "CUBLASLT_EPILOGUE_RELU": blas.EPILOGUE_RELU,
    "CUBLASLT_EPILOGUE_BIAS": blas.EPILOGUE_BIAS,
    "CUBLASLT_EPILOGUE_RELU_BIAS": blas.EPILOGUE_RELU | blas.EPILOGUE_BIAS,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": blas.LAYOUT_BATCH_COUNT,
    "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": blas.LAYOUT_BATCH_OFFSET,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": blas.PREFERENCE_WORKSPACE,
    **{
        f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{matrix}_BYTES": attribute
        for matrix, attribute in zip("ABCD", blas.PREFERENCE_ALIGNMENTS, strict=True)
    },
    **{f"CUBLAS_STATUS_{name}": code for code, name in blas.STATUS.items()},
    "sizeof(cublasLtMatmulHeuristicResult_t)": ctypes.sizeof(blas.Choice),
    **{
        f"offsetof(cublasLtMatmulHeuristicResult_t, {theirs})": getattr(blas.Choice, ours).offset
        for ours, theirs in (
            ("algorithm", "algo"), ("workspace", "workspaceSize"), ("state", "state"),
        )
    },
}  # fmt: skip
TABLES: dict[str, tuple[dict[str, tuple[Any, ...]], dict[str, int]]] = {
    "cuda.h": (driver._SIGNATURES, DRIVER_CONSTANTS),
    "cublasLt.h": (blas._SIGNATURES, BLAS_CONSTANTS),
}
# The number of a function's parameters, and the bytes and the kind of each.
SIGNATURES = """
#include <cstddef>
#include <tuple>
#include <type_traits>
template <class F> struct Signature;
template <class R, class... A> struct Signature<R (*)(A...)> {
  static constexpr int count = sizeof...(A);
  template <int I> using at = std::tuple_element_t<I, std::tuple<A...>>;
};
"""


def include_folders() -> list[Path]:
    """The folders of headers in the wheels."""
    spec = importlib.util.find_spec("nvidia")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return sorted(
        folder for root in roots for folder in Path(root).glob("*/include") if folder.is_dir()
    )


def headers() -> list[str]:
    """Those that are there."""
    folders = include_folders()
    return [name for name in TABLES if any((folder / name).exists() for folder in folders)]


def assertions(signatures: dict[str, tuple[Any, ...]], constants: dict[str, int]) -> Iterator[str]:
    """C++ that holds if the tables are right."""
    for name, types in signatures.items():
        signature = f"Signature<decltype(&{name})>"
        yield f'static_assert({signature}::count == {len(types)}, "{name}");'
        for i, kind in enumerate(types):
            there = f"{signature}::at<{i}>"
            size = ctypes.sizeof(kind)
            yield f'static_assert(sizeof({there}) == {size}, "{name}, parameter {i}");'
            if kind not in POINTERS:
                yield f'static_assert(!std::is_pointer_v<{there}>, "{name}, parameter {i}");'
    for name, value in constants.items():
        yield f'static_assert({name} == {value}, "{name}");'


POINTERS = {ctypes.c_void_p, ctypes.c_char_p} | {
    kind
    for signatures, _ in TABLES.values()
    for types in signatures.values()
    for kind in types
    if issubclass(kind, ctypes._Pointer)
}


def compiled(header: str, lines: Iterator[str]) -> str:
    """What the compiler says of the assertions; nothing where they hold."""
    types = "struct __half;\nstruct __nv_bfloat16;"
    text = "\n".join([types, f"#include <{header}>", SIGNATURES, *lines])
    folders = [f"-I{folder}" for folder in include_folders()]
    unneeded = ["-D__CUDA_FP16_H__", "-D__CUDA_BF16_H__"]  # they want yet another wheel
    command = ["c++", "-std=c++17", "-fsyntax-only", "-xc++", *unneeded, *folders, "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True).stderr


@pytest.mark.parametrize("header", headers())
def test_tables_are_those_of_the_header(header):
    assert compiled(header, assertions(*TABLES[header])) == ""


@pytest.mark.parametrize("header", headers())
def test_a_wrong_table_is_seen(header):
    signatures, constants = TABLES[header]
    name, types = next((n, t) for n, t in signatures.items() if len(t) > 1)
    assert name in compiled(header, assertions({name: types[1:]}, {}))
    constant, value = next(iter(constants.items()))
    assert constant in compiled(header, assertions({}, {constant: value + 1}))
