"""The environment variables that choose how needle runs, and what each of them may be.

All are looked at when this module, and so needle, is imported. Folders (NEEDLE_CACHE, NEEDLE_DATA,
NEEDLE_CUDA_LIBRARIES) and the compiler (CXX) are looked for when they are needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .native import core

if TYPE_CHECKING:
    from pathlib import Path

MAX_THREADS = 255  # of the core's pool
MAX_CACHE = 2**43  # MiB: its bytes are an int64


def backend() -> str:
    """NEEDLE_BACKEND: "nd", the C++ device and float32, or "np", the NumPy device and float64."""
    return _one_of("NEEDLE_BACKEND", ("nd", "np"))


def jit_mode() -> str:
    """NEEDLE_JIT: "on", "off" (run eagerly), "check" (both, compared; see
    `needle.jit.frontend.check`) or "evaluate" (the slow specification).
    """
    return _one_of("NEEDLE_JIT", ("on", "off", "check", "evaluate"))


def cuda_matmul() -> str:
    """NEEDLE_CUDA_MATMUL: "cublaslt" where there is cuBLASLt, or needle's "own" kernels."""
    return _one_of("NEEDLE_CUDA_MATMUL", ("cublaslt", "own"))


def cache_limit() -> int:
    """NEEDLE_CACHE_LIMIT: the size in MiB that the cache of compiled code is kept under."""
    return _whole("NEEDLE_CACHE_LIMIT", 0, MAX_CACHE, 512)


def folder(name: str) -> Path | None:
    """The folder that the variable `name` names, None where it is not set.

    Raises FileNotFoundError for one in the home of a user that there is not.
    """
    chosen = os.environ.get(name)
    if not chosen:
        return None
    try:
        from pathlib import Path

        return Path(chosen).expanduser().absolute()
    except RuntimeError:
        raise FileNotFoundError(f"{name} is {chosen}, but there is no such home folder") from None


def _check() -> None:
    """Raises ValueError for a variable whose value is none of those that it may have.

    The command line, which imports needle before it can say anything, ends with the message.
    """
    try:
        for read in (backend, jit_mode, cuda_matmul, cache_limit, _check_core):
            read()
    except ValueError as error:
        if not _is_command():
            raise
        sys.exit(f"needle: {error}")


def _check_core() -> None:
    """NEEDLE_SIMD and NEEDLE_NUM_THREADS, which the C++ core reads."""
    _whole("NEEDLE_NUM_THREADS", 1, MAX_THREADS, 1)
    if core is None:
        return
    _one_of("NEEDLE_SIMD", core.simd_levels(), "on this processor")
    core.simd_level()
    core.get_num_threads()


# Of the core: every call of a compiled function asks, and os.environ takes half a microsecond.
_variable = os.environ.get if core is None else core.environment_variable


def _one_of(name: str, choices: Sequence[str], where: str = "") -> str:
    """The variable `name`, the first choice where it is not set."""
    value = _variable(name)
    if value is None:
        return choices[0]
    if value not in choices:
        expected = " ".join(filter(None, ("must be one of", ", ".join(choices), where)))
        raise ValueError(f"{name} {expected}, got {value!r}")
    return value


def _whole(name: str, low: int, high: int, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and low <= int(text[:20]) <= high):
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {text!r}")
    return int(text)


def _is_command() -> bool:
    """Whether this process is `needle` or `python -m needle`, at the command line."""
    if sys.argv[:1] == ["-m"]:  # what Python puts there until it has found the module
        module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")  # before its own arguments
        return module.split(".")[0] == "needle"
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    return os.path.splitext(program)[0] == "needle"


_check()

__all__ = ["MAX_THREADS", "backend", "cache_limit", "cuda_matmul", "folder", "jit_mode"]
