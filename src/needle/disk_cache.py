"""Compiled code on disk: the programs of `jit` and the kernels of `cuda()`.

An entry is found by a key: a digest of all that it depends on. Its code is `<key>-<digest>.<kind>`;
the digest is of the file itself, so that one that was damaged is not loaded (that could crash) but
made anew. Beside it may lie its source, `<key>.cpp`. Files appear whole or not at all.

Code that is loaded runs with all rights of the user. So an entry is a regular file that belongs to
the user and that nobody else can write to, in a folder of which the same is true. Where the folder
cannot be used, a temporary one takes its place until the process ends, with one warning.

The environment: NEEDLE_CACHE names the folder, NEEDLE_CACHE_LIMIT its size in MiB (512); beyond it,
the entries unused for longest are removed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import environment
from .files import user_cache_folder
from .forks import fork_safe

LIBRARY = ".dll" if os.name == "nt" else ".so"
KERNEL = ".cubin"
SCRATCH = "needle-tmp-"
STALE_SECONDS = 24 * 3600  # what a killed process left half done

_FILE_NAME = re.compile(
    rf"(?P<key>[0-9a-f]{{32}})(\.cpp|-[0-9a-f]{{16}}({re.escape(LIBRARY)}|{re.escape(KERNEL)}))"
)


@dataclass(frozen=True)
class CacheInfo:
    """How many entries the cache holds, and in how many bytes of how many."""

    folder: Path
    entries: int
    bytes: int
    limit: int
    kernels: int = 0  # of the entries, those for a GPU


@dataclass
class _Entry:
    """The files of one key."""

    files: list[Path]
    bytes: int = 0
    used: float = 0.0

    @property
    def is_kernel(self) -> bool:
        return any(path.suffix == KERNEL for path in self.files)


def cache_info() -> CacheInfo:
    """What the cache holds."""
    folder = _folder()
    entries = _entries(folder).values()
    kernels = sum(entry.is_kernel for entry in entries)
    return CacheInfo(folder, len(entries), sum(e.bytes for e in entries), _limit(), kernels)


def clear_cache() -> int:
    """Remove every entry; how many there were. Raises OSError where others can write."""
    folder = _folder()
    if not folder.exists():
        return 0
    _check_safe(folder)
    entries = _entries(folder)
    for entry in entries.values():
        remove(entry.files)
    return len(entries)


def open_folder() -> Path:
    """The folder, made where it is not there. Raises OSError where it cannot be used."""
    folder = _folder()
    try:
        _make_private(folder)
    except OSError as error:
        raise OSError(
            f"[jit] the folder for compiled programs, {folder}, cannot be made "
            f"({error.strerror}); name another in NEEDLE_CACHE"
        ) from None
    for inside in (folder, *_parents_of_ours(folder)):
        _check_safe(inside)
    if _no_code(folder):
        raise OSError(
            f"[jit] the folder for compiled programs, {folder}, is on a file system from which no "
            "code can be loaded (it is mounted noexec); name another in NEEDLE_CACHE"
        )
    return folder


_temporary: dict[int, Path] = {}  # by process: a forked one must not remove its parent's
_warned: set[str] = set()
_lock = fork_safe(threading.Lock())


def temporary_folder(reason: OSError) -> Path:
    """A folder for this process alone, removed at its end, in the place of one that cannot be used.

    A warning tells the `reason`, once for each folder. Raises OSError where there is none.
    """
    process = os.getpid()
    with _lock:
        if process not in _temporary or not _temporary[process].is_dir():
            _temporary[process] = Path(tempfile.mkdtemp(prefix="needle-"))
            atexit.register(_remove_temporary, process)
        place = os.environ.get("NEEDLE_CACHE", "")
        warned = place in _warned
        _warned.add(place)
    if not warned:
        warnings.warn(
            "compiled programs and kernels are not kept on disk but in a temporary folder until "
            f"this process ends: {reason}",
            stacklevel=3,
        )
    return _temporary[process]


def _remove_temporary(process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(_temporary[process], ignore_errors=True)


def find(folder: Path, key: str, kind: str) -> Path | None:
    """The whole code of that key, marked as used; anything else in its place is removed."""
    for path in folder.glob(f"{key}-*{kind}"):
        try:
            content = _read_own(path)
        except FileNotFoundError:  # another process removed it
            continue
        except OSError:
            content = None
        if content is not None and path.stem == f"{key}-{_digest(content)}":
            with contextlib.suppress(OSError):  # a folder that can only be read
                os.utime(path)
            return path
        remove([path])
    return None


def _read_own(path: Path) -> bytes | None:
    """The content of a regular file that nobody but the user can have written, or None.

    Raises OSError where it cannot be read; a symbolic link cannot.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # where there are such
        flags |= getattr(os, name, 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not _is_own(status):
            return None
        return file.read()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[str]:
    """A folder for half-done files; other processes see what `keep` takes from it, whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as path:
        yield path


def keep(folder: Path, key: str, code: Path) -> Path:
    """Move a file of a scratch folder to its place; others make room where it is needed."""
    target = folder / f"{key}-{_digest(code.read_bytes())}{code.suffix}"
    put(code, target)
    _evict(folder, key)
    return target


def put(file: Path, target: Path) -> None:
    """Move a file to its place, readable and writable as an entry must be."""
    if os.name != "nt":
        file.chmod(0o600)
    if target.is_dir() and not target.is_symlink():
        remove([target])
    os.replace(file, target)


def remove(paths: Iterable[Path]) -> None:
    """Remove files, and folders in their place."""
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError:  # a folder, or in use on Windows
            shutil.rmtree(path, ignore_errors=True)


@cache
def digest_of_sources(folder: Path, pattern: str) -> bytes:
    """A digest of the files below `folder` that match, read once a process."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def key_of(headers: bytes, *parts: str) -> str:
    """A key from a digest of headers and all else that the code depends on."""
    digest = hashlib.sha256(headers)
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:32]


def _folder() -> Path:
    if chosen := environment.folder("NEEDLE_CACHE"):
        return chosen
    try:
        return user_cache_folder() / "needle" / "jit"
    except FileNotFoundError as error:
        raise FileNotFoundError(f"[jit] {error}, or one for needle's in NEEDLE_CACHE") from None


def _parents_of_ours(folder: Path) -> list[Path]:
    """The folders above it that needle makes and that hold nothing but needle's caches."""
    return [] if os.environ.get("NEEDLE_CACHE") else [folder.parent]


def _make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for the user alone."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _limit() -> int:
    """The size in bytes that the cache is kept under."""
    return environment.cache_limit() << 20


def _is_own(status: os.stat_result) -> bool:
    """Whether the user alone can have written it."""
    return os.name == "nt" or (
        status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _check_safe(folder: Path) -> None:
    """Code is loaded from the folder: nobody else may be able to write to it."""
    status = folder.stat()
    if _is_own(status):
        return
    if status.st_uid != os.geteuid():
        reason = f"belongs to user {status.st_uid}; name another in NEEDLE_CACHE"
    else:
        reason = (
            f"can be written by others (its mode is {stat.S_IMODE(status.st_mode):o}), who may "
            "have put code there; chmod 700 it and then empty it (needle cache clear), or name "
            "another in NEEDLE_CACHE"
        )
    raise PermissionError(
        f"[jit] code is loaded from the folder for compiled programs, but {folder} {reason}"
    )


def _no_code(folder: Path) -> bool:
    """Whether it is on a file system that is mounted noexec."""
    return hasattr(os, "ST_NOEXEC") and bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


def _entries(folder: Path) -> dict[str, _Entry]:
    """What the folder holds, by key."""
    entries: dict[str, _Entry] = {}
    for path in folder.glob("*"):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:  # not the cache's
            continue
        with contextlib.suppress(FileNotFoundError):  # another process removes it
            status = path.lstat()
            entry = entries.setdefault(name["key"], _Entry([]))
            entry.files.append(path)
            entry.bytes += status.st_size
            entry.used = max(entry.used, status.st_mtime)
    return entries


def _evict(folder: Path, keep: str) -> None:
    """Remove the entries unused for longest, but not `keep`, until the rest fits the limit."""
    limit, entries = _limit(), _entries(folder)
    total = sum(entry.bytes for entry in entries.values())
    for key, entry in sorted(entries.items(), key=lambda item: item[1].used):
        if total > limit and key != keep:
            remove(entry.files)
            total -= entry.bytes
    for path in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
