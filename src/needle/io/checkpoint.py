"""Checkpoints: named tensors and a description, in one safetensors file (see `tensor_file`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import written_whole
from ..operands import ArrayLike
from ..typing import Json
from .tensor_file import RESERVED, Stored, described, read_tensors, stored, write_tensors

FORMAT = "needle-checkpoint-1"


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
    arrays = {name: _storable(name, value) for name, value in tensors.items()}
    text = json.dumps(dict(description))
    with written_whole(path) as file:
        write_tensors(file, arrays, FORMAT, text)


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
    if not Path(path).exists():
        raise FileNotFoundError(f"[load_checkpoint] there is no file {os.fspath(path)!r}")
    if not Path(path).is_file():
        raise ValueError("is not a file but a folder, a pipe or a device")
    with open(path, "rb") as file:
        if file.read(2) in (b"PK", b"\x80\x02"):
            raise ValueError("is a file of torch.save; needle.load reads it")
        file.seek(0)
        found = read_tensors(file)
    if found.metadata.get("format") != FORMAT:
        raise ValueError(
            f"is not a needle checkpoint: its format is {found.metadata.get('format')!r}, expected "
            f"{FORMAT!r}; needle.load reads other files"
        )
    text = described(found, FORMAT)
    return Checkpoint({name: x.values() for name, x in found.tensors.items()}, _parsed(text))


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


def _storable(name: object, value: object) -> Stored:
    """A tensor as the file holds it. Raises TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"[save_checkpoint] names must be text, got {name!r}")
    if name == RESERVED:
        raise ValueError(f"[save_checkpoint] a tensor cannot have the name {RESERVED!r}")
    array = np.array(value)  # without it a 0-d Tensor would become a NumPy scalar
    found = stored(array)
    if found is None:
        raise TypeError(
            f"[save_checkpoint] {name!r} is of dtype {array.dtype}, which a checkpoint cannot hold"
        )
    return found
