"""Files that appear whole or not at all, and the folder of the user's caches."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

LONGEST_PREFIX = 200  # bytes; a name has at most 255


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of `path` once it is complete and on the disk.

    It is written beside its place, as NAME.XXXXXXXX.part, and renamed. Where something fails, the
    old file stays and the part is removed; parts that a killed process left are removed by the next
    write of the same file. As with `open`, symbolic links are followed, a new file gets the mode
    0666 without the umask's bits, and one that was there keeps its mode. Folders are made where
    they are missing.

    Raises OSError, which names the file, where it cannot be written or is no regular file.
    """
    with _named_errors(path):
        target = _target(path)
        _remove_left_over_parts(target)
        file, part = _new_part(target)
        try:
            with file:
                yield file
                _put_in_place(file, part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OSError, which names the file, where `written_whole` could not write it now."""
    with _named_errors(path):
        file, part = _new_part(_target(path))
        file.close()
        part.unlink()


def user_cache_folder() -> Path:
    """The folder of the user's caches. Raises OSError where the user has no home."""
    default = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    try:
        folder = Path(default or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        raise FileNotFoundError(
            "the user has no home folder; name a folder for caches in XDG_CACHE_HOME"
        ) from None
    return folder.absolute()


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError names the file: that of a full disk comes without."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fsdecode(path)
        raise


def _target(path: str | os.PathLike[str]) -> Path:
    """The place of the file behind all symbolic links, free or a regular file's, in its folder."""
    target = Path(os.path.realpath(os.fsdecode(path)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        mode = target.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", os.fsdecode(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", os.fsdecode(path))
    return target


def _put_in_place(file: IO[bytes], part: Path, target: Path) -> None:
    """Rename a complete part. It stays locked until then, and is on the disk before."""
    if os.name != "nt" and target.exists():
        os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
    file.flush()
    os.fsync(file.fileno())
    if os.name == "nt":
        file.close()
    os.replace(part, target)
    with contextlib.suppress(OSError):  # a system that cannot
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _prefix(target: Path) -> str:
    return target.name.encode()[:LONGEST_PREFIX].decode(errors="ignore")


def _new_part(target: Path) -> tuple[IO[bytes], Path]:
    """A new file beside `target`, locked for as long as it is open."""
    while True:
        part = target.with_name(f"{_prefix(target)}.{secrets.token_hex(4)}.part")
        with contextlib.suppress(FileExistsError):
            return _locked_part(part, os.O_EXCL)


def _locked_part(part: Path, flags: int = 0) -> tuple[IO[bytes], Path]:
    """The part, opened or made, and locked for as long as it is open."""
    flags |= os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # where there are such
        flags |= getattr(os, name, 0)
    while True:
        file = os.fdopen(os.open(part, flags, 0o666), "r+b")
        try:
            opened = os.fstat(file.fileno())
            if not stat.S_ISREG(opened.st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", os.fspath(part))
            _lock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(part), opened):
                    return file, part
            file.close()  # while it waited another process has finished or removed this part
        except BaseException:
            file.close()
            raise


def _remove_left_over_parts(target: Path) -> None:
    """Remove the parts of `target` that nobody is writing."""
    name = re.compile(re.escape(_prefix(target)) + r"\.[0-9a-f]{8}\.part")
    for part in target.parent.iterdir():
        if name.fullmatch(part.name) and part.is_file() and not part.is_symlink():
            with contextlib.suppress(OSError):
                with open(part, "rb") as file:
                    _lock(file, wait=False)
                    if os.name != "nt":
                        part.unlink()
                part.unlink(missing_ok=True)


def _lock(file: IO[bytes], wait: bool = True) -> None:
    """Lock `file` until it is closed. Unless `wait`, raises OSError where that cannot be had."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a file system without locks
        if not wait:
            raise
