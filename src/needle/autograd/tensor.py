"""Tensors: arrays that remember how they were computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend_ndarray import NDArray, Shape, as_dtype, is_float
from ..backend_ndarray.dtypes import FLOAT32, checked_real, own_dtype
from ..backend_ndarray.layout import checked_shape, unpack, wholes
from ..backend_selection import Device, as_device, default_float
from ..given import not_a_tensor
from ..typing import DTypeLike, ShapeLike
from . import operators
from .answers import Count, Size
from .eager import eager_view
from .hooks import Handle
from .torch_methods import TorchMethods
from .tracing import _traces

if TYPE_CHECKING:
    from .. import ops


class Tensor(TorchMethods):
    """An array that remembers how it was computed.

    `array` is a Tensor, an NDArray, a NumPy array, or Python numbers in lists; nothing makes an
    empty one. It requires a gradient by default. Two or more integers are lengths, as in PyTorch:
    `Tensor(2, 3)` is to be written to, and requires no gradient by default. Without `dtype`,
    floats become float32 (they keep NumPy's width under NEEDLE_BACKEND=np), integer and bool
    arrays keep their dtype, and lists of Python integers become floats. Integer tensors never
    require a gradient. Raises TypeError for data that is not numeric.
    """

    __slots__ = ()
    __array_priority__ = 1000.0  # a NumPy array on the left leaves the operator to Tensor

    def __init__(
        self,
        array: object = (),
        *more: int,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        requires_grad: bool | None = None,
    ) -> None:
        if more or isinstance(array, Size):
            sizes = checked_shape("Tensor", (array, *more))
            wanted = as_dtype(default_float() if dtype is None else dtype)
            data, requires_grad = as_device(device).empty(sizes, wanted), bool(requires_grad)
        else:
            data = _as_ndarray(array, device, dtype)
        self._init(None, (), data, requires_grad is not False and is_float(data.dtype))

    if TYPE_CHECKING:
        cached_data: NDArray
        inputs: Sequence[Tensor]  # of the few ops that take TensorTuples these differ

        def realize_cached_data(self) -> NDArray: ...

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
            raise TypeError(f"[data] must be set to a Tensor, {not_a_tensor(value)}")
        if value.dtype != self.dtype:
            raise TypeError(f"[data] of dtype {self.dtype} cannot be set to {value.dtype} data")
        self._replace_data(value.realize_cached_data())

    def detach(self) -> Tensor:
        """A Tensor over the same data that no gradient flows through.

        Returns
        -------
        Tensor
            It shares the memory: what is written into one shows in the other.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([1.0]).detach().requires_grad
        False
        """
        self._take_memory()
        return Tensor.make_const(self.realize_cached_data())

    def _take_memory(self) -> None:
        """Own the memory that a stored gradient may share with others."""
        if self.op is not None and self.op.is_deferred:
            self.op.take_memory(self)

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        data = self.cached_data
        if data is None or _traces:  # one call less of what every op asks for
            data = self.realize_cached_data()
        return data._shape

    @property
    def dtype(self) -> np.dtype:
        """The element type; equal to its name, as in `x.dtype == "float32"`."""
        data = self.cached_data
        if data is None or _traces:
            data = self.realize_cached_data()
        return data._dtype

    @property
    def device(self) -> Device:
        """The device that the data lives on."""
        return self.realize_cached_data()._device

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Count:
        """The number of elements; `x.size()` is the shape and `x.size(0)` the length of an axis."""
        data = self.realize_cached_data()
        return Count(data.size, data._shape)

    def numpy(self) -> np.ndarray:
        """The data as a NumPy array; float32 for bfloat16.

        Returns
        -------
        numpy.ndarray
            A copy.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([1.0, 2.0]).numpy().tolist()
        [1.0, 2.0]
        """
        return self.realize_cached_data().numpy()

    def item(self) -> Any:
        """The only element as a Python number.

        Returns
        -------
        float, int or bool

        Raises
        ------
        ValueError
            If there is not exactly one element.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([1.0, 2.0]).sum().item()
        3.0
        """
        return self.realize_cached_data().item()

    def tolist(self) -> Any:
        """The elements as nested Python lists.

        Returns
        -------
        list, or a number for a 0-d tensor

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([[1.0], [2.0]]).tolist()
        [[1.0], [2.0]]
        """
        return self.realize_cached_data().tolist()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        self._take_memory()
        return self.realize_cached_data().__array__(dtype, copy)

    def __dlpack__(self, **options: Any) -> object:
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

    def __format__(self, spec: str) -> str:
        if not spec or self.ndim == 0:
            return format(self.item() if spec else str(self), spec)
        try:
            return format(str(self), spec)
        except ValueError:
            raise ValueError(
                f"[format] {spec!r} is for one number, and this Tensor has shape {self.shape}: "
                "write x.item() of one element, or x.mean() of all"
            ) from None

    def __pos__(self) -> Tensor:
        return self

    def __round__(self, decimals: int | None = None) -> Tensor:
        return ops.round(self, decimals or 0)

    def to(
        self,
        *targets: DTypeLike | Device | Tensor,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: str | None = None,
    ) -> Tensor:
        """This tensor on a device, or converted to a dtype, or both; differentiable.

        Parameters
        ----------
        *targets : device, dtype, the name of either, or Tensor
            Where to and to what; a Tensor stands for its device and dtype.
        device : device or its name, optional
            Where to.
        dtype : dtype or its name, optional
            What is converted to.
        non_blocking : bool, default False
            A GPU copies from pinned memory without waiting. The memory must not change meanwhile.
        copy : bool, default False
            Whether the result has memory of its own in any case.
        memory_format : optional
            Accepted as in PyTorch; needle chooses the layout itself.

        Returns
        -------
        Tensor
            This tensor itself where it is there already and has that dtype.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([1.5]).to("cpu").to("float64").dtype
        dtype('float64')
        """
        if len(targets) == 2 and isinstance(targets[1], bool):  # x.to(device, non_blocking)
            targets, non_blocking = targets[:1], targets[1]
        given: list[DTypeLike | Device] = []
        for target in targets:
            given += [target.device, target.dtype] if isinstance(target, Tensor) else [target]
        given += [x for x in (device, dtype) if x is not None]
        if not given and memory_format is None:
            raise TypeError("[to] needs a device or a dtype")
        moved = self
        for each in given:
            moved = ops.to(moved, each, non_blocking)
        return ops.clone(moved) if copy and moved is self else moved

    def astype(self, dtype: DTypeLike) -> Tensor:
        """This tensor converted to `dtype`; differentiable between float dtypes.

        Parameters
        ----------
        dtype : dtype or its name

        Returns
        -------
        Tensor

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.Tensor([1.7, -1.7]).astype("int64")
        needle.Tensor([ 1 -1])
        """
        return ops.to(self, as_dtype(dtype))

    # ---- reverse mode -----------------------------------------------------------------------

    def backward(
        self,
        out_grad: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        *,
        gradient: Tensor | None = None,
        accumulate: bool = False,
    ) -> None:
        """Compute the gradient of this tensor with respect to everything it was made from.

        Sets `.grad` on every value reached, replacing what was there. PyTorch adds instead:
        `accumulate=True` does so. A graph stays as long as its result, and gradients can be
        differentiated, so that `retain_graph` and `create_graph` change nothing.

        Parameters
        ----------
        out_grad : Tensor, optional
            The gradient of this tensor, of its shape. Ones by default.
        retain_graph : bool, optional
            Accepted as in PyTorch.
        create_graph : bool, default False
            Accepted as in PyTorch.
        gradient : Tensor, optional
            PyTorch's name of `out_grad`.
        accumulate : bool, default False
            Whether the gradients of leaves are added to those that they have.

        Raises
        ------
        RuntimeError
            If nothing was recorded, or if a recorded value has been modified since.
        TypeError
            If the data are integers.
        ValueError
            If `out_grad` has another shape or is on another device.

        Examples
        --------
        >>> import needle as ndl
        >>> x = ndl.Tensor([1.0, 2.0])
        >>> (x * x).sum().backward()
        >>> x.grad
        needle.Tensor([2. 4.])
        """
        from .reverse import check_seed, compute_gradient_of_variables  # which is above

        seed = check_seed(self, gradient if out_grad is None else out_grad)
        compute_gradient_of_variables(self, seed, accumulate)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Run a function with this tensor's gradient in every backward pass.

        What it returns, unless that is None, takes the place of the gradient. A compiled function
        runs the hooks that there were when it was compiled.

        Parameters
        ----------
        hook : callable
            Takes the gradient, of this tensor's shape.

        Returns
        -------
        Handle
            Its `remove()` takes the function away.

        Raises
        ------
        RuntimeError
            If this tensor requires no gradient.

        Examples
        --------
        >>> import needle as ndl
        >>> x = ndl.Tensor([1.0, 2.0])
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> x.sum().backward()
        >>> x.grad
        needle.Tensor([10. 10.])
        """
        if not self.requires_grad:
            raise RuntimeError("[register_hook] the tensor requires no gradient")
        return Handle(self, hook)

    # ---- operators: operators.py ----------------------------------------------------------------

    __add__ = __radd__ = operators.add
    __mul__ = __rmul__ = operators.mul
    __sub__ = operators.sub
    __rsub__ = operators.rsub
    __truediv__ = operators.truediv
    __rtruediv__ = operators.rtruediv
    __floordiv__ = operators.floordiv
    __rfloordiv__ = operators.rfloordiv
    __mod__ = operators.mod
    __rmod__ = operators.rmod
    __divmod__ = operators.divmod_
    __rdivmod__ = operators.rdivmod
    __pow__ = operators.pow_
    __rpow__ = operators.rpow
    __matmul__ = operators.matmul
    __rmatmul__ = operators.rmatmul
    __and__ = __rand__ = operators.and_
    __or__ = __ror__ = operators.or_
    __xor__ = __rxor__ = operators.xor
    __lshift__ = operators.lshift
    __rlshift__ = operators.rlshift
    __rshift__ = operators.rshift
    __rrshift__ = operators.rrshift
    __neg__ = operators.neg
    __abs__ = operators.abs_
    __invert__ = operators.invert
    __eq__ = operators.eq  # type: ignore[assignment]
    __ne__ = operators.ne  # type: ignore[assignment]
    __lt__ = operators.lt
    __le__ = operators.le
    __gt__ = operators.gt
    __ge__ = operators.ge
    __hash__ = object.__hash__
    __getitem__ = operators.getitem
    __setitem__ = operators.setitem
    _update = operators.update
    __iadd__ = operators.iadd
    __isub__ = operators.isub
    __imul__ = operators.imul
    __itruediv__ = operators.itruediv
    __ipow__ = operators.ipow
    __iand__ = operators.iand
    __ior__ = operators.ior
    __ixor__ = operators.ixor
    __ilshift__ = operators.ilshift
    __irshift__ = operators.irshift
    __imatmul__ = operators.imatmul

    # ---- arrangements; the functions of needle.ops are methods, too: see methods.py ------------

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed: of a matrix, its transpose."""
        return ops.permute(self, tuple(reversed(range(len(self.shape)))))

    def reshape(self, *shape: ShapeLike) -> Tensor:
        """The same elements, in row-major order, under another shape.

        Parameters
        ----------
        *shape : int or sequence of int
            One length may be -1; it follows from the others.

        Returns
        -------
        Tensor, of that shape

        Raises
        ------
        ValueError
            If the number of elements differs.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.ones(2, 6).reshape(3, -1).shape
        (3, 4)
        """
        view = eager_view(ops.Reshape, self, shape)
        if view is not None:
            return view
        return ops.reshape(self, wholes(unpack(shape), "reshape", "the shape"))

    def permute(self, *axes: ShapeLike) -> Tensor:
        """The axes in another order.

        Parameters
        ----------
        *axes : int or sequence of int
            Axis i of the result is axis `axes[i]` of this tensor.

        Returns
        -------
        Tensor

        Raises
        ------
        ValueError
            If `axes` does not name each axis once.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.ones(2, 3, 4).permute(2, 0, 1).shape
        (4, 2, 3)
        """
        return ops.permute(self, wholes(unpack(axes), "permute", "axes"))


def _as_ndarray(array: object, device: Device | str | None, dtype: DTypeLike | None) -> NDArray:
    """The data of a new Tensor; shares memory only with a Tensor or NDArray that fits as it is."""
    if isinstance(array, Tensor):
        array = array.realize_cached_data()
    if isinstance(array, NDArray):
        moved = array if device is None else array.to(device)
        return moved if dtype is None else moved.astype(dtype)
    if isinstance(array, (list, tuple)) and any(isinstance(x, Tensor) for x in array):
        array = [np.asarray(x) for x in array]
    is_array = isinstance(array, np.ndarray)
    host: np.ndarray = array if isinstance(array, np.ndarray) else np.asarray(array)
    dtype = as_dtype(_default_dtype(host, is_array) if dtype is None else dtype)
    if not is_array:  # numbers in lists are looked at more closely than arrays
        host = checked_real(host, True, dtype, "Tensor")
    return NDArray(host, device=device, dtype=dtype)


def _default_dtype(host: np.ndarray, is_array: bool) -> DTypeLike:
    kind = host.dtype.kind
    if kind in "iub" and (is_array or kind == "b"):
        return own_dtype(host.dtype)
    is_single = is_array and kind == "f" and host.dtype.itemsize == FLOAT32.itemsize
    return default_float(FLOAT32 if is_single else None)
