"""The options of `jit`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...given import shown

UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How a function is compiled."""

    memory: int | None = None  # the bytes that a program may take


DEFAULTS = Options()


def bytes_of(memory: int | str) -> int:
    """A number of bytes, or a text such as "2GB" or "512 MiB", in bytes.

    Raises TypeError for anything else, and ValueError for a text of another form and for less than
    one byte.
    """
    wanted = 'a number of bytes, or a text such as "2GB" or "512MiB"'
    if isinstance(memory, bool) or not isinstance(memory, (int, str)):
        raise TypeError(f"[jit] memory must be {wanted}, got {shown(memory)}")
    if isinstance(memory, int):
        size = memory
    else:
        parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", memory)
        if parts is None or parts[2].upper() not in UNITS:
            raise ValueError(f"[jit] memory must be {wanted}, got {memory!r}")
        size = int(float(parts[1]) * UNITS[parts[2].upper()])
    if size < 1:
        raise ValueError(f"[jit] memory must be at least one byte, got {memory!r}")
    return size
