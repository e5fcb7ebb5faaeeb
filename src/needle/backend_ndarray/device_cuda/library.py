"""Finding the shared libraries of CUDA at run time: nothing of it is needed to build needle."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from ... import environment

# The names under which the system's loader may know a library, the newest first.
DRIVER = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
NVRTC = (
    "libnvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "nvrtc64_130_0.dll",
    "nvrtc64_120_0.dll",
)
CUBLASLT = (
    "libcublasLt.so.13",
    "libcublasLt.so.12",
    "libcublasLt.so",
    "cublasLt64_13.dll",
    "cublasLt64_12.dll",
)


class CudaUnavailable(RuntimeError):
    """Why `cuda()` cannot be used; the message names the part that is missing."""


def load(names: tuple[str, ...], what: str, remedy: str) -> ctypes.CDLL:
    """The library that has one of `names`.

    Looked for in the folder NEEDLE_CUDA_LIBRARIES alone where it is set; else where the system's
    loader looks and in the wheels of needle-dl[cuda]. Raises CudaUnavailable.
    """
    problem: OSError | None = None
    try:
        only = environment.folder("NEEDLE_CUDA_LIBRARIES")
    except FileNotFoundError as error:
        raise CudaUnavailable(f"cuda() is not available: {error}") from None
    for path in _candidates(names, only):
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            if "/" in path and Path(path).exists():
                problem = error  # found, and broken
    where = f" in {only}, which NEEDLE_CUDA_LIBRARIES names" if only else ""
    detail = f": {problem}" if problem else f" (looked for {', '.join(names)}{where})"
    raise CudaUnavailable(f"cuda() is not available: {what} was not found{detail}. {remedy}")


def _candidates(names: tuple[str, ...], only: Path | None) -> Iterator[str]:
    if only is not None:
        yield from (str(only / name) for name in names)
        return
    yield from names
    for folder in _wheel_folders():
        yield from (str(folder / name) for name in names if (folder / name).exists())


def _wheel_folders() -> Iterator[Path]:
    """The folders of libraries in the wheels of CUDA 13 (nvidia/cu13) and 12 (nvidia/cuda_*)."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in ("cu*/lib", "cuda_nvrtc/lib", "cublas/lib", "cu*/bin/x86_64"):
            yield from sorted(Path(root).glob(pattern), reverse=True)
