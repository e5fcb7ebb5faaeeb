"""Checkpoints: named tensors and a description, in one safetensors file.

The format (https://github.com/huggingface/safetensors) holds raw tensors behind a JSON header;
reading it runs no code. The library is part of the extra `needle-dl[cli]`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = "needle-checkpoint-1"


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns."""

    tensors: dict[str, np.ndarray]
    description: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], description: Mapping[str, Any]
) -> None:
    """Write `tensors` (arrays or Tensors by name) and a JSON-able `description` to `path`.

    The file appears whole or not at all: it is written beside its place and then renamed.
    """
    from safetensors.numpy import save

    # A 0-d Tensor would become a NumPy scalar without asarray; safetensors wants arrays in C order.
    arrays = {name: np.array(value, order="C") for name, value in tensors.items()}
    data = save(arrays, metadata={"format": FORMAT, "description": json.dumps(dict(description))})
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(beside, target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    Raises FileNotFoundError, or ValueError for a file that is not a whole needle checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"[load_checkpoint] there is no file {os.fspath(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"[load_checkpoint] {os.fspath(path)!r} is not a whole safetensors file: {error}"
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"[load_checkpoint] {os.fspath(path)!r} is not a needle checkpoint: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}"
        )
    return Checkpoint(tensors, json.loads(metadata["description"]))
