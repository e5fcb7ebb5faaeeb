"""Tensors: arrays that remember how they were computed."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend_ndarray import NDArray, Shape, as_dtype, is_float
from ..backend_ndarray.dtypes import FLOAT32, check_update_dtype, checked_real, own_dtype
from ..backend_ndarray.layout import check_update
from ..backend_selection import Device, default_float
from ..synonyms import accepts_synonyms
from .modes import _mode
from .value import Value

if TYPE_CHECKING:
    from .. import ops


class TensorTuple(Value):
    """Several tensors that one operation returns or takes together."""

    __slots__ = ()

    @classmethod
    def make_const(cls, data: Any, *, requires_grad: bool = False) -> TensorTuple:
        return super().make_const(tuple(data), requires_grad=requires_grad)

    def __len__(self) -> int:
        return len(self.realize_cached_data())

    def __getitem__(self, index: int) -> Tensor:
        return ops.tuple_get_item(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def tuple(self) -> tuple[Tensor, ...]:
        """The members as a Python tuple."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"needle.TensorTuple{self.tuple()}"

    def __add__(self, other: TensorTuple) -> TensorTuple:
        if not isinstance(other, TensorTuple):
            return NotImplemented
        if len(self) != len(other):
            raise ValueError(f"[add] tuples of {len(self)} and {len(other)} tensors differ")
        return ops.make_tuple(*[a + b for a, b in zip(self, other, strict=True)])

    def detach(self) -> TensorTuple:
        """The same data without history."""
        return TensorTuple.make_const(self.realize_cached_data())

    def numpy(self) -> list[np.ndarray]:
        """A NumPy copy of every member."""
        return [x.numpy() for x in self.realize_cached_data()]


class SparseGradients:
    """The gradient of a TensorTuple while it is accumulated: only of the members that have one.

    The gradients of the T members of a sequence arrive one by one. Adding T full tuples would take
    O(T²) time.
    """

    def __init__(self, whole: Value, gradients: dict[int, Tensor]) -> None:
        self.whole, self.gradients = whole, gradients

    def __add__(self, other: SparseGradients | TensorTuple) -> SparseGradients:
        added = other.gradients if isinstance(other, SparseGradients) else dict(enumerate(other))
        both = {i: g + added[i] if i in added else g for i, g in self.gradients.items()}
        return SparseGradients(self.whole, {**added, **both})

    def __radd__(self, other: TensorTuple) -> SparseGradients:
        return SparseGradients(self.whole, dict(enumerate(other))) + self

    def to_tuple(self) -> TensorTuple:
        """The gradients of all members; zeros for members without a gradient."""
        arrays = self.whole.realize_cached_data()
        return ops.make_tuple(
            *(
                self.gradients[i]
                if i in self.gradients
                else Tensor.make_const(x._device.zeros(x._shape, x._dtype))
                for i, x in enumerate(arrays)
            )
        )


class Tensor(Value):
    """An array that remembers how it was computed.

    `array` is a Tensor, an NDArray, a NumPy array, or Python numbers in lists. Without `dtype`,
    floats become float32 (they keep NumPy's width under NEEDLE_BACKEND=np), integer and bool
    arrays keep their dtype, and lists of Python integers become floats. Integer tensors never
    require a gradient. Raises TypeError for data that is not numeric.
    """

    __slots__ = ()
    __array_priority__ = 1000.0  # a NumPy array on the left leaves the operator to Tensor

    def __init__(
        self,
        array: Any,
        *,
        device: Device | str | None = None,
        dtype: Any = None,
        requires_grad: bool = True,
    ) -> None:
        data = _as_ndarray(array, device, dtype)
        self._init(None, (), data, requires_grad and is_float(data.dtype))

    @staticmethod
    def _differentiable(data: NDArray) -> bool:
        return is_float(data._dtype)

    # ---- data -------------------------------------------------------------------------------

    @property
    def data(self) -> Tensor:
        """The same data without history. Assigning a Tensor of equal dtype replaces the data."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"[data] must be set to a Tensor, got {type(value).__name__}")
        if value.dtype != self.dtype:
            raise TypeError(f"[data] of dtype {self.dtype} cannot be set to {value.dtype} data")
        self._replace_data(value.realize_cached_data())

    def detach(self) -> Tensor:
        """A Tensor over the same data that no gradient flows through."""
        self._take_memory()
        return Tensor.make_const(self.realize_cached_data())

    def _take_memory(self) -> None:
        """Own the memory that a stored gradient may share with others."""
        if self.op is not None and self.op.is_deferred:
            self.op.take_memory(self)

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self.realize_cached_data()._shape

    @property
    def dtype(self) -> np.dtype:
        """The element type; equal to its name, as in `x.dtype == "float32"`."""
        return self.realize_cached_data()._dtype

    @property
    def device(self) -> Device:
        """The device that the data lives on."""
        return self.realize_cached_data()._device

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.realize_cached_data().size

    def numpy(self) -> np.ndarray:
        """A NumPy array with a copy of the data; float32 for bfloat16."""
        return self.realize_cached_data().numpy()

    def item(self) -> Any:
        """The only element as a Python scalar. Raises ValueError when there is not exactly one."""
        return self.realize_cached_data().item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self.realize_cached_data().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._take_memory()
        return self.realize_cached_data().__array__(dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        self._take_memory()
        return self.realize_cached_data().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.realize_cached_data().__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.realize_cached_data().__index__()

    def __bool__(self) -> bool:
        return bool(self.realize_cached_data())

    def __len__(self) -> int:
        return len(self.realize_cached_data())

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"needle.Tensor({self.realize_cached_data()!s})"

    def __str__(self) -> str:
        return str(self.realize_cached_data())

    def to(self, target: Any, non_blocking: bool = False) -> Tensor:
        """This tensor on a device, or converted to a dtype; differentiable. See `ops.to`."""
        return ops.to(self, target, non_blocking)

    def astype(self, dtype: Any) -> Tensor:
        """This tensor converted to `dtype`; differentiable between float dtypes."""
        return ops.to(self, as_dtype(dtype))

    # ---- reverse mode -----------------------------------------------------------------------

    def backward(self, out_grad: Tensor | None = None) -> None:
        """Compute the gradient of this tensor with respect to everything it was made from.

        Sets `.grad` on every value reached, replacing what was there. `out_grad` (default: ones)
        has this tensor's shape. Raises RuntimeError when nothing was recorded or a recorded value
        was modified since, TypeError for integer data, ValueError for a seed of another shape.
        """
        from .reverse import check_seed, compute_gradient_of_variables  # which is above

        compute_gradient_of_variables(self, check_seed(self, out_grad))

    # ---- operators --------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Tensor:
        return ops.multiply(self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Tensor:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    # NumPy would take an operator that Tensor lacks, and give an array of NumPy's.

    def __floordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __mod__(self, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, other: Any) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __neg__(self) -> Tensor:
        return ops.negate(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __and__(self, other: Any) -> Tensor:
        return ops.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Tensor:
        return ops.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Tensor:
        return ops.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __lshift__(self, other: Any) -> Tensor:
        return ops.left_shift(self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        return ops.left_shift(other, self)

    def __rshift__(self, other: Any) -> Tensor:
        return ops.right_shift(self, other)

    def __rrshift__(self, other: Any) -> Tensor:
        return ops.right_shift(other, self)

    def __invert__(self) -> Tensor:
        return ops.bitwise_not(self)

    def __eq__(self, other: object) -> Any:
        return NotImplemented if other is None else ops.equal(self, other)

    def __ne__(self, other: object) -> Any:
        return NotImplemented if other is None else ops.not_equal(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return ops.greater_equal(self, other)

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return ops.getitem(self, key)

    # ---- in place ---------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write into the data in place, as a constant. Only outside of a recorded computation.

        Every Tensor over the same memory shows it. Raises RuntimeError for a tensor that requires a
        gradient while recording is on; a `.grad` may be written to.
        """
        if self.requires_grad and self._is_recorded():
            raise RuntimeError(
                "[setitem] a tensor that requires a gradient cannot be modified in place; write "
                "under needle.autograd.no_grad(), or use needle.where"
            )
        self._take_memory()
        data = self.realize_cached_data()
        key = ops.index_data(key)
        data[key] = value.realize_cached_data() if isinstance(value, Tensor) else value
        self._replace_data(data)

    def _is_recorded(self) -> bool:
        """Whether what is done to this tensor is recorded. A stored gradient is a plain array."""
        return _mode.recording and not (self.op is not None and self.op.is_deferred)

    def _update(self, symbol: str, in_place: Any, operation: Any, other: Any) -> Tensor:
        """`self symbol other`: in place, unless a graph is recorded.

        Aliases, views and parameters see the change. The dtype stays; the result is rounded to it.
        Of tensors in a graph `a += b` is recorded as `a = a + b`, which changes no data. Raises
        RuntimeError for a leaf that requires a gradient while recording is on, ValueError where the
        result has another shape, TypeError where its dtype does not fit (a float into integers).
        """
        if self._is_recorded():
            if self.requires_grad and self.is_leaf():
                raise RuntimeError(
                    f"[{symbol}] a leaf that requires a gradient cannot be modified in place while "
                    "operations are recorded; write under needle.autograd.no_grad(), or "
                    f"x = x {symbol[:-1]} y for a new tensor"
                )
            if self.requires_grad or (isinstance(other, Value) and other.requires_grad):
                result = operation(self, other)
                check_update(symbol, self.shape, result.shape)
                check_update_dtype(symbol, self.dtype, result.dtype)
                return result if result.dtype is self.dtype else result.astype(self.dtype)
        self._take_memory()
        data = self.realize_cached_data()
        in_place(data, other.realize_cached_data() if isinstance(other, Tensor) else other)
        self._replace_data(data)
        return self

    def __iadd__(self, other: Any) -> Tensor:
        return self._update("+=", operator.iadd, ops.add, other)

    def __isub__(self, other: Any) -> Tensor:
        return self._update("-=", operator.isub, ops.subtract, other)

    def __imul__(self, other: Any) -> Tensor:
        return self._update("*=", operator.imul, ops.multiply, other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._update("/=", operator.itruediv, ops.divide, other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._update("**=", operator.ipow, ops.power, other)

    def __iand__(self, other: Any) -> Tensor:
        return self._update("&=", operator.iand, ops.bitwise_and, other)

    def __ior__(self, other: Any) -> Tensor:
        return self._update("|=", operator.ior, ops.bitwise_or, other)

    def __ixor__(self, other: Any) -> Tensor:
        return self._update("^=", operator.ixor, ops.bitwise_xor, other)

    def __ilshift__(self, other: Any) -> Tensor:
        return self._update("<<=", operator.ilshift, ops.left_shift, other)

    def __irshift__(self, other: Any) -> Tensor:
        return self._update(">>=", operator.irshift, ops.right_shift, other)

    def __imatmul__(self, other: Any) -> Tensor:
        return self._update("@=", operator.imatmul, ops.matmul, other)

    # ---- the functions of needle.ops as methods ---------------------------------------------

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return ops.permute(self, tuple(reversed(range(self.ndim))))

    @accepts_synonyms
    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis` (None, an int or a tuple)."""
        return ops.summation(self, axis, keepdims)

    @accepts_synonyms
    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The arithmetic mean over `axis`."""
        return ops.mean(self, axis, keepdims)

    @accepts_synonyms
    def var(self, axis: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
        """The variance over `axis`, divided by n - correction."""
        return ops.var(self, axis, keepdims, correction)

    @accepts_synonyms
    def std(self, axis: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
        """The standard deviation over `axis`."""
        return ops.std(self, axis, keepdims, correction)

    @accepts_synonyms
    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The product over `axis`."""
        return ops.prod(self, axis, keepdims)

    @accepts_synonyms
    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The largest element over `axis`."""
        return ops.max(self, axis, keepdims)

    @accepts_synonyms
    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The smallest element over `axis`."""
        return ops.min(self, axis, keepdims)

    @accepts_synonyms
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first largest element along `axis`, int64."""
        return ops.argmax(self, axis, keepdims)

    @accepts_synonyms
    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first smallest element along `axis`, int64."""
        return ops.argmin(self, axis, keepdims)

    @accepts_synonyms
    def norm(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The Euclidean norm over `axis`."""
        return ops.norm(self, axis, keepdims)

    @accepts_synonyms
    def cumsum(self, axis: int) -> Tensor:
        """Running sums along `axis`."""
        return ops.cumsum(self, axis)

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """The tensor repeated along axes of length 1 to reach `shape`."""
        return ops.broadcast_to(self, shape)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements under another shape; one entry may be -1."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self, start_axis: int = 0) -> Tensor:
        """The axes from `start_axis` on joined into one."""
        return ops.reshape(self, (*self.shape[:start_axis], -1))

    @accepts_synonyms
    def transpose(self, axes: Any = None, *more: int) -> Tensor:
        """Two axes exchanged, the last two by default."""
        return ops.transpose(self, (axes, *more) if more else axes)

    def permute(self, *axes: Any) -> Tensor:
        """The axes in another order."""
        return ops.permute(self, axes[0] if len(axes) == 1 else axes)

    @accepts_synonyms
    def squeeze(self, axis: Any = None) -> Tensor:
        """Without the given axes of length 1 (all of them by default)."""
        return ops.squeeze(self, axis)

    @accepts_synonyms
    def unsqueeze(self, axis: int) -> Tensor:
        """With a new axis of length 1 at `axis`."""
        return ops.unsqueeze(self, axis)

    def matmul(self, other: Any) -> Tensor:
        """The matrix product; batch axes broadcast."""
        return ops.matmul(self, other)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        """Every element moved into [low, high]."""
        return ops.clip(self, low, high)

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """Natural logarithm."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """Square root."""
        return ops.sqrt(self)

    def abs(self) -> Tensor:
        """Absolute value."""
        return ops.abs(self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x))."""
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        """max(x, 0)."""
        return ops.relu(self)

    @accepts_synonyms
    def softmax(self, axis: int = -1) -> Tensor:
        """exp(x) divided by its sum along `axis`."""
        return ops.softmax(self, axis)

    @accepts_synonyms
    def log_softmax(self, axis: int = -1) -> Tensor:
        """The logarithm of `softmax`."""
        return ops.log_softmax(self, axis)


def _as_ndarray(array: Any, device: Device | str | None, dtype: Any) -> NDArray:
    """The data of a new Tensor; shares memory only with a Tensor or NDArray that fits as it is."""
    if isinstance(array, Tensor):
        array = array.realize_cached_data()
    if isinstance(array, NDArray):
        moved = array if device is None else array.to(device)
        return moved if dtype is None else moved.astype(dtype)
    if isinstance(array, (list, tuple)) and any(isinstance(x, Tensor) for x in array):
        array = [np.asarray(x) for x in array]
    is_array = isinstance(array, np.ndarray)
    host = array if is_array else np.asarray(array)
    dtype = as_dtype(_default_dtype(host, is_array) if dtype is None else dtype)
    if not is_array:  # numbers in lists are looked at more closely than arrays
        host = checked_real(host, True, dtype, "Tensor")
    return NDArray(host, device=device, dtype=dtype)


def _default_dtype(host: np.ndarray, is_array: bool) -> Any:
    kind = host.dtype.kind
    if kind in "iub" and (is_array or kind == "b"):
        return own_dtype(host.dtype)
    is_single = is_array and kind == "f" and host.dtype.itemsize == FLOAT32.itemsize
    return default_float(FLOAT32 if is_single else None)
