"""Compiled code on disk: the programs of `jit` and the kernels of `cuda()`.

An entry is found by a key: a digest of all that it depends on. Its code is `<key>-<digest>.<kind>`;
the digest is of the file itself, so that one that was damaged is not loaded (that could crash) but
made anew. Beside it may lie its source, `<key>.cpp`. Files appear whole or not at all, and only
their owner may write to the folder.

The environment: NEEDLE_CACHE names the folder, NEEDLE_CACHE_LIMIT its size in MiB (512); beyond it,
the entries unused for longest are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIBRARY = ".dll" if os.name == "nt" else ".so"
KERNEL = ".cubin"
DEFAULT_LIMIT = 512  # MiB
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
    """Remove every entry; how many there were."""
    folder = _folder()
    if not folder.exists():
        return 0
    _check_owner(folder)
    entries = _entries(folder)
    for entry in entries.values():
        remove(entry.files)
    return len(entries)


def open_folder() -> Path:
    """The folder, made where it is not there. Raises OSError where it cannot be used."""
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


def find(folder: Path, key: str, kind: str) -> Path | None:
    """The whole code of that key, marked as used; a damaged one is removed."""
    for path in folder.glob(f"{key}-*{kind}"):
        try:
            whole = path.stem == f"{key}-{_digest(path)}"
        except FileNotFoundError:  # another process removed it
            continue
        if whole:
            with contextlib.suppress(OSError):  # a folder that can only be read
                os.utime(path)
            return path
        remove([path])
    return None


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[str]:
    """A folder for half-done files; other processes see what `keep` takes from it, whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as path:
        yield path


def keep(folder: Path, key: str, code: Path) -> Path:
    """Move a file of a scratch folder to its place; others make room where it is needed."""
    target = folder / f"{key}-{_digest(code)}{code.suffix}"
    os.replace(code, target)
    _evict(folder, key)
    return target


def remove(files: Iterable[Path]) -> None:
    """Remove files."""
    for path in files:
        with contextlib.suppress(OSError):  # gone already, or in use on Windows
            path.unlink()


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
    """What the folder holds, by key."""
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
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
