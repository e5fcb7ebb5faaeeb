"""Files from public mirrors, fetched by pooch: checked by SHA-256, whole or not there at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CHUNK = 1 << 16
TIMEOUT = 30  # seconds without an answer
RETRIES = 2  # of each mirror, after 1 and 2 seconds
Report = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all (0: unknown)


class DownloadError(OSError):
    """A file could not be had from any mirror."""


def content_sha256(path: Path, name: str | None = None) -> str:
    """The SHA-256 of a file's content, decompressed when its name ends in .gz.

    The same content can be compressed in many ways. `name` is that of the file where it is kept
    under another one. Raises ValueError for broken gzip data.
    """
    digest = hashlib.sha256()
    opener = gzip.open if (name or path.name).endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{name or path} is not a whole gzip file: {error}") from None
    return digest.hexdigest()


def check(path: Path, sha256: str) -> str | None:
    """What is wrong with the file, in one line; None when it is right."""
    if not path.is_file():
        return f"{path} is missing"
    try:
        found = content_sha256(path)
    except ValueError as error:
        return str(error)
    return None if found == sha256 else f"{path}: expected SHA-256 {sha256}, found {found}"


def download(path: Path, urls: Sequence[str], sha256: str, report: Report | None = None) -> None:
    """Bring a file to `path` from the first of `urls` that has it.

    Pooch writes it beside its place and renames it once its content's SHA-256 is right. Raises
    DownloadError when no mirror helps, another OSError where the file cannot be written,
    ModuleNotFoundError without pooch.
    """
    try:
        import pooch
        import requests
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path.name} is downloaded by pooch: pip install 'needle-dl[data]'", name=error.name
        ) from None
    pooch.get_logger().setLevel("WARNING")
    reasons = []
    for url in urls:
        fetcher = pooch.create(
            path=path.parent, base_url="", registry={path.name: None}, urls={path.name: url},
            retry_if_failed=RETRIES,
        )  # fmt: skip
        try:
            fetcher.fetch(path.name, downloader=_Checked(path.name, sha256, report))
        except (ValueError, requests.RequestException) as error:
            reasons.append(f"{url}: {_reason(error)}")
        except OSError as error:  # that of a full disk names no file
            error.filename = error.filename or os.fspath(path)
            raise
        else:
            return
    raise DownloadError(f"cannot download {path.name} ({'; '.join(reasons)})")


class _Checked:
    """Pooch's downloader, with a check of the decompressed content."""

    def __init__(self, name: str, sha256: str, report: Report | None) -> None:
        self._name, self._sha256 = name, sha256
        self._progress: Any = False if report is None else _Progress(name, report)

    def __call__(self, url: str, file: str, pooch: object) -> None:
        from pooch import HTTPDownloader

        os.unlink(file)  # pooch's own is for this user alone; a new one gets the usual mode
        HTTPDownloader(self._progress, CHUNK, timeout=TIMEOUT)(url, file, pooch)
        found = content_sha256(Path(file), self._name)
        if found != self._sha256:
            raise ValueError(f"expected SHA-256 {self._sha256}, found {found}")


class _Progress:
    """What pooch takes for a progress bar: it tells `report`."""

    def __init__(self, name: str, report: Report) -> None:
        self.total, self._done, self._name, self._report = 0, 0, name, report

    def update(self, count: int) -> None:
        """`count` more bytes are there."""
        self._done = min(self._done + count, self.total or self._done + count)
        self._report(self._name, self._done, self.total)

    def reset(self) -> None:
        """Pooch counts anew."""
        self._done = 0

    def close(self) -> None:
        """Does nothing."""
        self._done = 0


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words: the innermost reason of those that requests nests."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", None) or error).rpartition("): ")[2]
