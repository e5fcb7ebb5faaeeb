"""The system's C++ compiler, and the libraries that it made: a cache on disk.

A program's library is found by what it depends on: the source, the headers it includes, the
flags, and the compiler's predefined macros, which name its version and what `native` means on this
processor. Beside each library `<key>-<digest>.so` lies its source, `<key>.cpp`. The digest is of
the library itself: one that was damaged is not loaded (that could crash) but made anew.

The environment: CXX names the compiler, NEEDLE_CACHE the folder, NEEDLE_CACHE_LIMIT its size in
MiB (512); beyond it, the programs unused for longest are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..autograd import Value
from ..backend_ndarray import simd_level
from ..backend_ndarray.device_cpu import core

__all__ = [
    "CacheInfo",
    "CompileError",
    "Compiler",
    "NoCompiler",
    "build",
    "cache_info",
    "clear_cache",
    "find_compiler",
    "load",
]

CANDIDATES = ("c++", "g++", "clang++")
SUFFIX = ".dll" if os.name == "nt" else ".so"
DEFAULT_LIMIT = 512  # MiB
ERROR_LINES = 12
SCRATCH = "needle-tmp-"
STALE_SECONDS = 24 * 3600  # what a killed process left half done

FLAGS = (
    "-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-Wno-psabi",
)  # fmt: skip
# Used where the compiler knows them. What two programs both define stays each one's own.
ISOLATION_FLAGS = ("-fvisibility-inlines-hidden", "-fno-semantic-interposition", "-fno-gnu-unique")
# Copies of functions for some of their arguments: a tenth of the compilation, for nothing.
HASTE_FLAGS = ("-fno-ipa-cp-clone",)
WARNINGS_ARE_ERRORS = "-Werror"  # a flag that is ignored with a warning is not known
OPENMP = "-fopenmp"
PART = "NEEDLE_PART"  # the macro that chooses a part of a program

HOW_TO_INSTALL = (
    "Install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: "
    "xcode-select --install; conda: conda install -c conda-forge cxx-compiler) or set CXX"
)


class NoCompiler(RuntimeError):
    """No compiler that can build programs; the message says what to install."""


class CompileError(RuntimeError):
    """The compiler refused a program; `source` is the path of what it was given."""

    def __init__(self, message: str, source: Path) -> None:
        super().__init__(message)
        self.source = source


# ---- the compiler ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiler:
    """A C++20 compiler: the command, the flags it accepts, its predefined macros under them."""

    command: tuple[str, ...]
    flags: tuple[str, ...]
    macros: str


def find_compiler() -> Compiler:
    """The system's compiler, looked for once. Raises NoCompiler."""
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
    for command in [tuple(shlex.split(cxx))] if cxx.strip() else [(c,) for c in CANDIDATES]:
        flags = (*FLAGS, *_wanted())
        macros, _ = _macros(command, (*flags, WARNINGS_ARE_ERRORS))
        if macros is None:
            macros, reason = _macros(command, FLAGS)
            if macros is None:
                reasons.append(f"{shlex.join(command)}: {reason}")
                continue
            flags = (*FLAGS, *_accepted(command))
            macros = _macros(command, flags)[0] or macros
        return Compiler(command, flags, macros)
    return f"[jit] no C++20 compiler was found ({'; '.join(reasons)}). {HOW_TO_INSTALL}"


def _macros(command: tuple[str, ...], flags: Sequence[str]) -> tuple[str | None, str]:
    """What the compiler predefines under `flags`, or None and why it does not accept them."""
    done = _call([*command, *flags, "-dM", "-E", "-x", "c++", os.devnull])
    if done.returncode:
        return None, _first_errors(done.stderr, 1)
    return "\n".join(sorted(done.stdout.splitlines())), ""


def _wanted() -> tuple[str, ...]:
    """The flags for this processor, isolation and haste."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    wide = ("-mprefer-vector-width=512",) if simd_level() == "avx512" else ()
    return ("-mcpu=native" if arm else "-march=native", *wide, *ISOLATION_FLAGS, *HASTE_FLAGS)


def _accepted(command: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the wanted flags that the compiler knows."""
    strict = (*FLAGS, WARNINGS_ARE_ERRORS)
    return tuple(flag for flag in _wanted() if _macros(command, (*strict, flag))[0] is not None)


@cache
def _openmp(compiler: Compiler) -> tuple[str, ...]:
    """The flag of OpenMP, where its header and library are there. Raises NoCompiler.

    Checked where a program does not compile, with a whole library: a compiler without linker or
    standard library is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = None
        for flags, include in (((OPENMP,), "omp.h"), ((), "cstdint")):
            Path(folder, "probe.cpp").write_text(
                f'#include <{include}>\n#include <stdexcept>\nextern "C" void probe() {{}}\n'
            )
            done = _link(compiler, flags, ["probe.cpp"], f"probe{SUFFIX}", folder)
            if done.returncode == 0:
                return flags
    assert done is not None
    raise NoCompiler(
        f"[jit] {shlex.join(compiler.command)} cannot build a library "
        f"({_first_errors(done.stderr, 1)}). {HOW_TO_INSTALL}"
    )


def _library(
    compiler: Compiler, flags: tuple[str, ...], source: str, library: str, folder: str
) -> subprocess.CompletedProcess[str]:
    """Compile a source to a library: its two parts at once where it has them (generated.h)."""
    in_parts = PART in Path(folder, source).read_text(encoding="utf-8")
    if not in_parts or (os.cpu_count() or 1) < 2:
        return _link(compiler, flags, [source], library, folder)

    def compiled(part: int) -> subprocess.CompletedProcess[str]:
        options = (*flags, f"-D{PART}={part}", "-c")
        return _translate(compiler, options, [source], f"{part}.o", folder)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(compiled, (1, 2)):
            if done.returncode:
                return done
    return _link(compiler, flags, ["1.o", "2.o"], library, folder)


def _link(
    compiler: Compiler, flags: Iterable[str], inputs: Iterable[str], library: str, folder: str
) -> subprocess.CompletedProcess[str]:
    return _translate(compiler, (*flags, "-shared"), inputs, library, folder)


def _translate(
    compiler: Compiler, flags: Iterable[str], inputs: Iterable[str], output: str, folder: str
) -> subprocess.CompletedProcess[str]:
    # Run inside the folder, so that nothing in the library depends on the folder's name.
    command = [*compiler.command, *compiler.flags, *flags, "-o", output, *inputs]
    return _call([*command, "-I", str(_include())], folder)


def _call(command: list[str], folder: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", error.strerror or str(error))


def _first_errors(output: str, count: int) -> str:
    lines = output.strip().splitlines() or ["no message"]
    start = next((i for i, line in enumerate(lines) if "error" in line), 0)
    return "\n".join(lines[start : start + count])


def _include() -> Path:
    """The folder of the kernels' headers."""
    return Path(core.__file__).parent / "include"


@cache
def _headers() -> bytes:
    """A digest of the headers."""
    folder, digest = _include(), hashlib.sha256()
    for path in sorted(folder.rglob("*.h")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


# ---- the cache ------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheInfo:
    """How many programs the cache holds, and in how many bytes of how many."""

    folder: Path
    entries: int
    bytes: int
    limit: int


_FILE_NAME = re.compile(r"(?P<key>[0-9a-f]{32})(\.cpp|-[0-9a-f]{16}" + re.escape(SUFFIX) + ")")


@dataclass
class _Entry:
    """One program's files."""

    files: list[Path]
    bytes: int = 0
    used: float = 0.0


def cache_info() -> CacheInfo:
    """What the cache holds."""
    folder = _folder()
    entries = _entries(folder).values()
    return CacheInfo(folder, len(entries), sum(e.bytes for e in entries), _limit())


def clear_cache() -> int:
    """Remove every program; how many there were."""
    folder = _folder()
    if not folder.exists():
        return 0
    _check_owner(folder)
    entries = _entries(folder)
    for entry in entries.values():
        _remove(entry.files)
    return len(entries)


def _folder() -> Path:
    if chosen := os.environ.get("NEEDLE_CACHE"):
        return Path(chosen).expanduser().absolute()
    default = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    root = default or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser().absolute() / "needle" / "jit"


def _limit() -> int:
    """The size in bytes that the cache is kept under."""
    text = os.environ.get("NEEDLE_CACHE_LIMIT", str(DEFAULT_LIMIT))
    if not text.strip().isdecimal():
        raise ValueError(f"NEEDLE_CACHE_LIMIT must be a whole number of MiB, got {text!r}")
    return int(text) << 20


def _open_folder() -> Path:
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"[jit] the folder for compiled programs, {folder}, cannot be made "
            f"({error.strerror}); name another in NEEDLE_CACHE"
        ) from None
    _check_owner(folder)
    return folder


def _check_owner(folder: Path) -> None:
    """Code is loaded from the folder: nobody else may be able to write to it."""
    if os.name == "nt":
        return
    status = folder.stat()
    if status.st_uid != os.geteuid():
        reason = f"belongs to user {status.st_uid}; name another in NEEDLE_CACHE"
    elif status.st_mode & 0o022:
        reason = (
            f"can be written by others (its mode is {status.st_mode & 0o777:o}); chmod 700 it, or "
            "name another in NEEDLE_CACHE"
        )
    else:
        return
    raise PermissionError(
        f"[jit] code is loaded from the folder for compiled programs, but {folder} {reason}"
    )


def _entries(folder: Path) -> dict[str, _Entry]:
    """The programs in the folder, by key."""
    entries: dict[str, _Entry] = {}
    for path in folder.glob("*"):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:  # not the cache's
            continue
        with contextlib.suppress(FileNotFoundError):  # another process removes it
            status = path.stat()
            entry = entries.setdefault(name["key"], _Entry([]))
            entry.files.append(path)
            entry.bytes += status.st_size
            entry.used = max(entry.used, status.st_mtime)
    return entries


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError):  # gone already, or in use on Windows
            path.unlink()


def _evict(folder: Path, keep: str) -> None:
    """Remove the programs unused for longest, but not `keep`, until the rest fits the limit."""
    limit, entries = _limit(), _entries(folder)
    total = sum(entry.bytes for entry in entries.values())
    for key, entry in sorted(entries.items(), key=lambda item: item[1].used):
        if total > limit and key != keep:
            _remove(entry.files)
            total -= entry.bytes
    for path in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


# ---- building -------------------------------------------------------------------------------


def load(
    source: str,
    *,
    arguments: Sequence[tuple[Any, Any]],
    states: Sequence[tuple[Any, Any, bool]],
    constants: Sequence[Any],
    results: Sequence[tuple[Any, Any]],
    arena_bytes: int,
) -> Any:
    """The `Program` (csrc/cpu/program.h) of a source, built if it has to be.

    Raises NoCompiler, CompileError, OSError for a cache or a library that cannot be used.
    """
    core.register_values(Value)
    library = build(source)
    try:
        return core.Program(str(library), arguments, states, constants, results, arena_bytes)
    except OSError:  # removed by another process, or made for libraries that are no longer here
        _remove([library])
    library = build(source)
    return core.Program(str(library), arguments, states, constants, results, arena_bytes)


def build(source: str) -> Path:
    """The library of a source: from the cache, or newly compiled.

    Raises NoCompiler, CompileError (whose `source` is the kept file), and OSError for a folder
    that cannot be used.
    """
    compiler, folder = find_compiler(), _open_folder()
    key = _key(source, compiler)
    library = _find(folder, key)
    if library is None:
        library = _compile(source, compiler, folder, key)
        _evict(folder, keep=key)
    return library


def _key(source: str, compiler: Compiler) -> str:
    digest = hashlib.sha256(_headers())
    for part in (source, compiler.macros, _processor(), *compiler.command):
        digest.update(hashlib.sha256(part.encode()).digest())
    digest.update("\0".join(compiler.flags).encode())
    return digest.hexdigest()[:32]


@cache
def _processor() -> str:
    """The processor's name: `native` also means its timings, of which no macro tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()


def _find(folder: Path, key: str) -> Path | None:
    """The whole library of that key, marked as used; a damaged one is removed."""
    for path in folder.glob(f"{key}-*{SUFFIX}"):
        try:
            whole = path.stem == f"{key}-{_digest(path)}"
        except FileNotFoundError:  # another process removed it
            continue
        if whole:
            with contextlib.suppress(OSError):  # a folder that can only be read
                os.utime(path)
            return path
        _remove([path])
    return None


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _compile(source: str, compiler: Compiler, folder: Path, key: str) -> Path:
    # In a folder of its own, then renamed: other processes see whole files or none.
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        code, library = Path(scratch, f"{key}.cpp"), Path(scratch, f"{key}{SUFFIX}")
        code.write_text(source, encoding="utf-8")
        done = _library(compiler, (OPENMP,), code.name, library.name, scratch)
        if done.returncode and OPENMP not in _openmp(compiler):
            done = _library(compiler, (), code.name, library.name, scratch)
        kept = folder / code.name
        os.replace(code, kept)
        if done.returncode:
            raise CompileError(
                f"[jit] {shlex.join(compiler.command)} could not compile {kept}:\n"
                f"{_first_errors(done.stderr, ERROR_LINES)}",
                kept,
            )
        target = folder / f"{key}-{_digest(library)}{SUFFIX}"
        os.replace(library, target)
        return target
