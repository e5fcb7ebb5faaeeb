"""Files from public mirrors: resumable, checked by SHA-256, whole or not there at all."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from ...files import continued

CHUNK = 1 << 16
TIMEOUT = 30  # seconds without an answer
Report = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all (0: unknown)


class DownloadError(OSError):
    """A file could not be had from any mirror."""


def content_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, decompressed when its name ends in .gz.

    The same content can be compressed in many ways. Raises ValueError for broken gzip data.
    """
    digest = hashlib.sha256()
    opener = gzip.open if path.name.removesuffix(".part").endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None
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

    What arrives is kept in `path` + ".part", from which an interrupted download continues, and
    renamed once its content's SHA-256 is right. Raises DownloadError when no mirror helps, another
    OSError where the file cannot be written.
    """
    was_there = path.exists()
    reasons = []
    with continued(path) as (file, part, finish):
        if path.exists() and not was_there:  # by the process that held the part
            return
        for url in urls:
            try:
                _continue_download(file, path.name, url, report)
                wrong = check(part, sha256)
            except (OSError, ValueError, http.client.HTTPException) as error:
                reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
                continue
            if wrong is None:
                finish()
                return
            file.truncate(0)
            reasons.append(f"{url}: {wrong}")
    raise DownloadError(f"cannot download {path.name} ({'; '.join(reasons)})")


def _continue_download(file: IO[bytes], name: str, url: str, report: Report | None) -> None:
    """Append to `file` what it still lacks of `url`, or fetch it anew where that can't be asked."""
    have = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies beyond what we have
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        total = have + int(response.headers.get("Content-Length") or 0)
        file.truncate(have)
        file.seek(have)
        try:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if report is not None:
                    report(name, have, total)
        finally:
            file.flush()
    if have < total:
        raise http.client.IncompleteRead(b"", total - have)
