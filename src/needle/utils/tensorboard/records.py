"""The format of TensorBoard's event files: records (TFRecord) of protocol buffers.

A record is its length, 8 bytes, a checksum of these, the content, and a checksum of it. Of protocol
buffers only what an event needs is written: numbers, strings and messages in messages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed


def _table() -> list[int]:
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        entries.append(byte)
    return entries


_TABLE = _table()


def crc32c(content: bytes) -> int:
    """The CRC-32C of some bytes (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(content: bytes) -> bytes:
    """The checksum of a record: rotated and moved, since records may hold checksums themselves."""
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(content: bytes) -> bytes:
    """A record of the file."""
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


# ---- protocol buffers ---------------------------------------------------------------------------


def varint(n: int) -> bytes:
    """A whole number, seven bits a byte; negative ones as 64 bits."""
    n &= 0xFFFFFFFFFFFFFFFF
    parts = bytearray()
    while n > 0x7F:
        parts.append(n & 0x7F | 0x80)
        n >>= 7
    parts.append(n)
    return bytes(parts)


def number(field: int, n: int) -> bytes:
    """A field that is a whole number."""
    return varint(field << 3) + varint(n)


def double(field: int, x: float) -> bytes:
    """A field of 64 bits."""
    return varint(field << 3 | 1) + struct.pack("<d", x)


def single(field: int, x: float) -> bytes:
    """A field of 32 bits."""
    return varint(field << 3 | 5) + struct.pack("<f", x)


def content(field: int, data: bytes | str) -> bytes:
    """A field of bytes, of text, or of a message."""
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def doubles(field: int, numbers: Iterable[float]) -> bytes:
    """A field of several doubles, packed."""
    return content(field, b"".join(struct.pack("<d", x) for x in numbers))
