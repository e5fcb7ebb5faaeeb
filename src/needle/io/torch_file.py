"""Files of `torch.save`: a zip archive with a pickle, and beside it the bytes of the storages.

The pickle is read by an interpreter that runs no code, see `torch_pickle`. The bytes lie in the
archive as they are; a compressed one, which PyTorch never writes, could be far larger than the
file.
"""

from __future__ import annotations

import codecs
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import IO, Any, NamedTuple

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import BackendDevice, NDArray
from ..backend_ndarray.dtypes import BFLOAT16
from ..nn import Parameter
from ..typing import HostArray
from .structure import Place, as_ndarray
from .tensor_file import Stored
from .torch_pickle import Function, Marker, Refused, plain_set, read_pickle

# PyTorch's name of a dtype, of the storage's type, and NumPy's name; needle widens int8 and the
# like. What has no name there cannot be read.
DTYPES: dict[str, tuple[str, str | None]] = {
    "float32": ("FloatStorage", "f4"),
    "float64": ("DoubleStorage", "f8"),
    "float16": ("HalfStorage", "f2"),
    "bfloat16": ("BFloat16Storage", "u2"),
    "int64": ("LongStorage", "i8"),
    "int32": ("IntStorage", "i4"),
    "int16": ("ShortStorage", "i2"),
    "int8": ("CharStorage", "i1"),
    "uint8": ("ByteStorage", "u1"),
    "bool": ("BoolStorage", "b1"),
    "uint16": ("", "u2"),
    "uint32": ("", "u4"),
    "uint64": ("", "u8"),
    "complex64": ("ComplexFloatStorage", None),
    "complex128": ("ComplexDoubleStorage", None),
    "complex32": ("", None),
    "float8_e4m3fn": ("", None),
    "float8_e5m2": ("", None),
}
STORAGES = {storage: name for name, (storage, _) in DTYPES.items() if storage}


class _Storage(NamedTuple):
    """The memory that tensors of the file share, as the pickle refers to it."""

    key: str
    dtype: str | None  # None: bytes, whose dtype the tensor says
    location: str


class _ZipReader:
    """Reads one archive; its storages become one array each, whoever uses them."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str, place: Place) -> None:
        self.archive = archive
        self.prefix = prefix
        self.place = place
        self.arrays: dict[tuple[str, str], NDArray] = {}
        self.order = "<"
        if f"{prefix}byteorder" in archive.namelist():
            self.order = ">" if archive.read(f"{prefix}byteorder") == b"big" else "<"

    def value(self) -> Any:
        encoded = self.archive.read(f"{self.prefix}data.pkl")
        return read_pickle(encoded, self._names(), self._storage)

    def _names(self) -> dict[str, object]:
        """Everything that the pickle can name."""
        functions: dict[str, Callable[..., Any]] = {
            "collections OrderedDict": _ordered_dict,
            "torch._utils _rebuild_tensor": self._tensor,
            "torch._utils _rebuild_tensor_v2": self._tensor,
            "torch._utils _rebuild_tensor_v3": self._tensor_of_dtype,
            "torch._utils _rebuild_parameter": _parameter,
            "torch Size": lambda sizes=(): tuple(sizes),
            "torch device": self._device,
            "_codecs encode": _encoded,
            "builtins set": plain_set,
            "__builtin__ set": plain_set,
        }
        names: dict[str, object] = {name: Function(name, f) for name, f in functions.items()}
        for storage, dtype in STORAGES.items():
            names[f"torch {storage}"] = Marker(dtype)
        names["torch.storage UntypedStorage"] = Marker("")
        for dtype, (_, host) in DTYPES.items():
            if host is not None:
                names[f"torch {dtype}"] = BFLOAT16 if dtype == "bfloat16" else np.dtype(host)
        return names

    # ---- what the pickle asks for ---------------------------------------------------------------

    def _device(self, name: str, index: int | None = None) -> BackendDevice | str | None:
        if type(name) is not str:
            raise ValueError("a device has no name")
        return self.place(str(name) if index is None else f"{name}:{int(index)}")

    def _storage(self, identity: object) -> _Storage:
        kind, marker, key, location, _ = identity  # type: ignore[misc]
        if kind != "storage" or not isinstance(marker, Marker):  # type: ignore[has-type]
            raise ValueError("a storage is described in another way than PyTorch's")
        return _Storage(str(key), marker.name or None, str(location))  # type: ignore[has-type]

    def _tensor(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        requires_grad: bool = False,
        hooks: object = None,
        metadata: object = None,
    ) -> Tensor:
        if storage.dtype is None:
            raise ValueError("a tensor has no dtype")
        if metadata:
            raise Refused("holds a conjugated or negated view; save tensor.resolve_neg()")
        return self._view(storage, storage.dtype, offset, shape, strides, requires_grad)

    def _tensor_of_dtype(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        requires_grad: bool,
        hooks: object,
        dtype: np.dtype,
        metadata: object = None,
    ) -> Tensor:
        return self._view(storage, dtype.name, offset, shape, strides, requires_grad)

    def _view(
        self,
        storage: _Storage,
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        requires_grad: object,
    ) -> Tensor:
        memory = self._array(storage, dtype)
        what = f"a tensor of shape {str(shape)[:80]}, strides {str(strides)[:80]}, offset {offset}"
        if min((offset, *shape, *strides), default=0) < 0:
            raise ValueError(f"{what} has negative numbers")
        if prod(shape) == 0:
            strides = (0,) * len(shape)
        try:
            data = NDArray.make(shape, strides, memory.device, memory._handle, offset, memory.dtype)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{what} reaches out of its {memory.size} numbers: {error}") from None
        return Tensor.make_const(data, requires_grad=bool(requires_grad))

    def _array(self, storage: _Storage, dtype: str) -> NDArray:
        made = self.arrays.get((storage.key, dtype))
        if made is None:
            made = self.arrays[storage.key, dtype] = self._read(storage, dtype)
        return made

    def _read(self, storage: _Storage, dtype: str) -> NDArray:
        host = DTYPES[dtype][1]
        if host is None:
            raise Refused(
                f"holds a tensor of dtype {dtype}, which needle lacks; in PyTorch convert it "
                "before it is saved (torch.view_as_real(x) of complex numbers, or x.float())"
            )
        name = f"{self.prefix}data/{storage.key}"
        if name not in self.archive.namelist():
            raise ValueError(f"the storage {storage.key[:80]!r} is missing")
        encoded = self.archive.read(name)
        kind = np.dtype(self.order + host)
        if len(encoded) % kind.itemsize:
            raise ValueError(f"the storage {storage.key!r} is no whole number of {dtype} numbers")
        values: HostArray = np.frombuffer(encoded, kind)
        if dtype == "bool":
            values = np.frombuffer(encoded, np.uint8) != 0
        values = values.astype(kind.newbyteorder("="), copy=False)
        device = self.place(storage.location)
        return as_ndarray(Stored("BF16" if dtype == "bfloat16" else "", values), device)


def read_torch_file(file: IO[bytes], place: Place) -> Any:
    """The value that `torch.save` wrote. Raises ValueError where it is damaged or needs code."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _ZipReader(archive, _checked_prefix(archive), place).value()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"is a damaged zip archive: {error}") from None


def _checked_prefix(archive: zipfile.ZipFile) -> str:
    """The folder of the archive's files. Raises ValueError for an archive of another kind."""
    entries = archive.infolist()
    found = [e.filename for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise ValueError("is a zip archive, but not one that torch.save wrote")
    prefix = found[0].removesuffix("data.pkl")
    if any(e.filename == f"{prefix}constants.pkl" for e in entries):
        raise ValueError(
            "is a TorchScript program; in PyTorch save its numbers: "
            "torch.save(module.state_dict(), path)"
        )
    archive.fp.seek(0, 2)  # type: ignore[union-attr]
    size = archive.fp.tell()  # type: ignore[union-attr]
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries):
        raise ValueError("is a compressed or encrypted zip archive; torch.save writes plain ones")
    if sum(max(e.file_size, e.compress_size) for e in entries) > size:
        raise ValueError("is a damaged zip archive: its files are larger than itself")
    return prefix


# ---- what the pickle can call -------------------------------------------------------------------


def _ordered_dict(items: Any = ()) -> OrderedDict[Any, Any]:
    if items:
        raise ValueError("an OrderedDict is filled in another way than PyTorch does")
    return OrderedDict()


def _parameter(data: Tensor, requires_grad: bool, hooks: object) -> Parameter:
    if not isinstance(data, Tensor):
        raise ValueError("a Parameter is made of what is no tensor")
    return Parameter.make_const(data.realize_cached_data(), requires_grad=bool(requires_grad))


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as a pickle of protocol 2 writes them."""
    if type(text) is not str or codecs.lookup(str(encoding)).name != "iso8859-1":
        raise ValueError("bytes are written in another way than Python's")
    return text.encode("latin1")
