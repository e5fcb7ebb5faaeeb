"""The GPU of these tests: a real one where there is one, else the emulated one."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cuda.emulator import build, kept_folder

import needle as ndl
from needle.backend_ndarray.device_cuda import blas, compiler
from needle.backend_ndarray.device_cuda.driver import driver
from needle.backend_ndarray.device_cuda.library import NVRTC, CudaUnavailable
from needle.files import user_cache_folder
from needle.native import core


def forget_libraries() -> None:
    """Look for the libraries of CUDA again."""
    driver.cache_clear()
    compiler._nvrtc.cache_clear()
    blas._library.cache_clear()
    device = ndl.cuda()
    device._context = device._missing = None


@pytest.fixture(scope="session")
def emulator_folder() -> str:
    """A folder with the emulated libraries and their kernels, one for all processes and runs."""
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    headers = Path(core.__file__).parent / "include"
    folder = build(kept_folder(user_cache_folder() / "needle" / "emulator", headers))
    (folder / "kernels").mkdir(exist_ok=True)
    return str(folder)


@pytest.fixture(scope="module")
def emulated(emulator_folder: str) -> Iterator[ndl.Device]:
    """`cuda()` on the emulator."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NEEDLE_CUDA_LIBRARIES", emulator_folder)
    patch.setenv("NEEDLE_CACHE", f"{emulator_folder}/cache")
    patch.setenv("NEEDLE_EMULATOR_KERNELS", f"{emulator_folder}/kernels")
    forget_libraries()
    try:
        yield ndl.cuda()
    finally:
        patch.undo()
        forget_libraries()


@pytest.fixture(scope="module")
def gpu(request: pytest.FixtureRequest) -> Iterator[ndl.Device]:
    """`cuda()` on a GPU where there is one, else on the emulator."""
    if ndl.cuda().enabled():
        yield ndl.cuda()
    else:
        yield request.getfixturevalue("emulated")


@pytest.fixture
def lazy(emulated: ndl.Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[ndl.Device]:
    """`cuda()` on the emulator, whose streams do nothing before they are waited for."""
    _ = emulated.context.streams.current  # this thread's, before another one's is free to take
    emulated.synchronize()
    monkeypatch.setenv("NEEDLE_EMULATOR_DELAY", "1")
    yield emulated
    emulated.synchronize()


@pytest.fixture
def fake(emulated: ndl.Device, emulator_folder: str) -> Iterator[ctypes.CDLL]:
    """The emulated driver's own functions: what was called, and a way to make it fail."""
    library = ctypes.CDLL(f"{emulator_folder}/libcuda.so.1")
    library.emulator_calls.restype = ctypes.c_char_p
    library.emulator_fail.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_int
    library.emulator_clear_calls()
    yield library
    library.emulator_fail(b"", 0, 0)


@pytest.fixture
def nvrtc() -> Iterator[None]:
    """The real NVRTC, for all of needle's own kernels. Skips where it is not installed."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NEEDLE_CUDA_MATMUL", "own")
    patch.delenv("NEEDLE_CUDA_LIBRARIES", raising=False)
    compiler._nvrtc.cache_clear()
    try:
        compiler._nvrtc()
        yield
    except CudaUnavailable as missing:
        pytest.skip(f"{missing} {NVRTC}")
    finally:
        patch.undo()
        compiler._nvrtc.cache_clear()
