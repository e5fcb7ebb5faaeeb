"""Checkpoints: named tensors and a description, in one safetensors file.

The format (https://github.com/huggingface/safetensors) holds raw tensors behind a JSON header;
reading it runs no code. The library is part of the extra `needle-dl[cli]`. The header's metadata
are the `description` as JSON and a checksum, by which bits that changed on the disk are noticed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import written_whole
from ..operands import ArrayLike
from ..typing import Json

FORMAT = "needle-checkpoint-1"
DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
     "float32", "float64")
)  # fmt: skip
ENTRIES = {"format", "description", "crc32"}  # of the metadata; older files have no checksum
RESERVED = "__metadata__"  # the header's name for what is no tensor


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns."""

    tensors: dict[str, np.ndarray]
    description: Json


def save_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    description: Mapping[str, object],
) -> None:
    """Write `tensors` (arrays or Tensors by name) and a JSON-able `description` to `path`.

    The file appears whole or not at all (see `needle.files.written_whole`). bfloat16 is stored as
    float32. Raises TypeError or ValueError for a name, a tensor or a description that the format
    cannot hold, OSError where the file cannot be written; the old file stays then.
    """
    from safetensors.numpy import save

    arrays = {name: _storable(name, value) for name, value in tensors.items()}
    text = json.dumps(dict(description))
    metadata = {"format": FORMAT, "description": text, "crc32": _checksum(arrays, text)}
    data = save(arrays, metadata=metadata)
    with written_whole(path) as file:
        file.write(data)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    Raises FileNotFoundError, or ValueError for a file that is not a whole needle checkpoint; either
    names the file.
    """
    try:
        return _load(path)
    except ValueError as error:
        raise ValueError(f"[load_checkpoint] {os.fspath(path)!r} {error}") from None


def _load(path: str | os.PathLike[str]) -> Checkpoint:
    from safetensors import safe_open

    if not Path(path).exists():
        raise FileNotFoundError(f"[load_checkpoint] there is no file {os.fspath(path)!r}")
    if not Path(path).is_file():
        raise ValueError("is not a file but a folder, a pipe or a device")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the library raises many kinds for broken files
        with open(path, "rb") as start:
            if start.read(2) in (b"PK", b"\x80\x02"):
                raise ValueError(
                    "is a file of torch.save; in PyTorch, safetensors.torch.save_file(state, path) "
                    "writes one for needle, or nn.from_torch_state_dict takes the state itself"
                ) from None
        raise ValueError(
            f"is not a whole safetensors file: {str(error) or type(error).__name__}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"is not a needle checkpoint: its format is {metadata.get('format')!r}, expected "
            f"{FORMAT!r}"
        )
    text = metadata.get("description")
    if text is None:
        raise ValueError("is not a needle checkpoint: it has no description")
    if unknown := metadata.keys() - ENTRIES:  # such as a damaged name of the checksum
        raise ValueError(f"is damaged: its header has the unknown entries {sorted(unknown)}")
    if metadata.get("crc32", checksum := _checksum(tensors, text)) != checksum:
        raise ValueError("is damaged: its checksum is not that of its tensors and description")
    return Checkpoint(tensors, _parsed(text))


def _parsed(text: str) -> Json:
    """The description. Raises ValueError."""
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has a description that is no JSON: {error}") from None
    if type(description) is not dict:
        raise ValueError(
            f"has a description that is no JSON object but a {type(description).__name__}"
        )
    return description


def _storable(name: object, value: object) -> np.ndarray:
    """The array of a tensor, in C order. Raises TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"[save_checkpoint] names must be text, got {name!r}")
    if name == RESERVED:
        raise ValueError(f"[save_checkpoint] a tensor cannot have the name {RESERVED!r}")
    # A 0-d Tensor would become a NumPy scalar without `array`; safetensors wants C order.
    array = np.array(value, order="C")
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"[save_checkpoint] {name!r} is of dtype {array.dtype}, which a checkpoint cannot hold"
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """CRC-32 over the description and every tensor's name, dtype, shape and contents."""
    crc = zlib.crc32(text.encode(errors="surrogatepass"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        crc = zlib.crc32(f"\0{name}\0{array.dtype.name}\0{arrays[name].shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
