"""A CUDA driver, an NVRTC and a cuBLASLt that run on the CPU, for tests on machines without a GPU.

`build` compiles them. The kernels' CUDA C++ is compiled as C++ behind `shim.h` (`nvrtc.cpp`),
each block's threads run as fibers (`block.cpp`) on memory with guards around it (`driver.cpp`).
Settings come from the environment:

| variable | meaning | default |
|---|---|---|
| `NEEDLE_EMULATOR_ORDER` | order of threads and blocks: forward, reverse or a seed | forward |
| `NEEDLE_EMULATOR_DELAY` | 1: work is done only when somebody waits for it | 0 |
| `NEEDLE_EMULATOR_CAPABILITY` | compute capability | 9.0 |
| `NEEDLE_EMULATOR_DEVICES` | number of devices | 1 |
| `NEEDLE_EMULATOR_MEMORY` | bytes of memory of a device | 1 GiB |
| `NEEDLE_EMULATOR_KERNELS` | where compiled kernels are kept | beside the libraries, removed |
| `CXX` | the C++ compiler | c++ |
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent
_LIBRARIES = {
    "libcuda.so.1": ["driver.cpp", "block.cpp"],
    "libnvrtc.so": ["nvrtc.cpp"],
    "libcublasLt.so.13": ["blas.cpp"],
}
_FLAGS = ["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
_UNUSED_SECONDS = 14 * 24 * 3600


def kept_folder(parent: Path, kernels: Path) -> Path:
    """The folder below `parent` for the libraries, and for kernels that later runs find again.

    Its name is a digest of the emulator's sources, of the headers in `kernels` and of the compiler,
    so that nothing in it is ever out of date. Folders that no run used for two weeks are removed.

    Raises:
        OSError: it cannot be made, or there is no C++ compiler.
    """
    compiler = subprocess.run([*_compiler(), "--version"], capture_output=True, check=False)
    digest = hashlib.sha256(compiler.stdout)
    for root in (_SOURCES, kernels):
        for source in sorted(root.rglob("*")):
            if source.suffix in (".cpp", ".h", ".cuh", ".py"):
                digest.update(f"{source.relative_to(root)}\0".encode())
                digest.update(hashlib.sha256(source.read_bytes()).digest())
    folder = parent / digest.hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.touch()
    for other in parent.iterdir():
        if time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "c++")


def build(directory: Path) -> Path:
    """Compiles the libraries into `directory`, unless they are there and up to date.

    Returns:
        `directory`, with `libcuda.so.1`, `libnvrtc.so` and `libcublasLt.so.13`.
    Raises:
        FileNotFoundError: there is no C++ compiler.
        subprocess.CalledProcessError: it failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    headers = directory / "include"  # kernels are compiled with them, perhaps by another checkout
    headers.mkdir(exist_ok=True)
    for header in _SOURCES.glob("*.h"):
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            shutil.copy(header, scratch)
            Path(scratch, header.name).replace(headers / header.name)
    newest = max(source.stat().st_mtime for source in _SOURCES.iterdir() if source.is_file())
    for name, sources in _LIBRARIES.items():
        library = directory / name
        if library.exists() and library.stat().st_mtime > newest:
            continue
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            output = Path(scratch) / name
            command = [*_compiler(), *_FLAGS]
            command += [f'-DEMULATOR_SOURCES="{headers}"']
            command += [str(_SOURCES / source) for source in sources]
            command += ["-o", str(output)]
            if sys.platform == "linux":
                command += ["-ldl", "-pthread"]
            subprocess.run(command, check=True)
            output.replace(library)  # at once: another process may be building it too
    return directory
