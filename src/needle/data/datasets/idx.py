"""The IDX format of MNIST's files: big-endian header, then unsigned bytes, gzip-compressed.

Header: two zero bytes, the element type (8 = unsigned byte), the number of axes, then a 32-bit
length for each axis. Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from math import prod

import numpy as np

UNSIGNED_BYTE = 8
CHUNK = 1 << 20
# Deflate cannot compress better than 1032 : 1, so a header that promises more bytes than this many
# times the file is wrong, and is refused before anything is read.
MAX_RATIO = 1032


def read_idx(path: str | os.PathLike[str], ndim: int) -> np.ndarray:
    """The uint8 array with `ndim` axes in a gzip-compressed IDX file.

    Raises FileNotFoundError, or ValueError naming the file and what was expected when it is not
    gzip, has another magic number, or is shorter or longer than its header says.
    """
    name = os.fspath(path)
    header = 4 + 4 * ndim
    try:
        with gzip.open(name, "rb") as file:
            head = file.read(header)
            shape = _parse_header(head, ndim, name)
            size = prod(shape)
            if size > MAX_RATIO * os.path.getsize(name):
                raise ValueError(
                    f"[read_idx] {name!r} promises {shape} = {size:,} bytes, more than a file of "
                    f"{os.path.getsize(name):,} bytes can hold"
                )
            data = _read_up_to(file, size + 1)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"[read_idx] {name!r} is not a whole gzip file: {error}") from None
    except EOFError:
        raise ValueError(f"[read_idx] {name!r} is truncated: its gzip data ends early") from None
    if len(data) != size:
        found = f"{len(data):,} bytes" if len(data) < size else "more"
        raise ValueError(
            f"[read_idx] {name!r}: expected {shape} = {size:,} bytes after the header, "
            f"found {found}"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _parse_header(head: bytes, ndim: int, name: str) -> tuple[int, ...]:
    magic = struct.pack(">HBB", 0, UNSIGNED_BYTE, ndim)
    if len(head) >= 4 and head[:4] != magic:
        raise ValueError(
            f"[read_idx] {name!r}: expected the magic number {int.from_bytes(magic)} (unsigned "
            f"bytes, {ndim} axes), found {int.from_bytes(head[:4])}"
        )
    if len(head) < 4 + 4 * ndim:
        raise ValueError(
            f"[read_idx] {name!r} is truncated: expected a header of {4 + 4 * ndim} bytes, found "
            f"{len(head)}"
        )
    return struct.unpack(f">{ndim}I", head[4:])


def _read_up_to(file: gzip.GzipFile, limit: int) -> bytearray:
    """At most `limit` bytes; memory grows with what is really there."""
    data = bytearray()
    while len(data) < limit:
        chunk = file.read(min(CHUNK, limit - len(data)))
        if not chunk:
            break
        data += chunk
    return data
