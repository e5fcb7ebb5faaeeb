"""Reads CIFAR-10's pickled batches without trusting them.

A pickle is a program, and Python's loader runs it. Here its opcodes are first looked through
without being run (a pass that also finds lengths and memory slots that the file cannot fill);
then it runs with stand-ins for the few NumPy names that such files use, so that a file reaches no
function outside of this module.

Not imported by `needle.data` itself: pickle and pickletools would slow `import needle`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np

# Data, and the three ways of building objects that NumPy's pickles use (of all protocols).
OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1",
    "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE",
    "BUILD",
))  # fmt: skip
MAX_OPCODES = 1_000_000  # 10,000 images need 20,000, or 80,000 in files that Python 3 wrote anew
MAX_TUPLES = 25_000  # one an image at most; hashing deeper nests than this overflows the C stack
INTEGERS = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))


def load_pickled_batch(content: bytes) -> dict[str, Any]:
    """The dict that a pickled batch holds: keys as str, arrays as NumPy arrays (read-only).

    Raises ValueError saying what the pickle asks for or what is wrong with it.
    """
    try:
        _look_through(content)
        file = io.BytesIO(content)
        batch = _Unpickler(file, len(content)).load()
        rest = len(content) - file.tell()
    except Exception as error:  # a broken pickle may raise anything
        reason = " ".join((str(error) or type(error).__name__).split())
        raise ValueError(reason[:300]) from None
    if rest:
        raise ValueError(f"{rest:,} bytes follow its end")
    if type(batch) is not dict:
        raise ValueError(f"it holds an object of type {type(batch).__name__}, not a dict")
    return {_text(key): _unwrapped(value) for key, value in batch.items()}


def _look_through(content: bytes) -> None:
    """Raise ValueError for opcodes, lengths and memory slots that no batch needs."""
    tuples = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in OPCODES:
            raise ValueError(f"it uses the pickle opcode {opcode.name}, which no batch needs")
        if argument is not None and opcode.name.endswith("PUT") and argument > count:
            raise ValueError(f"it asks for {argument:,} places in memory")
        tuples += "TUPLE" in opcode.name
        if count > MAX_OPCODES or tuples > MAX_TUPLES:
            raise ValueError("it has far more parts than a batch")


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for the names that a batch uses, and refuses all others."""

    def __init__(self, file: io.BytesIO, size: int) -> None:
        super().__init__(file, encoding="bytes")
        self._names: dict[tuple[str, str], object] = {
            ("numpy", "ndarray"): "numpy.ndarray",
            ("numpy", "dtype"): _DType,
            ("_codecs", "encode"): _Encode(size),
        }
        for core in ("numpy.core", "numpy._core"):
            self._names[core + ".multiarray", "_reconstruct"] = _Array
            self._names[core + ".numeric", "_frombuffer"] = _Buffer

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            asked = f"{module}.{name}"[:100]
            raise ValueError(f"it tries to load {asked!r}, which no batch needs") from None


class _Encode:
    """`_codecs.encode`: how protocol 2 of Python 3 writes bytes. At most `budget` of them."""

    __slots__ = ("budget",)

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def __call__(self, text: object, encoding: object) -> bytes:
        if type(text) is not str or encoding != "latin1":
            raise ValueError(
                f"it encodes something other than text as latin1: {str(encoding)[:50]!r}"
            )
        self.budget -= len(text)
        if self.budget < 0:
            raise ValueError("its strings are longer than the file")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise ValueError("it sets the state of a function")


class _DType:
    """`numpy.dtype(name, align, copy)`, integers only."""

    __slots__ = ("name", "order")

    def __init__(self, name: object, align: object = False, copy: object = False) -> None:
        self.name = _text(name)
        self.order = "|"
        if self.name not in INTEGERS:
            raise ValueError(f"it holds an array of dtype {self.name[:50]!r}, expected integers")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])
        if self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"it holds an array of byte order {self.order[:50]!r}")

    @property
    def value(self) -> np.dtype:
        return np.dtype(self.order + self.name)


class _Array:
    """`_reconstruct(numpy.ndarray, (0,), b"b")`, filled by its state."""

    __slots__ = ("value",)

    def __init__(self, kind: object, shape: object, typecode: object) -> None:
        if kind != "numpy.ndarray":
            raise ValueError("it reconstructs something other than a numpy.ndarray")
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


class _Buffer:
    """`_frombuffer(buffer, dtype, shape, order)`: how protocol 5 writes arrays."""

    __slots__ = ("value",)

    def __init__(self, content: object, dtype: object, shape: Any, order: Any) -> None:
        self.value = _array(content, dtype, shape, order)


def _array(content: object, dtype: object, shape: Any, order: Any) -> np.ndarray:
    if type(dtype) is not _DType or not isinstance(content, (bytes, bytearray)):
        raise ValueError("it holds an array whose elements are no numbers")
    lengths = shape if type(shape) is tuple and len(shape) <= 2 else (-1,)
    if not all(type(n) is int and 0 <= n < 2**31 for n in lengths):
        raise ValueError(
            f"it holds an array of shape {str(shape)[:80]}, expected one or two lengths"
        )
    expected = prod(shape) * dtype.value.itemsize
    if expected != len(content):
        raise ValueError(
            f"it holds an array of shape {shape}, which takes {expected:,} bytes, in "
            f"{len(content):,}"
        )
    return np.frombuffer(bytes(content), dtype.value).reshape(shape, order=order)


def _text(value: object) -> str:
    """A str or bytes as str; Python 2 wrote bytes where Python 3 writes str."""
    if type(value) is bytes:
        return value.decode("latin1")
    if type(value) is not str:
        raise ValueError(f"it has a name of type {type(value).__name__}, expected text")
    return value


def _unwrapped(value: object) -> object:
    return value.value if isinstance(value, (_Array, _Buffer)) else value
