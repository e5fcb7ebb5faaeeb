"""`save` and `load`: any nested structure of Tensors, arrays, numbers and texts, in one file."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..autograd import Tensor
from ..backend_ndarray import as_device, default_device
from ..backend_selection import Device
from ..files import written_whole
from .structure import Place, Reader, Writer, as_ndarray
from .tensor_file import described, read_tensors, write_tensors

FORMAT = "needle-structure-1"
Target: TypeAlias = "str | os.PathLike[str] | IO[bytes]"
MapLocation: TypeAlias = "str | Device | Mapping[str, str | Device] | Callable[..., object] | None"


def save(obj: object, f: Target) -> None:
    """Write a nested structure to a file: safetensors with a description in JSON, no pickle.

    The file appears whole or not at all. A Tensor that stands in two places is written once, and
    is one Tensor again when it is read. Other programs that read safetensors find the tensors under
    their paths, such as "model.0.weight".

    Parameters
    ----------
    obj : object
        Tensors, Parameters, NumPy arrays and numbers, None, bools, ints, floats, texts, dtypes and
        devices; lists, tuples, dicts and OrderedDicts of them, nested. The `state_dict` of modules,
        optimizers and schedules is made of these.
    f : path or binary file
        Where to: a path, or a file such as `io.BytesIO()`.

    Raises
    ------
    TypeError
        If something else is in the structure. The error names its place and what to save instead.
    OSError
        If the file cannot be written; the old one stays then.

    Examples
    --------
    >>> import io
    >>> import needle as ndl
    >>> buffer = io.BytesIO()
    >>> ndl.save({"weight": ndl.ones(2), "epoch": 3}, buffer)
    >>> _ = buffer.seek(0)
    >>> ndl.load(buffer)
    {'weight': needle.Tensor([1. 1.]), 'epoch': 3}
    """
    writer = Writer()
    text = json.dumps(writer.tree(obj))
    if isinstance(f, (str, os.PathLike)):
        with written_whole(f) as file:
            write_tensors(file, writer.tensors, FORMAT, text)
    elif hasattr(f, "write"):
        write_tensors(f, writer.tensors, FORMAT, text)
    else:
        raise TypeError(f"[save] f must be a path or a binary file, got {type(f).__name__}")


def load(
    f: Target,
    map_location: MapLocation = None,
    *,
    weights_only: bool = True,
    mmap: bool | None = None,
) -> Any:
    """Read what `save` wrote, a safetensors file of another program, or a file of `torch.save`.

    Nothing in a file is executed. Of `torch.save`'s files those are read that hold tensors,
    Parameters, numbers, texts and plain containers, such as a `state_dict`.

    Parameters
    ----------
    f : path or binary file
        The file.
    map_location : device, its name or dict of str to device, optional
        Where Tensors go. They go where they were by default, those of other programs' safetensors
        to the default device. A dict replaces some places, such as `{"cuda:1": "cuda:0"}`.
    weights_only : bool, default True
        Accepted as in PyTorch; it changes nothing, since classes are never loaded.
    mmap : bool, optional
        Accepted as in PyTorch; it changes nothing.

    Returns
    -------
    object
        The structure; a dict of Tensors by name for other programs' safetensors. int8, int16 and
        the unsigned integers beyond uint8 become the next wider dtype of needle's.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another format, or needs code to be read.
    RuntimeError
        If its Tensors were on a device that is not there.

    Examples
    --------
    >>> import tempfile
    >>> import needle as ndl
    >>> model = ndl.nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ndl.save(model.state_dict(), f"{folder}/model.safetensors")
    ...     state = ndl.load(f"{folder}/model.safetensors")
    >>> list(state)
    ['weight', 'bias']
    """
    place = _places(map_location)
    with _opened(f) as (file, name):
        try:
            return _load(file, place)
        except ValueError as error:
            raise ValueError(f"[load] {name} {error}") from None


@contextmanager
def _opened(f: Target) -> Iterator[tuple[IO[bytes], str]]:
    """The file and what errors call it."""
    if isinstance(f, (str, os.PathLike)):
        path = Path(os.fsdecode(f))
        if not path.exists():
            raise FileNotFoundError(f"[load] there is no file {os.fspath(f)!r}")
        if not path.is_file():
            raise ValueError(f"[load] {os.fspath(f)!r} is not a file but a folder or a device")
        with open(path, "rb") as file:
            yield file, repr(os.fspath(f))
    elif hasattr(f, "read") and hasattr(f, "seek"):
        yield f, f"the {type(f).__name__}"
    else:
        raise TypeError(
            f"[load] f must be a path or a binary file that can seek, got {type(f).__name__}; "
            "io.BytesIO(data) makes one of bytes"
        )


def _load(file: IO[bytes], place: Place) -> Any:
    start = file.tell()
    beginning = file.read(8)
    file.seek(start)
    if isinstance(beginning, str):
        raise ValueError("is open as text; open it with mode 'rb'")
    if not beginning:
        raise ValueError("is at its end, or empty; buffer.seek(0) goes back to its start")
    if beginning.startswith(b"PK\3\4") or (beginning[:2] == b"PK" and zipfile.is_zipfile(file)):
        from .torch_file import read_torch_file  # loads Python's modules for pickles and archives

        return read_torch_file(file, place)
    if beginning.startswith(b"\x80") and beginning[1] <= 5 and not beginning.endswith(b"\0\0"):
        raise ValueError(
            "is a pickle, which would run code when it is read, or a file of PyTorch before 1.6; "
            "in PyTorch load it and save it again: torch.save(model.state_dict(), path)"
        )
    if beginning.startswith((b"\x89HDF", b"\x93NUMPY")):
        raise ValueError("is of another format; numpy.load and h5py read such files")
    found = read_tensors(file)
    if found.metadata.get("format") != FORMAT:
        return {
            name: Tensor.make_const(as_ndarray(held, place("")))
            for name, held in found.tensors.items()
        }
    try:
        tree = json.loads(described(found))
        return Reader(found.tensors, place).value(tree)
    except RecursionError:
        raise ValueError("is damaged: its structure is nested too deeply") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"is damaged: its structure has no sense: {error!r}") from None


def _places(map_location: MapLocation) -> Place:
    """The function from the name of a place in a file, "" for none, to the device to use."""
    if callable(map_location) and not isinstance(map_location, Device):
        raise TypeError(
            "[load] map_location must be a device, its name or a dict; where a function would "
            'return its first argument write map_location="cpu"'
        )
    if isinstance(map_location, Mapping):
        mapping = {_full(name): as_device(device) for name, device in map_location.items()}
        return lambda name: mapping.get(_full(name)) or _there(name)
    if map_location is not None:
        device = as_device(map_location)
        if not device.enabled():
            raise RuntimeError(f"[load] map_location is {device}, which is not available")
        return lambda name: device
    return _there


def _full(name: str) -> str:
    return "cuda:0" if name == "cuda" else name


def _there(name: str) -> Device:
    """The device where a Tensor was."""
    if name in ("", "cpu", "cpu_numpy"):
        device = as_device(name or None)
        return device if device.enabled() else default_device()
    with suppress(ValueError):
        device = as_device(name)
        if device.enabled():
            return device
    raise RuntimeError(
        f'[load] a Tensor was on {name!r}, which is not available; map_location="cpu" brings all '
        "to the CPU"
    )
