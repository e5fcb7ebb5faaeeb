"""The reference device: every primitive in the most obvious NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..typing import Shape
from .device import BackendDevice
from .dtypes import BFLOAT16, bfloat16_bits, bfloat16_values, convert, is_stored

if TYPE_CHECKING:
    from .ndarray import NDArray

_Unary: TypeAlias = Callable[[np.ndarray], np.ndarray]
_Binary: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


class NumpyBuffer:
    """A flat NumPy array that serves as the memory of NDArrays; of uint16 for bfloat16."""

    __slots__ = ("__weakref__", "array", "dtype", "shared", "version")

    def __init__(self, array: np.ndarray, dtype: np.dtype | None = None) -> None:
        self.array = array
        self.dtype = array.dtype if dtype is None else dtype
        self.version, self.shared = 0, False  # kept by `versions`

    def ptr(self) -> int:
        """The address of the first element."""
        return self.array.ctypes.data

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""
        return self.array.nbytes


def _erf(x: np.ndarray) -> np.ndarray:
    # math.erf is exact to the last place; NumPy has no erf of its own.
    import math

    return np.vectorize(math.erf, otypes=[x.dtype])(x) if x.size else x


def _erfc(x: np.ndarray) -> np.ndarray:
    import math

    return np.vectorize(math.erfc, otypes=[x.dtype])(x) if x.size else x


def _in_float64(function: Callable[..., np.ndarray]) -> _Unary:
    """NumPy's own float32 loops differ from processor to processor, by up to 4 ulp."""
    return lambda x: function(x, dtype=np.float64).astype(x.dtype)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a non-positive number only: no overflow on either side.
    e = np.exp(-np.abs(x))
    result: np.ndarray = np.where(x >= 0, 1 / (1 + e), e / (1 + e))
    return result


def _sign(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.bool_ else np.sign(x)


def _integer_safe(op: _Binary) -> _Binary:
    """Integer division and remainder by zero give 0 on every device."""

    def apply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if np.issubdtype(np.result_type(a), np.integer):
            return np.where(b == 0, 0, op(a, np.where(b == 0, 1, b)))
        return op(a, b)

    return apply


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers to negative powers are cut towards 0, as in PyTorch; NumPy refuses them."""
    if not np.issubdtype(np.result_type(a, b), np.signedinteger):
        powers: np.ndarray = np.power(a, b)
        return powers
    odd = np.where(b % 2 == 0, 1, -1)
    inverse = np.where(a == 1, 1, np.where(a == -1, odd, 0))
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0))).astype(a.dtype)


UNARY: dict[str, _Unary] = {
    "neg": np.negative, "abs": np.abs, "sign": _sign, "exp": np.exp, "log": np.log,
    "log1p": np.log1p, "expm1": np.expm1, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x, "square": np.square,
    "sin": _in_float64(np.sin), "cos": _in_float64(np.cos),
    "tanh": np.tanh, "sigmoid": _sigmoid, "erf": _erf, "relu": lambda x: np.maximum(x, 0),
    "floor": np.floor, "ceil": np.ceil, "round": np.round, "isnan": np.isnan,
    "isfinite": np.isfinite, "logical_not": np.logical_not,
    "tan": _in_float64(np.tan), "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erfc": _erfc, "exp2": np.exp2, "log2": np.log2, "log10": np.log10,
}  # fmt: skip
BINARY: dict[str, _Binary] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floor_div": _integer_safe(np.floor_divide), "mod": _integer_safe(np.mod), "pow": _power,
    "maximum": np.maximum, "minimum": np.minimum,
    "relu_grad": lambda g, y: np.where(y <= 0, np.zeros_like(g), g),
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "left_shift": np.left_shift, "right_shift": np.right_shift,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or,
}  # fmt: skip


def pairwise_sum(x: np.ndarray, axes: int | Shape, keepdims: bool = False) -> np.ndarray:
    """The sums over `axes`, pairwise along each: NumPy does that where the elements lie one after
    the other, and adds one row after the other elsewhere. The error is O(log n) roundings."""
    axes = tuple(sorted(axis % x.ndim for axis in np.atleast_1d(axes)))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    lines = np.ascontiguousarray(x.transpose(*kept, *axes))
    sums = lines.reshape(*(x.shape[axis] for axis in kept), -1 if x.size else 0).sum(-1)
    return np.expand_dims(sums, axes) if keepdims else sums


def running_sums(x: np.ndarray, axis: int) -> np.ndarray:
    """`np.cumsum` in blocks whose own running sums are added: its error does not grow with n."""
    length, block = x.shape[axis], 32
    if length <= block or x.dtype.kind != "f":
        return np.cumsum(x, axis=axis)
    lines = np.moveaxis(x, axis, -1)
    full = length // block * block
    blocks = np.cumsum(lines[..., :full].reshape(*lines.shape[:-1], -1, block), axis=-1)
    before = running_sums(blocks[..., -1], -1)
    blocks[..., 1:, :] += before[..., :-1, None]
    rest = np.cumsum(lines[..., full:], axis=-1) + before[..., -1:]
    sums = np.concatenate((blocks.reshape(*lines.shape[:-1], full), rest), axis=-1)
    return np.moveaxis(sums, -1, axis)


def _sum(x: np.ndarray, axis: int | Shape, keepdims: bool) -> np.ndarray:
    # Integers are exact in any order; they become int64.
    return (pairwise_sum if x.dtype.kind == "f" else np.sum)(x, axis, keepdims=keepdims)


REDUCE: dict[str, Callable[..., np.ndarray]] = {
    "sum": _sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
}
ARGREDUCE: dict[str, Callable[..., np.ndarray]] = {"argmax": np.argmax, "argmin": np.argmin}


class NumpyDevice(BackendDevice):
    """`cpu_numpy()`: slow, obvious, and the definition the other devices are tested against."""

    name = "cpu_numpy"

    def takes_stored(self, kernel: str, dtype: np.dtype) -> bool:
        return kernel == "matmul"

    def allocate(self, size: int, dtype: np.dtype) -> NumpyBuffer:
        return NumpyBuffer(np.empty(size, dtype="u2" if dtype is BFLOAT16 else dtype), dtype)

    def wrap(self, array: np.ndarray) -> NumpyBuffer:
        return NumpyBuffer(array)

    def view(self, x: NDArray) -> np.ndarray:
        """The elements where they are; the values of bfloat16 ones."""
        stored = self._stored(x)
        return bfloat16_values(stored) if x._dtype is BFLOAT16 else stored

    def _stored(self, x: NDArray) -> np.ndarray:
        itemsize = x._dtype.itemsize
        return np.ndarray(
            x._shape,
            dtype=x._handle.array.dtype,
            buffer=x._handle.array,
            offset=x._offset * itemsize if x.size else 0,
            strides=tuple(s * itemsize for s in x._strides),
        )

    def fill(self, out: NDArray, value: float) -> None:
        self._store(out, value)

    def copy(self, x: NDArray, out: NDArray) -> None:
        self._store(out, self.view(x))

    def _store(self, out: NDArray, value: np.ndarray | float) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            if is_stored(out._dtype):  # rounded from float32, as on the other devices
                value = np.asarray(value).astype(np.float32)
            elif out._dtype.kind in "iu":
                value = convert(np.asarray(value), out._dtype)
            if out._dtype is BFLOAT16:
                value = bfloat16_bits(np.asarray(value))
            self._stored(out)[...] = value

    def unary(self, op: str, x: NDArray, out: NDArray) -> None:
        with np.errstate(all="ignore"):
            self._store(out, UNARY[op](self.view(x)))

    def binary(self, op: str, a: NDArray, b: NDArray, out: NDArray) -> None:
        with np.errstate(all="ignore"):
            self._store(out, BINARY[op](self.view(a), self.view(b)))

    def binary_scalar(
        self, op: str, x: NDArray, scalar: float, out: NDArray, reverse: bool = False
    ) -> None:
        values, number = self.view(x), np.asarray(scalar).astype(x._dtype)
        with np.errstate(all="ignore"):
            self._store(out, BINARY[op](*((number, values) if reverse else (values, number))))

    def where(self, cond: NDArray, a: NDArray, b: NDArray, out: NDArray) -> None:
        self._store(out, np.where(self.view(cond), self.view(a), self.view(b)))

    def reduce(self, op: str, x: NDArray, axes: tuple[int, ...], out: NDArray) -> None:
        with np.errstate(all="ignore"):
            self._store(out, REDUCE[op](self.view(x), axis=axes, keepdims=True))

    def argreduce(self, op: str, x: NDArray, axis: int, out: NDArray) -> None:
        self._store(out, ARGREDUCE[op](self.view(x), axis=axis, keepdims=True))

    def cumsum(self, x: NDArray, axis: int, out: NDArray) -> None:
        with np.errstate(all="ignore"):
            self._store(out, running_sums(self.view(x), axis))

    def argsort(self, x: NDArray, axis: int, descending: bool, out: NDArray) -> None:
        values = self.view(x)
        if descending:
            # Sorting the reversed array and reversing back keeps equal elements in order.
            order = np.argsort(np.flip(values, axis), axis=axis, kind="stable")
            order = np.flip(values.shape[axis] - 1 - order, axis)
        else:
            order = np.argsort(values, axis=axis, kind="stable")
        self._store(out, order)

    def matmul(self, a: NDArray, b: NDArray, out: NDArray, bias: NDArray | None = None) -> None:
        left, right = self.view(a), self.view(b)
        if is_stored(out._dtype):
            left, right = left.astype(np.float32), right.astype(np.float32)
        with np.errstate(all="ignore"):
            product = np.matmul(left, right)
            self._store(out, product if bias is None else product + self.view(bias))

    def gather_rows(self, x: NDArray, index: NDArray, out: NDArray) -> None:
        self._store(out, self.view(x)[_checked_rows(self.view(index), x._shape[0])])

    def scatter_add_rows(self, out: NDArray, index: NDArray, src: NDArray) -> None:
        sums, added, n = self.view(out), self.view(src), out._shape[0]
        rows = _checked_rows(self.view(index), n)
        if len(rows) > FEW and sums.dtype.kind == "f":
            rows = np.where(rows < 0, rows + n, rows)
            often = np.bincount(rows, minlength=n)[rows] > FEW
            _add_pairwise(sums, rows[often], added[often])
            rows, added = rows[~often], added[~often]
        np.add.at(sums, rows, added)


FEW = 1024  # additions to one row that are made one after the other


def _add_pairwise(sums: np.ndarray, rows: np.ndarray, added: np.ndarray) -> None:
    """sums[rows] += added, where the numbers for each row are added pairwise first."""
    order = np.argsort(rows, kind="stable")
    distinct, starts = np.unique(rows[order], return_index=True)
    for row, places in zip(distinct, np.split(order, starts[1:]), strict=False):
        sums[row] += pairwise_sum(added[places], 0)


def _checked_rows(index: np.ndarray, n: int) -> np.ndarray:
    bad = (index < -n) | (index >= n)
    if bad.any():
        raise IndexError(f"index {index[bad][0]} is out of range for an axis of length {n}")
    return index
