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

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent
_LIBRARIES = {
    "libcuda.so.1": ["driver.cpp", "block.cpp"],
    "libnvrtc.so": ["nvrtc.cpp"],
    "libcublasLt.so.13": ["blas.cpp"],
}
_FLAGS = ["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]


def build(directory: Path) -> Path:
    """Compiles the libraries into `directory`, unless they are there and up to date.

    Returns:
        `directory`, with `libcuda.so.1`, `libnvrtc.so` and `libcublasLt.so.13`.
    Raises:
        FileNotFoundError: there is no C++ compiler.
        subprocess.CalledProcessError: it failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in _SOURCES.iterdir() if source.is_file())
    for name, sources in _LIBRARIES.items():
        library = directory / name
        if library.exists() and library.stat().st_mtime > newest:
            continue
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            output = Path(scratch) / name
            command = [*shlex.split(os.environ.get("CXX") or "c++"), *_FLAGS]
            command += [f'-DEMULATOR_SOURCES="{_SOURCES}"']
            command += [str(_SOURCES / source) for source in sources]
            command += ["-o", str(output)]
            if sys.platform == "linux":
                command += ["-ldl", "-pthread"]
            subprocess.run(command, check=True)
            output.replace(library)  # at once: another process may be building it too
    return directory
