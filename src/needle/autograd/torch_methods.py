"""What a Tensor answers under PyTorch's names: its layout, its copies, and changes of itself.

The functions of `needle.ops` that are methods, such as `x.flip(0)`, are put here by
`ops/_methods.py`.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypedDict, Unpack

from ..backend_ndarray import NDArray, as_dtype, is_float, versions
from ..backend_ndarray.dtypes import check_update_dtype
from ..backend_ndarray.layout import named_shape, unpack, wholes
from ..backend_selection import Device, as_device, cpu, cuda
from ..synonyms import accepts_synonyms
from ..typing import DType, DTypeLike, Scalar, Shape, ShapeLike
from .methods import Methods
from .modes import _mode, no_grad
from .tracing import Untraceable, current_trace
from .value import Value, topological_order

if TYPE_CHECKING:
    from .. import ops
    from .tensor import Tensor


class _Source(Protocol):
    """A source of random numbers: a device, or a `needle.Generator`."""

    def rand(self, *shape: int, dtype: DTypeLike) -> NDArray: ...
    def randn(self, *shape: int, dtype: DTypeLike) -> NDArray: ...


class _NewOptions(TypedDict, total=False):
    size: ShapeLike
    dtype: DTypeLike | None
    device: Device | str | None
    requires_grad: bool


class TorchMethods(Methods):
    """A base of Tensor."""

    __slots__ = ()

    if TYPE_CHECKING:  # Tensor defines them

        @property
        def shape(self) -> Shape: ...
        @property
        def dtype(self) -> DType: ...
        @property
        def device(self) -> Device: ...
        @property
        def ndim(self) -> int: ...
        def astype(self, dtype: DTypeLike) -> Tensor: ...
        def to(self, target: Device | str) -> Tensor: ...
        def _take_memory(self) -> None: ...

    # ---- layout ---------------------------------------------------------------------------------

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        count: int = self.realize_cached_data().size
        return count

    nelement = numel

    def element_size(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def stride(self, axis: int | None = None) -> Shape | int:
        """The distance of neighbors along each axis, or along one, in elements."""
        strides: Shape = self.realize_cached_data().strides
        return strides if axis is None else strides[axis]

    def is_contiguous(self) -> bool:
        """Whether the elements are in memory one after the other in row-major order."""
        compact: bool = self.realize_cached_data().is_compact()
        return compact

    def contiguous(self, memory_format: str | None = None) -> Tensor:
        """The Tensor itself where `is_contiguous()`, else a copy that is.

        `memory_format` is accepted as in PyTorch; needle chooses the layout itself.
        """
        return _as_tensor(self) if self.is_contiguous() else self.clone()

    def clone(self, memory_format: str | None = None) -> Tensor:
        """A copy with memory of its own; gradients flow through it.

        `memory_format` is accepted as in PyTorch; needle chooses the layout itself.
        """
        return ops.clone(_as_tensor(self))

    def is_floating_point(self) -> bool:
        """Whether the dtype is one of floats."""
        return is_float(self.dtype)

    def is_complex(self) -> bool:
        """False: Tensors are not complex."""
        return False

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU."""
        return self.device.name.startswith("cuda")

    # ---- shapes ---------------------------------------------------------------------------------

    def view(self, *shape: ShapeLike) -> Tensor:
        """`reshape`, without a copy where the layout allows it."""
        return ops.reshape(_as_tensor(self), wholes(unpack(shape), "view", "the shape"))

    def reshape_as(self, other: Tensor) -> Tensor:
        """The elements in the shape of `other`."""
        return ops.reshape(_as_tensor(self), other.shape)

    @accepts_synonyms
    def split(self, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
        """Parts of length `size` along `axis`, the last one shorter where it must be.

        A sequence gives the length of each part.
        """
        return ops.split_by_size(_as_tensor(self), size, axis)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return ops.adjoint(_as_tensor(self))

    H = mH = mT

    # ---- choices --------------------------------------------------------------------------------

    def where(self, condition: Tensor, other: Tensor | Scalar) -> Tensor:
        """The elements where `condition` holds, and those of `other` elsewhere."""
        return ops.where(condition, _as_tensor(self), other)

    def equal(self, other: Tensor) -> bool:
        """Whether both have the same shape and elements; `x == y` compares element by element."""
        return self.shape == other.shape and bool(
            ops.all(ops.equal(_as_tensor(self), other)).item()
        )

    # ---- new Tensors like this one --------------------------------------------------------------

    def new_zeros(self, *shape: ShapeLike, **options: Unpack[_NewOptions]) -> Tensor:
        """Zeros of another shape, in the dtype and place of this Tensor.

        All `new_…` take `dtype`, `device` and `requires_grad`, and the shape as `size`, too.
        """
        return self._new(shape, 0, **options)

    def new_ones(self, *shape: ShapeLike, **options: Unpack[_NewOptions]) -> Tensor:
        """Ones of another shape, in the dtype and place of this Tensor."""
        return self._new(shape, 1, **options)

    def new_empty(self, *shape: ShapeLike, **options: Unpack[_NewOptions]) -> Tensor:
        """A Tensor to be written to, of another shape, in the dtype and place of this one."""
        return self._new(shape, 0, **options)

    def new_full(
        self,
        size: ShapeLike,
        fill_value: Scalar,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """Every element `fill_value`, in the dtype and place of this Tensor."""
        return self._new(
            (size,), fill_value, dtype=dtype, device=device, requires_grad=requires_grad
        )

    def new_tensor(
        self,
        data: object,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """A copy of `data` in the dtype and place of this Tensor."""
        made: Tensor = type(_as_tensor(self))(
            data,
            device=self.device if device is None else device,
            dtype=dtype or self.dtype,
            requires_grad=requires_grad,
        )
        return made

    def _new(
        self,
        shape: Sequence[ShapeLike],
        value: Scalar,
        *,
        size: ShapeLike | None = None,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
        requires_grad: bool = False,
    ) -> Tensor:
        from .tensor import Tensor

        place = self.device if device is None else as_device(device)
        wanted = as_dtype(dtype or self.dtype)
        full = place.full(named_shape("new", shape, size), value, wanted)
        made: Tensor = Tensor.make_const(full)
        return made.requires_grad_() if requires_grad else made

    # ---- gradients ------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad`, and return the Tensor.

        Raises RuntimeError for an integer Tensor, and for one that was computed and is to require
        none: `detach()` gives that.
        """
        if requires_grad and not is_float(self.dtype):
            raise RuntimeError(f"[requires_grad_] needs a floating dtype, got {self.dtype}")
        if not requires_grad and self.op is not None:
            raise RuntimeError("[requires_grad_] of a computed Tensor is True; use x.detach()")
        self.requires_grad = requires_grad
        return self

    def retain_grad(self) -> None:
        """Nothing: `backward` sets `.grad` of every Tensor on its way."""

    def detach_(self) -> Self:
        """Forget the history, and require no gradient."""
        self._drop_graph()
        return self

    # ---- in place -------------------------------------------------------------------------------

    def _is_recorded(self) -> bool:
        """Whether what is done to this tensor is recorded. A stored gradient is a plain array."""
        return _mode.recording and not (self.op is not None and self.op.is_deferred)

    def _changed_by(
        self,
        name: str,
        function: Callable[..., object],
        args: Sequence[object] = (),
        options: Mapping[str, object] | None = None,
    ) -> Self:
        """Change this Tensor into `function(self, *args, **options)`, and return it.

        Where nothing is recorded the result is written into the memory, which aliases and views
        share. Where operations are recorded, the Tensor takes the place of the result in the graph,
        and what had used it before has to go without it: its backward pass raises RuntimeError.

        Raises RuntimeError for a leaf that requires a gradient while operations are recorded, and
        for a view of a recorded Tensor; ValueError where the result has another shape, TypeError
        where its dtype does not fit.
        """
        options = options or {}
        if self._is_recorded():
            if self.requires_grad and self.op is None:
                raise RuntimeError(
                    f"[{name}] a leaf that requires a gradient cannot be modified in place while "
                    "operations are recorded; write under needle.no_grad()"
                )
            others = (*args, *options.values())
            if self.requires_grad or any(isinstance(x, Value) and x.requires_grad for x in others):
                self._move_in_graph(name, function, args, options)
                return self
        with no_grad():
            result = function(self, *args, **options)
        self._check_result(name, result)
        self._take_memory()
        data = self.realize_cached_data()
        data[...] = result.realize_cached_data()  # type: ignore[attr-defined]
        self._replace_data(data)
        return self

    def _check_result(self, name: str, result: object) -> None:
        shape, dtype = result.shape, result.dtype  # type: ignore[attr-defined]
        if shape != self.shape:
            raise ValueError(
                f"[{name}] works in place: the result has shape {shape}, the Tensor {self.shape}"
            )
        check_update_dtype(name, self.dtype, dtype)

    def _move_in_graph(
        self,
        name: str,
        function: Callable[..., object],
        args: Sequence[object],
        options: Mapping[str, object],
    ) -> None:
        """Let this Tensor be the result of `function`, applied to what it was before."""
        self._check_movable(name)
        before = type(self).__new__(type(self))
        before._init(self.op, self.inputs, self.realize_cached_data(), self.requires_grad)
        result = function(
            before,
            *(before if x is self else x for x in args),
            **{key: before if x is self else x for key, x in options.items()},
        )
        self._check_result(name, result)
        assert isinstance(result, TorchMethods)
        if result.realize_cached_data().dtype is not self.dtype:
            result = ops.to(_as_tensor(result), self.dtype)
        # What was computed from this Tensor, as in y[0] = y[1], was computed from its former self.
        past = (id(self), id(before))
        for node in topological_order([_as_tensor(result)], past, self._created):
            if any(x is self for x in node.inputs):
                node.inputs = tuple(before if x is self else x for x in node.inputs)
        self.op, self.inputs, self.requires_grad = result.op, result.inputs, result.requires_grad
        self._replace_data(result.realize_cached_data())
        self._created = versions.now

    def _check_movable(self, name: str) -> None:
        trace = current_trace()
        if trace is not None and self._created < trace.since:
            raise Untraceable(
                f"[{name}] a Tensor from outside of a compiled function cannot become part of its "
                "graph; return the new value instead"
            )
        data = self.realize_cached_data()
        for x in self.inputs if self.op is not None else ():
            given = x.realize_cached_data()
            if not isinstance(given, NDArray) or given._handle is not data._handle:
                continue
            # References of `inputs`, of this loop and of the call: nobody else can see `x`.
            if sys.getrefcount(x) > 3:
                instead = "x = x.clone()" if name == "setitem" else f"x = x.{name.rstrip('_')}(…)"
                raise RuntimeError(
                    f"[{name}] this Tensor is a view of another one that is part of a graph, which "
                    f"would not change with it; write {instead} for a new Tensor"
                )

    def copy_(self, source: Tensor | Scalar) -> Self:
        """Take the values of `source`, which broadcasts."""
        return self._changed_by("copy_", _as_values, (source,))

    def fill_(self, value: Tensor | Scalar) -> Self:
        """Every element `value`."""
        return self._changed_by("fill_", _as_values, (value,))

    def zero_(self) -> Self:
        """Every element 0."""
        return self._changed_by("zero_", _as_values, (0,))

    def normal_(
        self, mean: Scalar = 0.0, std: Scalar = 1.0, *, generator: _Source | None = None
    ) -> Self:
        """Normal numbers of a mean and a standard deviation."""
        return self._drawn("normal_", lambda x: x.randn, generator, std, mean)

    def uniform_(
        self, low: Scalar = 0.0, high: Scalar = 1.0, *, generator: _Source | None = None
    ) -> Self:
        """Uniform numbers in [low, high)."""
        return self._drawn("uniform_", lambda x: x.rand, generator, float(high) - float(low), low)

    def bernoulli_(self, p: Scalar = 0.5, *, generator: _Source | None = None) -> Self:
        """1 with probability `p`, else 0."""
        source = self.device if generator is None else generator
        drawn = source.rand(*self.shape, dtype="float32").compare("lt", p)
        return self.copy_(_constant(drawn))

    def _drawn(
        self,
        name: str,
        draws: Callable[[_Source], Callable[..., NDArray]],
        generator: _Source | None,
        scale: Scalar,
        shift: Scalar,
    ) -> Self:
        if not is_float(self.dtype):
            raise TypeError(f"[{name}] needs a floating dtype, got {self.dtype}")
        source = self.device if generator is None else generator
        numbers = draws(source)(*self.shape, dtype=self.dtype)
        return self.copy_(_constant(numbers * scale + shift))

    # ---- dtypes and devices ---------------------------------------------------------------------

    def type(self, dtype: DTypeLike | None = None) -> Tensor | str:
        """Converted to a dtype; without one, the name of the dtype."""
        return self.dtype.name if dtype is None else self.astype(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """Converted to the dtype of `other`."""
        return self.astype(other.dtype)

    def float(self) -> Tensor:
        """Converted to float32."""
        return self.astype("float32")

    def double(self) -> Tensor:
        """Converted to float64."""
        return self.astype("float64")

    def half(self) -> Tensor:
        """Converted to float16."""
        return self.astype("float16")

    def bfloat16(self) -> Tensor:
        """Converted to bfloat16."""
        return self.astype("bfloat16")

    def long(self) -> Tensor:
        """Converted to int64."""
        return self.astype("int64")

    def int(self) -> Tensor:
        """Converted to int32."""
        return self.astype("int32")

    def byte(self) -> Tensor:
        """Converted to uint8."""
        return self.astype("uint8")

    def bool(self) -> Tensor:
        """Converted to bool: whether each element is nonzero."""
        return self.astype("bool")

    def cpu(self) -> Tensor:
        """The Tensor on the CPU: itself where it is on one."""
        return _as_tensor(self) if not self.is_cuda else self.to(cpu())

    def cuda(self, device: Device | str | builtins.int | None = None) -> Tensor:
        """The Tensor on a GPU, the first by default. Raises RuntimeError where there is none."""
        if isinstance(device, builtins.int):
            device = f"cuda:{device}"
        return self.to(cuda() if device is None else device)


def _as_tensor(x: TorchMethods) -> Tensor:
    return x  # type: ignore[return-value]


def _constant(data: NDArray) -> Tensor:
    from .tensor import Tensor

    made: Tensor = Tensor.make_const(data)
    return made


def _as_values(x: Tensor, source: Tensor | Scalar) -> Tensor:
    """`source` in the shape, dtype and place of `x`."""
    if isinstance(source, TorchMethods):
        return ops.broadcast_to(ops.to(ops.to(_as_tensor(source), x.device), x.dtype), x.shape)
    return _constant(x.device.full(x.shape, source, x.dtype))
