"""The safetensors format: named tensors and a text, behind a header of JSON.

The format (https://github.com/huggingface/safetensors): eight bytes with the header's length, the
header, the tensors' bytes without holes. Reading it runs no code. needle writes two entries of
metadata besides `format`: a text that describes the tensors, and a checksum of everything, by which
bits that changed on the disk are noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from math import prod
from typing import IO, Any, NamedTuple

import numpy as np

from ..backend_ndarray.dtypes import bfloat16_values
from ..typing import HostArray

# The format's names of dtypes, and NumPy's; a bfloat16 is two bytes that NumPy has no name for.
CODES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_CODE_OF = {dtype: code for code, dtype in CODES.items() if code != "BF16"}
LONGEST_HEADER = 100_000_000  # bytes, as in other readers
RESERVED = "__metadata__"  # the header's name for what is no tensor
STRUCTURE = "structure"  # the name of the text in the metadata


class Stored(NamedTuple):
    """A tensor as a file holds it: little-endian, in row-major order; bfloat16 as its bits."""

    code: str
    bits: HostArray

    def values(self) -> HostArray:
        """The values in a dtype of NumPy; float32 for bfloat16."""
        if self.code == "BF16":
            return bfloat16_values(self.bits)
        return self.bits.astype(self.bits.dtype.newbyteorder("="), copy=False)


class TensorFile(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Stored]
    metadata: dict[str, str]


def stored(array: HostArray) -> Stored | None:
    """An array as a file holds it, or None for a dtype that the format lacks."""
    code = _CODE_OF.get(array.dtype.newbyteorder("<").str)
    return code and Stored(code, np.asarray(array, dtype=CODES[code], order="C"))  # type: ignore[return-value]


def write_tensors(file: IO[bytes], tensors: Mapping[str, Stored], form: str, text: str) -> None:
    """Write tensors and a text that describes their structure.

    Raises ValueError where the names and the text together are longer than readers accept.
    """
    header: dict[str, object] = {
        RESERVED: {"format": form, STRUCTURE: text, "crc32": _checksum(tensors, text)}
    }
    # Readers map the bytes into memory, where wide numbers must begin at multiples of their width.
    order = sorted(tensors, key=lambda name: -tensors[name].bits.dtype.itemsize)
    start = 0
    for name in order:
        code, bits = tensors[name]
        header[name] = _Entry(code, list(bits.shape), (start, start + bits.nbytes))._asdict()
        start += bits.nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > LONGEST_HEADER:
        raise ValueError(
            f"the names and all that is no tensor take {len(encoded)} bytes, more than "
            f"{LONGEST_HEADER}; keep long lists of numbers as arrays"
        )
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for name in order:
        file.write(_bytes(tensors[name].bits))


def read_tensors(file: IO[bytes]) -> TensorFile:
    """Read a file from its position to its end. Raises ValueError unless it is whole."""
    size = _remaining(file)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LONGEST_HEADER):
        raise ValueError("is not a whole safetensors file: its header is longer than the file")
    header = _parsed(file.read(length))
    metadata = header.pop(RESERVED, {})
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise ValueError("is not a whole safetensors file: its metadata are no texts")
    entries = [(name, _entry(name, entry)) for name, entry in header.items()]
    tensors, position = dict.fromkeys(header), 0
    for name, entry in sorted(entries, key=lambda pair: pair[1].data_offsets):
        start, end = entry.data_offsets
        if start != position:
            raise ValueError(
                f"is not a whole safetensors file: {name!r} begins at {start}, not at {position}"
            )
        if end > size - 8 - length:
            raise ValueError(f"is not a whole safetensors file: it ends before {name!r} does")
        tensors[name] = _read(file, entry)
        position = end
    if position != size - 8 - length:
        raise ValueError("is not a whole safetensors file: bytes follow its last tensor")
    return TensorFile(tensors, metadata)  # type: ignore[arg-type]


def described(found: TensorFile) -> str:
    """The text of a file that `write_tensors` wrote. Raises ValueError where it is damaged."""
    text = found.metadata.get(STRUCTURE)
    if text is None:
        raise ValueError(f"is damaged: it has no {STRUCTURE}")
    if unknown := found.metadata.keys() - {"format", STRUCTURE, "crc32"}:
        raise ValueError(f"is damaged: its header has the unknown entries {sorted(unknown)}")
    checksum = _checksum(found.tensors, text)
    if found.metadata.get("crc32", checksum) != checksum:  # older files have none
        raise ValueError(f"is damaged: its checksum is not that of its tensors and {STRUCTURE}")
    return text


# ---- the header ---------------------------------------------------------------------------------


class _Entry(NamedTuple):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def _parsed(encoded: bytes) -> dict[str, Any]:
    try:
        header = json.loads(encoded, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(
            f"is not a whole safetensors file: its header is no JSON: {reason}"
        ) from None
    if type(header) is not dict:
        raise ValueError("is not a whole safetensors file: its header is no JSON object")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(name: str, entry: object) -> _Entry:
    """A tensor's entry in the header, checked."""
    damaged = f"is not a whole safetensors file: the entry of {name!r}"
    if type(entry) is not dict or entry.keys() != set(_Entry._fields):
        raise ValueError(f"{damaged} has not dtype, shape and data_offsets")
    code, shape, offsets = (entry[field] for field in _Entry._fields)
    if type(code) is not str or code not in CODES:
        raise ValueError(
            f"has {name!r} in a dtype that needle cannot read: {str(code)[:40]!r}; convert it to "
            "float32 or bfloat16 with the program that wrote it"
        )
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise ValueError(f"{damaged} has a shape or offsets that are no lists of whole numbers")
    if prod(shape) * np.dtype(CODES[code]).itemsize != offsets[1] - offsets[0]:
        raise ValueError(f"{damaged} has a shape that does not fill its bytes")
    return _Entry(code, shape, (offsets[0], offsets[1]))


def _are_counts(value: object) -> bool:
    return type(value) is list and all(type(x) is int and 0 <= x < 2**63 for x in value)


# ---- bytes --------------------------------------------------------------------------------------


def _remaining(file: IO[bytes]) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _read(file: IO[bytes], entry: _Entry) -> Stored:
    bits = np.empty(entry.shape, CODES[entry.dtype])
    view, done = bits.reshape(-1).view(np.uint8), 0
    while done < view.size:
        part = file.read(min(view.size - done, 1 << 26))
        if not part:
            raise ValueError("is not a whole safetensors file: it became shorter while it was read")
        view[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if entry.dtype == "BOOL":
        np.not_equal(view, 0, out=view)  # whatever byte stands for True
    return Stored(entry.dtype, bits)


def _bytes(bits: HostArray) -> memoryview:
    return np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data


def _checksum(tensors: Mapping[str, Stored], text: str) -> str:
    """CRC-32 over the text and every tensor's name, dtype, shape and contents."""
    crc = zlib.crc32(text.encode(errors="surrogatepass"))
    for name in sorted(tensors):
        code, bits = tensors[name]
        dtype = "bfloat16" if code == "BF16" else bits.dtype.name
        crc = zlib.crc32(f"\0{name}\0{dtype}\0{bits.shape}".encode(errors="surrogatepass"), crc)
        crc = zlib.crc32(_bytes(bits), crc)
    return f"{crc:08x}"
