"""Automatic differentiation: values, the operations that made them, and reverse mode.

A `Value` remembers the `Op` that made it and that op's inputs. `backward` walks this graph once
in reverse topological order and asks each op for the gradients of its inputs; those are computed
with Tensor operations, so that a gradient can itself be differentiated.
"""

from __future__ import annotations

import operator
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from .backend_ndarray import HostNumber, Shape, as_dtype, cpu_numpy, is_float, is_traced, versions
from .backend_ndarray.dtypes import FLOAT32, FLOAT64, check_update_dtype, checked_real, own_dtype
from .backend_ndarray.layout import check_update
from .backend_selection import Device, NDArray, default_float
from .contexts import Setting, decorated
from .forks import in_child
from .synonyms import accepts_synonyms

__all__ = [
    "LAZY_MODE",
    "TENSOR_COUNTER",
    "Op",
    "Tensor",
    "TensorOp",
    "TensorTuple",
    "TensorTupleOp",
    "Value",
    "compute_gradient_of_variables",
    "enable_grad",
    "find_topo_sort",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "vjp",
]

# When True, operations only record the graph; data is computed when it is first asked for.
LAZY_MODE = False
# How many Values are alive; see `__getattr__`.
TENSOR_COUNTER: int

# The layer above, needle.ops, puts itself here when it is imported: Tensor's operators and methods
# are its functions, and packages import only from lower layers.
ops: Any = None


# The tracers of the functions that are being traced, by thread id. The layer above, needle.jit,
# puts them here. Values tell them when their data or gradient is read or replaced.
_traces: dict[int, Tracer] = {}


class Tracer(Protocol):
    """The trace that this thread is making (see `needle.jit.frontend.trace`)."""

    def read(self, value: Value) -> Any:
        """The data of `value` inside the trace."""

    def write(self, value: Value, data: Any) -> bool:
        """`value` gets new data; True where it is from outside: they are for the trace to keep."""

    def new_value(self, value: Value) -> None:
        """`value` is new."""

    def read_grad(self, value: Value) -> Any:
        """The gradient of `value` inside the trace."""

    def write_grad(self, value: Value, grad: Any) -> bool:
        """As `write`, of the gradient."""

    def backward(self, values: Iterable[Value]) -> None:
        """Those of `values` that require a gradient are about to get one."""

    def used_up(self, value: Value) -> None:
        """`value` is a gradient that an optimizer has applied."""

    def paused(self) -> AbstractContextManager[None]:
        """Inside, nothing is recorded."""

    since: int  # the moment at which it began

    def guard_items(self, holder: dict[Any, Any], keys: Iterable[Any]) -> None:
        """The trace holds only while these items are what they are at its end."""

    def guard_contents(self, container: list[Any] | dict[Any, Any]) -> None:
        """The trace holds only while the objects are in `container` that are there at its end."""

    def has_made(self, obj: Any) -> bool:
        """Whether `obj`, of a watched class, was made inside: each call makes it anew, so that its
        state is that of the trace, and nothing that calls read or change."""

    def calls(self, module: Any) -> None:
        """`module`, whose mode is `module.training`, is about to be called."""

    def leaves(self, value: Value, gradient: Value) -> None:
        """`value` was computed before the trace, and `gradient` goes on from it to what it was
        computed from."""

    def asked_for_gradients(self, inputs: Iterable[Value], values: Iterable[Value]) -> None:
        """Gradients for `inputs` that go through `values`, computed outside of the function."""

    def is_set(self, holder: dict[Any, Any], key: Any) -> bool:
        """Whether the function has made an item of a dict another."""

    def host_number(self, read: Callable[[], float]) -> HostNumber:
        """A number that `read()` gives anew at every call; `read` may change state, as below."""

    def first(self, inputs: Sequence[Value]) -> AbstractContextManager[Any]:
        """Inside, a function of `inputs` runs that will run again; gives what names this run."""

    def again(self, run: Any) -> AbstractContextManager[None]:
        """Inside, the function of `run` is recorded a second time, to be run a second time: with
        the random numbers of the first. Raises where the mode of a Module is another."""

    def rerun(self, run: Any, inputs: Sequence[Value]) -> AbstractContextManager[Any]:
        """Inside, the function of `run` runs again on other `inputs`. Raises where it reads values
        from outside that it has not read then, or the mode of a Module is another."""

    def loop(
        self,
        body: Callable[[list[NDArray], list[NDArray]], tuple[list[NDArray], list[NDArray]]],
        carries: list[NDArray],
        xs: list[NDArray],
        reverse: bool,
    ) -> tuple[list[NDArray], list[NDArray]] | None:
        """What `carries, ys = body(carries, slices)` gives, run over the first axis of `xs`.

        The body is called once, on arrays without data. (The last carries, the stacked ys), or None
        where it cannot be the body of a loop: it draws random numbers or changes a Tensor.
        """

    def host_action(self, action: Callable[[], Any]) -> None:
        """`action` changes Python state at every call, and says to `changed` what undoes it."""


# Classes whose objects' attributes a trace follows: what a function reads there is what its
# compiled program depends on.
watched_classes: list[type] = []
_Class = TypeVar("_Class", bound=type)


def watched(cls: _Class) -> _Class:
    """A decorator of such a class; what is derived from it is one, too."""
    watched_classes.append(cls)
    return cls


def unwatched(obj: Any, name: str) -> Any:
    """An attribute, for code that tells the trace itself what it depends on."""
    return object.__getattribute__(obj, name)


def current_trace() -> Tracer | None:
    """The trace that this thread is making; other threads go on as ever meanwhile."""
    return _traces.get(threading.get_ident()) if _traces else None


@contextmanager
def tracing(trace: Tracer) -> Iterator[None]:
    """Inside, `trace` follows what this thread does."""
    thread = threading.get_ident()
    _traces[thread] = trace
    try:
        yield
    finally:
        del _traces[thread]


@in_child
def _forget_other_threads() -> None:
    """A forked child has one thread: the traces of the others ended with them."""
    thread = threading.get_ident()
    for other in [key for key in _traces if key != thread]:
        del _traces[other]


@contextmanager
def untraced() -> Iterator[None]:
    """Inside, arrays are made and computed at once, also while a function is being traced."""
    trace = current_trace()
    if trace is None:
        yield
        return
    with trace.paused():
        yield


# ---- modes ----------------------------------------------------------------------------------


class _Mode(threading.local):
    recording = True
    autocast: np.dtype | None = None
    # What undoes changes of Python state, in their order, while someone wants to take them back.
    undo_log: list[Callable[[], Any]] | None = None

    def __init__(self) -> None:
        # `recording` and `autocast` outside of the contexts that this thread is in.
        self.outer_recording: list[bool] = []
        self.outer_autocast: list[np.dtype | None] = []


_mode = _Mode()


@contextmanager
def undone() -> Iterator[None]:
    """What this thread changes inside and says to `changed` is as before afterwards; Tensors are
    not."""
    outer, _mode.undo_log = _mode.undo_log, []
    try:
        yield
    finally:
        undos, _mode.undo_log = _mode.undo_log, outer
        for undo in reversed(undos or ()):
            undo()


class undone_on_error:
    """What this thread changes inside and says to `changed` is as before if an exception leaves."""

    __slots__ = ("_outer",)

    def __enter__(self) -> None:
        self._outer, _mode.undo_log = _mode.undo_log, []

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        log, _mode.undo_log = _mode.undo_log or (), self._outer
        if kind is not None:
            for undo in reversed(log):
                undo()
        elif self._outer is not None:
            self._outer.extend(log)


def changed(undo: Callable[[], Any]) -> None:
    """A host action has changed Python state, such as a count of steps; `undo` takes it back."""
    if _mode.undo_log is not None:
        _mode.undo_log.append(undo)


class _SetRecording(Setting):
    recording: ClassVar[bool]
    _context: ClassVar[Any]  # the only object of the class, as `_mode` has what changes

    def __init_subclass__(cls) -> None:
        cls._context = super().__new__(cls)
        super().__init__(cls._context, _mode, "recording", cls.recording, "outer_recording")

    def __new__(cls, function: Any = None) -> Any:
        return cls._context if function is None else cls._context(function)

    def __init__(self) -> None:
        """It was made with its class."""

    def __call__(self, function: Any) -> Any:
        return decorated(function, type(self), type(self).__name__)


class no_grad(_SetRecording):
    """A context in which no operation is recorded, in this thread.

    Also a decorator of functions, generators and coroutines: `@no_grad()` or `@no_grad`.
    """

    recording = False


class enable_grad(_SetRecording):
    """A context in which operations are recorded, also inside `no_grad`; a decorator like it."""

    recording = True


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.recording


def autocast_dtype() -> np.dtype | None:
    """The dtype in which products run in this thread (see `needle.amp`); None: in their inputs'."""
    return _mode.autocast


class autocasting(Setting):
    """Inside, products run in `dtype`; None turns it off."""

    def __init__(self, dtype: np.dtype | None) -> None:
        super().__init__(_mode, "autocast", dtype, "outer_autocast")


def moment() -> int:
    """A point in time: every Value was made before it or will be made after it."""
    return versions.advance()


# ---- operations -----------------------------------------------------------------------------


class Op:
    """A differentiable operation: `compute` on arrays and `gradient` on Tensors.

    `saves_values` says whether `gradient` reads the data of the inputs or of the output: then
    changing them between forward and backward is an error. Ops whose gradient needs only shapes set
    it False. Arrays and Tensors among the op's attributes (labels, indices, masks) may never change
    in between. `precision` and `takes_integers` are what the tables of `needle.ops._precision` say
    of the op.
    """

    saves_values = True
    # Whether `gradient` takes the `Members` of a TensorTuple's gradient that there are.
    takes_members = False
    precision: ClassVar[Any] = None
    takes_integers: ClassVar[bool] = True

    def __call__(self, *args: Value) -> Any:
        raise NotImplementedError

    def compute(self, *args: Any) -> Any:
        """The result's data from the inputs' NDArrays."""
        raise NotImplementedError

    def gradient(self, out_grad: Any, node: Any) -> Any:
        """The gradient of each input, given the gradient `out_grad` of the output `node`.

        None stands for the gradient of an input that needs none.
        """
        raise NotImplementedError

    def gradient_as_tuple(self, out_grad: Value, node: Value) -> tuple[Any, ...]:
        """`gradient`, always as a tuple with one entry per input."""
        result = self.gradient(out_grad, node)
        if isinstance(result, tuple):
            return result
        return tuple(result) if isinstance(result, list) else (result,)


def _check_inputs(op: Op, inputs: Iterable[Any]) -> None:
    """Raises TypeError for an input that is no Tensor; looked at where an op has failed."""
    for x in inputs:
        if not isinstance(x, Value):
            raise TypeError(
                f"[{type(op).__name__}] needs a Tensor, got {type(x).__name__}"
            ) from None


def _is_mixed(inputs: Sequence[Value]) -> bool:
    """Whether an op of the table of precisions may have to convert its inputs."""
    if _mode.autocast is not None:
        return True
    for x in inputs:  # each of them is looked at in every call of a product: no comprehension
        dtype = x.realize_cached_data()._dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            return True
    return False


class TensorOp(Op):
    """An Op whose result is a Tensor."""

    def __call__(self, *args: Value) -> Tensor:
        try:
            if self.precision is not None and _is_mixed(args):
                return ops.precision.call(self, args)
            return Tensor.make_from_op(self, args)
        except AttributeError:
            _check_inputs(self, args)
            raise


class TensorTupleOp(Op):
    """An Op whose result is a TensorTuple."""

    def __call__(self, *args: Value) -> TensorTuple:
        try:
            if self.precision is not None and _is_mixed(args):
                return ops.precision.call(self, args)
            return TensorTuple.make_from_op(self, args)
        except AttributeError:
            _check_inputs(self, args)
            raise


# ---- values ---------------------------------------------------------------------------------


class _Alive:
    """What every Value holds a reference to: so many of them are alive.

    A count that `__del__` takes down would be Python code that runs whenever a Value goes, and a
    KeyboardInterrupt that is raised there is lost.
    """

    def __reduce__(self) -> str:
        return "_alive"  # a copy is the object itself


_alive = _Alive()
_NOT_VALUES = sys.getrefcount(_alive)


def __getattr__(name: str) -> Any:
    if name == "TENSOR_COUNTER":
        return sys.getrefcount(_alive) - _NOT_VALUES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Value:
    """A node of the graph: data, and where it came from."""

    __slots__ = (
        "__weakref__",
        "_alive",
        "_created",
        "_grad",
        "_modified",
        "_programs",
        "cached_data",
        "inputs",
        "op",
        "requires_grad",
    )

    op: Op | None
    inputs: Sequence[Any]  # Values; Tensors in most ops, TensorTuples in some
    cached_data: Any
    requires_grad: bool
    _grad: Any
    _programs: set[Any]  # what compiled functions have for this very value, where they have any

    def _init(
        self, op: Op | None, inputs: Sequence[Value], cached_data: Any, requires_grad: bool
    ) -> None:
        self._alive = _alive
        self.op = op
        self.inputs = inputs
        self.cached_data = cached_data
        self.requires_grad = requires_grad
        self._grad = None
        self._created = versions.now
        self._modified = 0
        trace = current_trace() if _traces else None
        if trace is not None:
            trace.new_value(self)

    def realize_cached_data(self) -> Any:
        """The data, computed first where lazy mode postponed it (without recursion)."""
        if self.cached_data is None:
            with untraced():
                for node in find_topo_sort([self]):
                    if node.cached_data is None:
                        assert node.op is not None
                        _check_unchanged(node, node.inputs, "lazy mode")
                        node.cached_data = node.op.compute(*[x.cached_data for x in node.inputs])
                        node._created = versions.now
        trace = current_trace() if _traces else None
        return self.cached_data if trace is None else trace.read(self)

    @property
    def grad(self) -> Any:
        """The gradient that `backward` has set; None before."""
        trace = current_trace() if _traces else None
        return self._grad if trace is None else trace.read_grad(self)

    @grad.setter
    def grad(self, grad: Any) -> None:
        trace = current_trace() if _traces else None
        if trace is None or not trace.write_grad(self, grad):
            self._grad = grad

    def is_leaf(self) -> bool:
        """Whether no recorded operation made this value."""
        return self.op is None

    @classmethod
    def make_const(cls, data: Any, *, requires_grad: bool = False) -> Any:
        """A Value over `data` itself (no copy) with no history."""
        value = cls.__new__(cls)
        value._init(None, (), data, requires_grad)
        return value

    @classmethod
    def make_from_op(cls, op: Op, inputs: Sequence[Value]) -> Any:
        """The result of `op` on `inputs`, recorded if recording is on and an input needs it."""
        recorded = False
        if _mode.recording:
            for x in inputs:
                if x.requires_grad:
                    recorded = True
                    break
        value = cls.__new__(cls)
        if LAZY_MODE and current_trace() is None:
            value._init(op, inputs, None, recorded)
            return value
        data = op.compute(*[x.realize_cached_data() for x in inputs])
        if recorded and value._differentiable(data):
            value._init(op, inputs, data, True)
        else:
            value._init(None, (), data, False)
        return value

    @staticmethod
    def _differentiable(data: Any) -> bool:
        return True

    def _twin(self) -> Any:
        """Another Value in every respect the same: what `ndl.jit` traces a function on."""
        twin = type(self).__new__(type(self))
        for name in Value.__slots__:
            if name not in ("__weakref__", "_programs"):
                setattr(twin, name, getattr(self, name))
        if hasattr(self, "__dict__"):
            twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy (or what is unpickled) has the data and no history.
        return _rebuild, (type(self), self.realize_cached_data(), self.requires_grad)

    def _replace_data(self, data: Any) -> None:
        """Give this value new data and note the change for graphs that recorded the old."""
        trace = current_trace() if _traces else None
        put_off = trace is not None and trace.write(self, data)
        self._modified = versions.advance()
        if not put_off:
            self.cached_data = data

    def _drop_graph(self) -> None:
        """Forget how this value was made; its data stays."""
        trace = current_trace()
        if trace is not None:
            trace.used_up(self)
        self.op, self.inputs, self.requires_grad = None, (), False


def _rebuild(cls: type[Value], data: Any, requires_grad: bool) -> Value:
    return cls.make_const(data, requires_grad=requires_grad)


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


class Members:
    """A gradient of a TensorTuple while it is being summed up: of its members that have one.

    Those of a sequence of T steps arrive one by one; T tuples of T arrays would take T² time.
    """

    def __init__(self, whole: Value, gradients: dict[int, Tensor]) -> None:
        self.whole, self.gradients = whole, gradients

    def __add__(self, other: Members | TensorTuple) -> Members:
        added = other.gradients if isinstance(other, Members) else dict(enumerate(other))
        both = {i: g + added[i] if i in added else g for i, g in self.gradients.items()}
        return Members(self.whole, {**added, **both})

    def __radd__(self, other: TensorTuple) -> Members:
        return Members(self.whole, dict(enumerate(other))) + self

    def together(self) -> TensorTuple:
        """All members, 0 where there is no gradient."""
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
        if type(self.op) is _Deferred:
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
        compute_gradient_of_variables(self, _check_seed(self, out_grad))

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
        return _mode.recording and type(self.op) is not _Deferred

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


# ---- reverse mode ---------------------------------------------------------------------------


def find_topo_sort(node_list: Iterable[Value]) -> list[Value]:
    """The nodes that `node_list` depends on, inputs before users.

    Post-order depth-first, visiting `inputs` from left to right; without recursion.
    """
    return _topological_order(node_list)


def _since() -> int:
    """The moment before which values are leaves: their history is no part of a trace."""
    trace = current_trace()
    return 0 if trace is None else trace.since


def _topological_order(
    roots: Iterable[Value], stop: Iterable[int] = (), since: int = 0
) -> list[Value]:
    """`find_topo_sort` that takes values whose id is in `stop`, or that were made before the moment
    `since`, for leaves."""
    order: list[Value] = []
    done: set[int] = set()
    expanded: set[int] = set(stop)
    stack = list(reversed(list(roots)))
    while stack:
        node = stack[-1]
        key = id(node)
        if key in done:
            stack.pop()
        elif key in expanded:
            stack.pop()
            done.add(key)
            order.append(node)
        else:
            expanded.add(key)
            if node._created < since:
                continue
            if type(node.op) is _Deferred:
                node.op.resolve(node)
            stack.extend(reversed(node.inputs))
    return order


def values_from_before(outputs: Iterable[Value], moment: int) -> list[Value]:
    """The values made before `moment` through which gradients of `outputs` flow to the past."""
    found: list[Value] = []
    stack, seen = list(outputs), set()
    while stack:
        value = stack.pop()
        if id(value) in seen or not value.requires_grad:
            continue
        seen.add(id(value))
        if value._created < moment:
            found.append(value)
        else:
            stack.extend(reversed(value.inputs))
    return found


def compute_gradient_of_variables(output: Value, out_grad: Value) -> None:
    """Set `.grad` of every value that `output` depends on to its gradient.

    The gradients are computed without recording; the graph of a gradient is built the first time
    someone differentiates it (see `_Deferred`).
    """
    order = _topological_order([output], since=_since())
    trace = current_trace()
    if trace is not None:
        trace.backward(order)
    with no_grad():
        gradients = _reverse(order, output, out_grad)
    call = _BackwardCall(output, out_grad)
    for position, node in enumerate(order):
        gradient = gradients.get(id(node))
        if gradient is not None:
            found = _deferred_gradient(gradient, call, position, output, node.op is None)
            if trace is None:
                node._grad = found
                continue
            node.grad = found
            if node._created < trace.since and not node.is_leaf():
                trace.leaves(node, found)


def continue_backward(values: Sequence[Value], gradients: Sequence[Value]) -> None:
    """Set `.grad` of all that `values` were computed from, whose own gradients are there already.

    A value may be there several times, as after several calls of backward; the last one counts.
    """
    seeds = {id(x): g for x, g in zip(values, gradients, strict=True)}
    order = find_topo_sort(values)
    with no_grad(), autocasting(None):
        found = _accumulated(order, dict(seeds))
    for node in order:
        gradient = found.get(id(node))
        if gradient is None or gradient is seeds.get(id(node)):
            continue
        if isinstance(gradient, Tensor):  # memory of its own, as `_Deferred.take_memory` gives
            gradient = Tensor.make_const(gradient.cached_data.copy())
        node.grad = gradient


def _reverse(order: list[Value], output: Value, out_grad: Value) -> dict[int, Value]:
    """The gradients of `output` by the id of the value, through the nodes of `order`.

    `order` is topological. Recorded or not as the mode says; gradients have their values' dtypes,
    so nothing is cast automatically.
    """
    with autocasting(None):
        return _accumulated(order, {id(output): out_grad}, _since())


def _accumulated(order: list[Value], pending: dict[int, Any], since: int = 0) -> dict[int, Value]:
    """`pending`, gradients by the ids of values, continued through the nodes of `order` that were
    made since a moment."""
    for node in reversed(order):
        gradient = pending.get(id(node))
        if isinstance(gradient, Members) and not (node.op and node.op.takes_members):
            gradient = pending[id(node)] = gradient.together()
        if gradient is None or node.op is None or not node.inputs or node._created < since:
            continue
        if node._created < versions.now:
            _check_unchanged(node, (*node.inputs, node) if node.op.saves_values else (), "backward")
        for x, g in zip(node.inputs, node.op.gradient_as_tuple(gradient, node), strict=True):
            if g is None or not x.requires_grad:
                continue
            known = pending.get(id(x))
            pending[id(x)] = g if known is None else known + g
    return {k: g.together() if isinstance(g, Members) else g for k, g in pending.items()}


def _check_unchanged(node: Value, values: Iterable[Value], what: str) -> None:
    """Raises RuntimeError where one of `values`, or an array that the op of `node` keeps, was
    changed or replaced after `node` was made."""
    created = node._created
    for x in (*values, *_kept_by(node.op)):
        if last_change(x) > created:
            raise _changed_since(x, node.op, what)


def _changed_since(x: Any, op: Any, what: str) -> RuntimeError:
    return RuntimeError(
        f"[{what}] {type(op).__name__} needs the value of a tensor of shape "
        f"{getattr(x, 'shape', '?')} that was changed or replaced after the forward pass; "
        "run the forward pass again, or change a copy"
    )


def check_rerun(output: Value, forward: int, rerun: int) -> None:
    """Raises RuntimeError where `output`, computed again from the moment `rerun` on, depends on
    something from outside that was changed after `forward`, when it was computed first."""
    stack, seen = [output], set()
    while stack:
        value = stack.pop()
        if id(value) in seen or value._created < rerun or value.op is None:
            continue
        seen.add(id(value))
        for x in (*value.inputs, *_kept_by(value.op)):
            if forward < last_change(x) <= rerun:
                raise _changed_since(x, value.op, "checkpoint")
        stack.extend(value.inputs)


def last_change(x: Any) -> int:
    """When the data of a Value, or an array, was last changed or replaced."""
    if isinstance(x, NDArray):
        return x._handle.version
    data = x.realize_cached_data() if _traces and current_trace() else x.cached_data
    if data is None:
        return x._modified
    if isinstance(data, tuple):
        return max(x._modified, *(array._handle.version for array in data))
    written: int = data._handle.version
    return written if written > x._modified else x._modified


# Attributes of ops that hold no arrays, which are nearly all.
_PLAIN = frozenset({int, float, bool, str, type(None)})


def _kept_by(op: Any) -> list[Any]:
    """The arrays and Values among the attributes of an op, also those in tuples, lists and ops."""
    found: list[Any] = []
    left = [item for item in vars(op).values() if type(item) not in _PLAIN]
    while left:
        item = left.pop()
        if type(item) in _PLAIN:
            continue
        if isinstance(item, (NDArray, Value)):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            left += item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, Op):
            left += vars(item).values()
    return found


def _check_seed(output: Tensor, out_grad: Any) -> Tensor:
    if not is_float(output.dtype):
        raise TypeError(f"[backward] needs floating-point data, got {output.dtype}")
    if not output.requires_grad:
        raise RuntimeError(
            "[backward] nothing was recorded for this tensor: none of its inputs requires a "
            "gradient, or it was made under no_grad()"
        )
    if out_grad is None:
        data = output.realize_cached_data()
        return Tensor.make_const(data._device.ones(data._shape, data._dtype))
    if not isinstance(out_grad, Tensor):
        raise TypeError(f"[backward] out_grad must be a Tensor, got {type(out_grad).__name__}")
    if out_grad.shape != output.shape:
        raise ValueError(
            f"[backward] out_grad has shape {out_grad.shape}, the tensor {output.shape}"
        )
    if out_grad.device != output.device:
        raise ValueError(
            f"[backward] out_grad is on {out_grad.device}, the tensor on {output.device}"
        )
    return out_grad


class _BackwardCall:
    """What is needed to run one call of backward again, recorded this time."""

    __slots__ = ("gradients", "out_grad", "output")

    def __init__(self, output: Value, out_grad: Value) -> None:
        # Weak, because the output's graph holds the gradients that hold this.
        self.output = weakref.ref(output)
        self.out_grad = out_grad
        self.gradients: list[Value | None] | None = None  # by topological position

    def recorded_gradient(self, position: int) -> Value:
        """The gradient at a position of the topological order, with its graph."""
        if self.gradients is None:
            output = self.output()
            if output is None:
                raise RuntimeError(
                    "[backward] the graph of this gradient is gone; keep the tensor whose "
                    "backward() computed it"
                )
            order = _topological_order([output], since=_since())
            with enable_grad():
                found = _reverse(order, output, self.out_grad)
            self.gradients = [found.get(id(node)) for node in order]
        gradient = self.gradients[position]
        assert gradient is not None
        return gradient


class _Deferred(Op):
    """Stands for the graph of a gradient until someone differentiates the gradient.

    Most gradients are used once, by an optimizer. Building their graphs would keep every
    intermediate of the backward pass alive, so it is put off: the first walk through a deferred
    gradient runs its backward pass again, recorded. The gradient of a leaf keeps the output, and
    so all that is needed, alive; that of an inner value would close a reference cycle and does
    not.
    """

    def __init__(self, call: _BackwardCall, position: int, keep_alive: Value | None) -> None:
        self.call = call
        self.position = position
        self.keep_alive = keep_alive
        self.memory: Any = None  # a weak reference to the buffer that is the gradient's own

    def take_memory(self, node: Any) -> None:
        """Give the gradient `node` compact memory of its own, before anyone can write to it.

        Until then it may be a broadcast view, the array of another gradient, or one that an op
        keeps.
        """
        data = node.cached_data
        if not isinstance(node, Tensor) or self._owns(data):
            return
        if current_trace() is not None and not is_traced(data):
            return  # the gradient is from outside: the compiled function gives it memory
        if _references(node) != _ALONE or not data.is_compact():
            node.cached_data = data.copy()
        self.memory = weakref.ref(node.cached_data._handle)

    def _owns(self, data: NDArray) -> bool:
        return self.memory is not None and self.memory() is data._handle

    def resolve(self, node: Any) -> None:
        """Give `node` the operation and inputs that it would have been recorded with."""
        if last_change(node) > node._created:
            raise RuntimeError(
                f"[backward] the gradient of shape {node.shape} was changed after backward() "
                "computed it, so that it can no longer be differentiated; detach() it"
            )
        self.take_memory(node)
        recorded = self.call.recorded_gradient(self.position)
        node.op, node.inputs = recorded.op, recorded.inputs
        node._created = recorded._created


def _references(tensor: Tensor) -> tuple[int, int]:
    """How many there are to the array of a Tensor and to its buffer."""
    array = tensor.cached_data
    return sys.getrefcount(array), sys.getrefcount(array._handle)


def _references_alone() -> tuple[int, int]:
    tensor = Tensor.make_const(cpu_numpy().zeros((1,)))
    data = tensor.cached_data  # as `take_memory` has it
    return _references(tensor) if data is not None else (0, 0)


# Those to an array that only its Tensor knows.
_ALONE = _references_alone()


def _deferred_gradient(
    gradient: Value, call: _BackwardCall, position: int, output: Value, leaf: bool
) -> Value:
    data = gradient.realize_cached_data()
    if leaf and isinstance(data, NDArray):
        data = data.compact()
    value = type(gradient).make_const(data, requires_grad=True)
    value.op = _Deferred(call, position, output if leaf and output.op is not None else None)
    return value


def grad(
    output: Tensor, inputs: Sequence[Tensor], out_grad: Tensor | None = None
) -> list[Tensor | None]:
    """The gradients of `output` with respect to `inputs`, recorded if recording is on.

    Leaves every `.grad` as it is. None for an input that `output` does not depend on.
    """
    seed = _check_seed(output, out_grad)
    since = _since()
    order = _topological_order([output], since=since)
    gradients = _reverse(order, output, seed)
    trace = current_trace()
    if trace is not None:
        computed = [x for x in order if x._created < since and not x.is_leaf()]
        trace.asked_for_gradients(inputs, computed)
    return [gradients.get(id(x)) for x in inputs]  # type: ignore[misc]


def vjp(
    function: Callable[..., Any], inputs: Sequence[Value], out_grad: Value
) -> tuple[Value | None, ...]:
    """The gradients of `function(*inputs)` with respect to `inputs`, given the output's.

    For ops that define their gradient by an equivalent composition of simpler ops. An input that
    is given several times has all of its gradient at its first place, None at the others.
    """
    with enable_grad():
        output = function(*inputs)
    order = _topological_order([output], [id(x) for x in inputs], _since())
    ends = {id(x) for x in inputs}
    gradients = _reverse([x for x in order if id(x) not in ends], output, out_grad)
    return tuple(gradients.pop(id(x), None) for x in inputs)
