"""Compiling kernels with NVRTC; the machine code is kept on disk (`disk_cache.py`).

NVRTC reference: https://docs.nvidia.com/cuda/nvrtc/. NVRTC needs no GPU and compiles for any
architecture.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from ... import disk_cache
from ...native import core
from .library import NVRTC, CudaUnavailable, load

_SIGNATURES: dict[str, tuple[type[object], ...]] = {
    "nvrtcVersion": (POINTER(c_int), POINTER(c_int)),
    "nvrtcCreateProgram": (
        POINTER(c_void_p), c_char_p, c_char_p, c_int, POINTER(c_char_p), POINTER(c_char_p),
    ),
    "nvrtcCompileProgram": (c_void_p, c_int, POINTER(c_char_p)),
    "nvrtcGetProgramLogSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetProgramLog": (c_void_p, c_char_p),
    "nvrtcGetCUBINSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetCUBIN": (c_void_p, c_char_p),
    "nvrtcDestroyProgram": (POINTER(c_void_p),),
}  # fmt: skip
OPTIONS = ("--std=c++17",)
_REMEDY = "Install it with pip install 'needle-dl[cuda]'"


class KernelError(RuntimeError):
    """NVRTC refuses a kernel; the message has its log and the source."""


@cache
def _nvrtc() -> ctypes.CDLL:
    library = load(NVRTC, "NVRTC, the compiler of kernels", _REMEDY)
    for name, types in _SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise CudaUnavailable(f"cuda() is not available: NVRTC has no {name}. {_REMEDY}")
        function.argtypes, function.restype = types, c_int
    return library


def check_available() -> None:
    """Raise CudaUnavailable where kernels cannot be compiled."""
    _nvrtc()
    if not (include_folder() / "cuda").is_dir():
        raise CudaUnavailable(
            f"cuda() is not available: {include_folder()} with the sources of the kernels is "
            "missing. Reinstall needle-dl where a C++ compiler is at hand"
        )


def include_folder() -> Path:
    """The folder with the sources of kernels: csrc as installed with the core, or of a checkout."""
    installed = Path(__file__ if core is None else core.__file__).parent / "include"
    checkout = Path(__file__).resolve().parents[4] / "csrc"
    return installed if installed.is_dir() else checkout


def cached_kernel(source: str, architecture: str) -> bytes:
    """The machine code of a kernel: from the disk, or else from `compile_kernel`."""
    key = _key(source, architecture)
    try:
        folder = disk_cache.open_folder()
    except OSError as error:
        folder = disk_cache.temporary_folder(error)
    kept = disk_cache.find(folder, key, disk_cache.KERNEL)
    if kept is not None:
        with suppress(OSError):  # another process removed it
            return kept.read_bytes()
    cubin = compile_kernel(source, architecture)
    try:
        _keep(folder, key, cubin)
    except OSError as error:  # a full disk, say
        with suppress(OSError):
            _keep(disk_cache.temporary_folder(error), key, cubin)
    return cubin


def _keep(folder: Path, key: str, cubin: bytes) -> None:
    with disk_cache.scratch(folder) as scratch:
        code = Path(scratch, f"{key}{disk_cache.KERNEL}")
        code.write_bytes(cubin)
        disk_cache.keep(folder, key, code)


def forget_kernel(source: str, architecture: str) -> None:
    """Remove a kernel that the driver refuses from the disk."""
    with suppress(OSError):
        folder = disk_cache.open_folder()
        disk_cache.remove(folder.glob(f"{_key(source, architecture)}-*{disk_cache.KERNEL}"))


def _key(source: str, architecture: str) -> str:
    folder = include_folder()
    headers = disk_cache.digest_of_sources(folder / "cuda", "*.cuh")
    common = disk_cache.digest_of_sources(folder / "common", "*.h")
    return disk_cache.key_of(headers + common, source, architecture, version(), *OPTIONS)


def version() -> str:
    """NVRTC's version, such as "13.0"."""
    major, minor = c_int(), c_int()
    _nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile_kernel(source: str, architecture: str) -> bytes:
    """The machine code ("cubin") of a CUDA C++ source for an architecture such as "sm_90".

    Raises KernelError with the compiler's log, and CudaUnavailable without NVRTC.
    """
    return compile_with_log(source, architecture)[0]


def compile_with_log(
    source: str, architecture: str, options: Sequence[str] = ()
) -> tuple[bytes, str]:
    """`compile_kernel` with further options; returns the machine code and the compiler's log."""
    nvrtc = _nvrtc()
    standard = (f"--gpu-architecture={architecture}", f"-I{include_folder() / 'cuda'}", *OPTIONS)
    encoded = [option.encode() for option in (*standard, *options)]
    program = c_void_p()
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    if created:
        raise KernelError(f"[cuda] NVRTC could not be given a kernel: error {created}")
    try:
        failed = nvrtc.nvrtcCompileProgram(
            program, len(encoded), (c_char_p * len(encoded))(*encoded)
        )
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode()
        if failed:
            raise KernelError(
                f"[cuda] a kernel does not compile for {architecture}:\n{log}\n{source}"
            )
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size: Callable[..., int], read: Callable[..., int], program: c_void_p) -> bytes:
    length = c_size_t()
    size(program, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    read(program, buffer)
    return buffer.raw
