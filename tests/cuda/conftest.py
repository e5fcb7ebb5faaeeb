"""The GPU of these tests: a real one where there is one, else the emulated one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from cuda.emulator import build

import needle as ndl
from needle.backend_ndarray.cuda import blas, compiler
from needle.backend_ndarray.cuda.driver import driver
from needle.backend_ndarray.cuda.library import NVRTC, CudaUnavailable


def forget_libraries() -> None:
    """Look for the libraries of CUDA again."""
    driver.cache_clear()
    compiler._nvrtc.cache_clear()
    blas._library.cache_clear()
    device = ndl.cuda()
    device._context = device._missing = None


@pytest.fixture(scope="session")
def emulator_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the emulated libraries."""
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    return str(build(tmp_path_factory.mktemp("cuda")))


@pytest.fixture(scope="module")
def emulated(emulator_folder: str) -> Iterator[ndl.Device]:
    """`cuda()` on the emulator."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NEEDLE_CUDA_LIBRARIES", emulator_folder)
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
