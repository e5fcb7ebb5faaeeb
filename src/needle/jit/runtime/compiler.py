"""Compiling programs with the system's C++ compiler, and loading the libraries.

Libraries are kept on disk (`disk_cache.py`), each beside its source. The key of a library covers
the source, the headers, the flags and the compiler's predefined macros, which tell the compiler's
version and what `native` means on this processor. The environment variable CXX names the compiler.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ... import disk_cache
from ...autograd import Value
from ...backend_ndarray import NDArray, simd_level
from ...native import core
from ...typing import DType, Shape

__all__ = [
    "CompileError",
    "Compiler",
    "NoCompiler",
    "build",
    "built",
    "find_compiler",
    "load",
]

CANDIDATES = ("c++", "g++", "clang++")
ERROR_LINES = 12
# A compiler that takes longer counts as hanging. The longest programs take a minute.
PROBE_SECONDS = 30
COMPILE_SECONDS = 600

FLAGS = (
    "-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-Wno-psabi",
)  # fmt: skip
# These keep definitions with one name in two programs apart. Not every compiler has them.
ISOLATION_FLAGS = ("-fvisibility-inlines-hidden", "-fno-semantic-interposition", "-fno-gnu-unique")
# The processors of the instruction sets that `NEEDLE_SIMD` can force below the best one.
AVX512_LEVELS = ("amx", "avx512_bf16", "avx512")
FORCED_PROCESSORS = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "portable": "x86-64"}
# For `#pragma omp simd`, which needs no OpenMP library.
VECTOR_FLAGS = ("-fopenmp-simd",)
# Cloning functions for constant arguments takes a tenth of the compilation and gains nothing.
HASTE_FLAGS = ("-fno-ipa-cp-clone",)
WARNINGS_ARE_ERRORS = "-Werror"  # so that a compiler refuses a flag that it does not know
NO_SPACE = "No space left on device"  # the compiler runs with LC_ALL=C
_HANGS = "it gave no answer in"
# What a compiler says that lacked time or memory; GCC's driver outlives a part that was killed.
_PASSING = (_HANGS, "Killed signal", "out of memory", "Cannot allocate memory", "memory exhausted")
PART = "NEEDLE_PART"  # the macro that chooses a part of a program

HOW_TO_INSTALL = (
    "Install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: "
    "xcode-select --install; conda: conda install -c conda-forge cxx-compiler) or set CXX"
)


class NoCompiler(RuntimeError):
    """No compiler that can build programs; the message says what to install."""


class CompileError(RuntimeError):
    """The compiler refused a program; `source` is the path of the C++ file.

    `may_pass` is True where it was killed, hung or lacked memory.
    """

    def __init__(self, message: str, source: Path, may_pass: bool = False) -> None:
        super().__init__(message)
        self.source, self.may_pass = source, may_pass


# ---- the compiler ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiler:
    """A C++20 compiler: its command, the flags that it accepts, and its macros with these flags."""

    command: tuple[str, ...]
    flags: tuple[str, ...]
    macros: str


def find_compiler() -> Compiler:
    """The system's compiler, which is looked for once. Raises NoCompiler."""
    if core is None:
        raise NoCompiler(
            "[jit] needle was installed without its C++ core. Install a C++ compiler and "
            "reinstall needle-dl"
        )
    found = _search(os.environ.get("CXX", ""))
    if isinstance(found, str):
        raise NoCompiler(found)
    return found


@cache
def _search(cxx: str) -> Compiler | str:
    """The first compiler that works, or why there is none."""
    reasons = []
    try:
        commands = [_command(cxx)] if cxx.strip() else [(c,) for c in CANDIDATES]
    except ValueError as error:
        return f"[jit] CXX is no command: {cxx} ({error}). {HOW_TO_INSTALL}"
    for command in commands:
        flags = (*FLAGS, *_wanted())
        macros, reason = _macros(command, (*flags, WARNINGS_ARE_ERRORS))
        if macros is None:
            if _HANGS not in reason:
                macros, reason = _macros(command, FLAGS)
            if macros is None:
                reasons.append(f"{shlex.join(command)}: {reason}")
                continue
            flags = (*FLAGS, *_accepted(command))
            macros = _macros(command, flags)[0] or macros
        return Compiler(command, flags, macros)
    return f"[jit] no C++20 compiler was found ({'; '.join(reasons)}). {HOW_TO_INSTALL}"


def _command(cxx: str) -> tuple[str, ...]:
    """The words of CXX. Programs are compiled in other folders: a path becomes absolute."""
    program, *options = shlex.split(cxx)
    return (os.path.abspath(program) if os.path.dirname(program) else program, *options)


def _macros(command: tuple[str, ...], flags: Sequence[str]) -> tuple[str | None, str]:
    """The predefined macros with `flags`, or None and the reason why the compiler refuses them."""
    done = _call([*command, *flags, "-dM", "-E", "-x", "c++", os.devnull], PROBE_SECONDS)
    if done.returncode:
        return None, _first_errors(done, 1)
    return "\n".join(sorted(done.stdout.splitlines())), ""


def _wanted() -> tuple[str, ...]:
    """The flags beyond FLAGS, some of which a compiler may not know."""
    wide = ("-mprefer-vector-width=512",) if simd_level() in AVX512_LEVELS else ()
    return (*_processor_flags(), *wide, *VECTOR_FLAGS, *ISOLATION_FLAGS, *HASTE_FLAGS)


def _processor_flags() -> tuple[str, ...]:
    """The instruction set: that of this processor, or the lower one that `NEEDLE_SIMD` forces."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ("-mcpu=native",)
    level = simd_level()
    if core is None or level == core.simd_levels()[0] or level not in FORCED_PROCESSORS:
        return ("-march=native",)
    return (f"-march={FORCED_PROCESSORS[level]}", "-mtune=native")


def _accepted(command: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted flags that the compiler knows."""
    strict = (*FLAGS, WARNINGS_ARE_ERRORS)
    return tuple(flag for flag in _wanted() if _macros(command, (*strict, flag))[0] is not None)


def _check_builds_libraries(compiler: Compiler) -> None:
    """Raise NoCompiler for a compiler that has no linker or no standard library.

    This is checked after a program did not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = '#include <stdexcept>\nextern "C" void probe() {}\n'
        Path(folder, "probe.cpp").write_text(source)
        done = _link(compiler, ["probe.cpp"], f"probe{disk_cache.LIBRARY}", folder)
    if done.returncode:
        raise NoCompiler(
            f"[jit] {shlex.join(compiler.command)} cannot build a library "
            f"({_first_errors(done, 1)}). {HOW_TO_INSTALL}"
        )


def _library(
    compiler: Compiler, source: str, library: str, folder: str
) -> subprocess.CompletedProcess[str]:
    """Compile a source to a library; a source in two parts (see program_runtime.h) in parallel."""
    in_parts = PART in Path(folder, source).read_text(encoding="utf-8")
    if not in_parts or (os.cpu_count() or 1) < 2:
        return _link(compiler, [source], library, folder)

    def compiled(part: int) -> subprocess.CompletedProcess[str]:
        options = (f"-D{PART}={part}", "-c")
        return _translate(compiler, options, [source], f"{part}.o", folder)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(compiled, (1, 2)):
            if done.returncode:
                return done
    return _link(compiler, ["1.o", "2.o"], library, folder)


def _link(
    compiler: Compiler, inputs: Iterable[str], library: str, folder: str
) -> subprocess.CompletedProcess[str]:
    return _translate(compiler, ("-shared",), inputs, library, folder)


def _translate(
    compiler: Compiler, flags: Iterable[str], inputs: Iterable[str], output: str, folder: str
) -> subprocess.CompletedProcess[str]:
    # Run inside the folder, so that nothing in the library depends on the folder's name.
    command = [*compiler.command, *compiler.flags, *flags, "-o", output, *inputs]
    done = _call([*command, "-I", str(_include() / "cpu")], COMPILE_SECONDS, folder)
    if done.returncode == 0 and not Path(folder, output).is_file():
        return subprocess.CompletedProcess(command, 1, "", "it succeeded, but made no file")
    if done.returncode and NO_SPACE in done.stderr:
        raise OSError(errno.ENOSPC, f"the compiler says {NO_SPACE!r}", folder)
    return done


def _call(
    command: list[str], seconds: float, folder: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, which also takes its temporary files. Never raises OSError."""
    temporary = {} if folder is None else {"TMPDIR": folder}
    # A compiler starts further processes. A process group of their own can be ended as a whole.
    group = None if os.name == "nt" else 0
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **temporary},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            process_group=group,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return subprocess.CompletedProcess(command, 127, "", reason)
    with process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            return subprocess.CompletedProcess(command, 124, "", f"{_HANGS} {seconds} s")
        except BaseException:
            _end(process)
            raise
    if process.returncode < 0:
        name = signal.strsignal(-process.returncode)
        errors = f"it was killed by signal {-process.returncode} ({name})\n{errors}"
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and its children, which may hold its pipes open."""
    if os.name == "nt":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _first_errors(done: subprocess.CompletedProcess[str], count: int) -> str:
    lines = done.stderr.strip().splitlines() or [f"no message, exit status {done.returncode}"]
    start = next((i for i, line in enumerate(lines) if "error" in line), 0)
    return "\n".join(lines[start : start + count])


def _include() -> Path:
    """The folder with the headers of the core: csrc as it is installed."""
    return Path(core.__file__).parent / "include"


# ---- building -------------------------------------------------------------------------------


def load(
    source: str,
    *,
    arguments: Sequence[tuple[Shape, DType]],
    states: Sequence[tuple[Shape, DType, bool, bool]],
    constants: Sequence[NDArray],
    results: Sequence[tuple[Shape, DType]],
    arena_bytes: int,
) -> core.Program:
    """Load the library of a source, and compile it first where it is not in the cache.

    Parameters
    ----------
    source : str
        A file as `write_program` makes it.
    arguments, results : sequence of (shape, dtype)
    states : sequence of (shape, dtype, changes, in_place)
        Whether the program changes a state, and whether it does so in the state's own memory.
    constants : sequence of NDArray
    arena_bytes : int
        The memory that the program works in.

    Raises
    ------
    NoCompiler, CompileError
    OSError
        For a library that cannot be used.
    """
    core.register_values(Value)
    library = built(source)
    try:
        return core.Program(str(library), arguments, states, constants, results, arena_bytes)
    except OSError:  # another process removed it, or libraries that it was linked with are gone
        disk_cache.remove([library])
    library = built(source)
    return core.Program(str(library), arguments, states, constants, results, arena_bytes)


def built(source: str) -> Path:
    """`build`, in a temporary folder where the cache cannot be used.

    Raises NoCompiler and CompileError, and OSError if there is no temporary folder either.
    """
    try:
        return build(source)
    except OSError as error:
        return _build(source, find_compiler(), disk_cache.temporary_folder(error))


def build(source: str) -> Path:
    """The library of a source: from the cache, or newly compiled.

    Raises NoCompiler, CompileError, and OSError for a cache that cannot be used.
    """
    return _build(source, find_compiler(), disk_cache.open_folder())


def _build(source: str, compiler: Compiler, folder: Path) -> Path:
    key = _key(source, compiler)
    library = disk_cache.find(folder, key, disk_cache.LIBRARY)
    return _compile(source, compiler, folder, key) if library is None else library


def _key(source: str, compiler: Compiler) -> str:
    return disk_cache.key_of(
        disk_cache.digest_of_sources(_include(), "*.h"), source, compiler.macros, _processor(),
        shlex.join(compiler.command), shlex.join(compiler.flags),
    )  # fmt: skip


@cache
def _processor() -> str:
    """The processor's name. `native` also chooses its timings, which no macro tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()


def _compile(source: str, compiler: Compiler, folder: Path, key: str) -> Path:
    with disk_cache.scratch(folder) as scratch:
        code, library = Path(scratch, f"{key}.cpp"), Path(scratch, f"{key}{disk_cache.LIBRARY}")
        code.write_text(source, encoding="utf-8")
        done = _library(compiler, code.name, library.name, scratch)
        may_pass = done.returncode < 0 or any(sign in done.stderr for sign in _PASSING)
        if done.returncode and not may_pass:
            _check_builds_libraries(compiler)
        kept = folder / code.name
        disk_cache.put(code, kept)
        if done.returncode:
            raise CompileError(
                f"[jit] {shlex.join(compiler.command)} could not compile {kept}:\n"
                f"{_first_errors(done, ERROR_LINES)}",
                kept,
                may_pass,
            )
        return disk_cache.keep(folder, key, library)
