"""What the op families share: operands made Tensors, gradients summed back to an operand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any, TypeGuard, TypeVar, cast

import numpy as np

from ..autograd import (
    Op,
    Tensor,
    TensorOp,
    TensorTuple,
    TensorTupleOp,
    Value,
    autocast_dtype,
    autocasting,
    no_grad,
    vjp,
)
from ..backend_ndarray import HostNumber, NDArray, is_float, is_stored, promote
from ..backend_ndarray.dtypes import (
    FLOAT64,
    SCALARS,
    computed_dtype,
    float_dtype,
    promote_scalar,
    python_number,
)
from ..given import not_a_tensor, type_name
from ..synonyms import Names
from ..typing import Scalar
from ._named import explained


def is_scalar(x: object) -> TypeGuard[Scalar]:
    """Whether `x` is a Python or NumPy number."""
    return isinstance(x, SCALARS)


def as_tensor(x: object, like: Tensor) -> Tensor:
    """`x` as a Tensor on `like`'s device; numbers and arrays become constants.

    A number gets `like`'s dtype where that can hold its kind. Floats stay float64 beside float64.
    """
    if isinstance(x, Tensor):
        return x
    if is_scalar(x):
        data, number = like.realize_cached_data(), python_number(x)
        dtype = promote_scalar(data._dtype, number)
        return Tensor.make_const(data._device.full((), number, dtype))
    if isinstance(x, HostNumber) and is_float(like.dtype):
        return Tensor.make_const(x.as_array(x, like.device, like.dtype))
    if not isinstance(x, (NDArray, np.ndarray, list, tuple)):
        raise TypeError(f"an operand must be a Tensor, an array or a number, {not_a_tensor(x)}")
    if isinstance(x, (list, tuple)) and any(isinstance(each, Tensor) for each in x):
        raise TypeError(f"an operand must be one Tensor: {explained(x)}")
    kept = FLOAT64 if like.dtype is FLOAT64 and _has_floats(x) else None
    return Tensor(x, device=like.device, dtype=kept, requires_grad=False)


def _has_floats(x: object) -> bool:
    """Whether this is an array of floats, or a list of numbers, which become floats."""
    if isinstance(x, np.ndarray):
        return bool(x.dtype.kind == "f")
    if isinstance(x, (list, tuple)) and not any(isinstance(item, (Value, NDArray)) for item in x):
        return np.asarray(x).dtype.kind in "iuf"
    return False


def as_tensors(a: object, b: object, what: str) -> tuple[Tensor, Tensor]:
    """Both operands as Tensors; at least one must be one already."""
    if isinstance(a, Tensor):
        return a, as_tensor(b, a)
    if isinstance(b, Tensor):
        return as_tensor(a, b), b
    raise TypeError(f"[{what}] needs a Tensor, got {type_name(a)} and {not_a_tensor(b)[4:]}")


def unbroadcast(g: Tensor, x: Tensor) -> Tensor:
    """Sum of a gradient over the axes along which an operand was broadcast.

    Parameters
    ----------
    g : Tensor
        The gradient of the broadcast operand.
    x : Tensor
        The operand.

    Returns
    -------
    Tensor
        The shape and dtype of `x`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ops.unbroadcast(ndl.ones(4, 3), ndl.ones(3))
    needle.Tensor([4. 4. 4.])
    """
    shape = x.shape
    if g.shape != shape:
        lead = g.ndim - len(shape)
        repeated = tuple(i for i in range(g.ndim) if i < lead or shape[i - lead] != g.shape[i])
        g = g.sum(repeated).reshape(shape)
    return g if g.dtype == x.dtype else g.astype(x.dtype)


Frozen = TypeVar("Frozen", bound=Callable[..., object])


def frozen(function: Frozen) -> Frozen:
    """`function` with the present values of the variables that it captures.

    For a later run: a loop over layers has rebound its variables by the time of the gradient.
    Functions among the values are frozen, too; anything that is no Python function stays as it is.
    """
    return cast(Frozen, _frozen(function, {}))


def _frozen(function: object, known: dict[int, Any]) -> object:
    if not isinstance(function, FunctionType) or function.__closure__ is None:
        return function
    if id(function) in known:
        return known[id(function)]
    captured = function.__closure__
    new = [cell for cell in captured if id(cell) not in known]  # functions may share variables
    known.update((id(cell), CellType()) for cell in new)
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__,
        tuple(known[id(cell)] for cell in captured),
    )  # fmt: skip
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    known[id(function)] = copy
    for cell in new:
        with suppress(ValueError):  # a variable without a value
            known[id(cell)].cell_contents = _frozen(cell.cell_contents, known)
    return copy


def of_one_dtype(*tensors: Tensor) -> bool:
    """Whether a product of these runs in one dtype: theirs, or that of `autocast`."""
    if autocast_dtype() is not None and all(is_float(x.dtype) for x in tensors):
        return True
    return len({x.dtype for x in tensors}) == 1


Function = TypeVar("Function", bound=Callable[..., Tensor])


def rounds_once(function: Function) -> Function:
    """`function`, a composition of ops that gives floats, of Tensors of any dtype.

    The dtype is what its first parameters, as far as they are annotated as Tensors, promote to.
    Float16 and bfloat16 are computed in float32, and the result is rounded to that dtype at the
    end. Integers and bools are converted to floats first (`computed_dtype`, which holds what
    differences of them cancel to), and the result is float32.
    """
    return _in_wider(function, lambda: False)


def widens(function: Function) -> Function:
    """`rounds_once` that leaves the result in float32 under `autocast`."""
    return _in_wider(function, lambda: autocast_dtype() is not None)


def _in_wider(function: Function, stays: Callable[[], bool]) -> Function:
    kinds = list(function.__annotations__.items())
    others = [name for name, _ in itertools.takewhile(lambda kind: kind[1] == "Tensor", kinds[1:])]

    @functools.wraps(function)
    def call(a: Tensor, *args: Any, **options: Any) -> Tensor:
        if not isinstance(a, Tensor):
            return function(a, *args, **options)
        dtype = a.dtype
        if others:
            given = (*args[: len(others)], *(options.get(name) for name in others))
            dtype = functools.reduce(
                promote, (x.dtype for x in given if isinstance(x, Tensor)), dtype
            )
        computed = computed_dtype(dtype)
        if computed is a.dtype:
            return function(a, *args, **options)
        result = function(a.astype(computed), *args, **options)
        if stays() and is_stored(dtype):
            return result
        return result.astype(float_dtype(dtype))

    return call  # type: ignore[return-value]


def public(function: FunctionType) -> FunctionType:
    """A function as programs call it: with any name that an argument has elsewhere, and with errors
    that name the argument that had to be a Tensor and is none.

    `dim` is `axis`, `keepdim` is `keepdims` (see `synonyms`). A Tensor is a parameter annotated so.
    An op is looked at only after an error: a check at every call would cost more than the wrapper.
    A composition (see `COMPOSITIONS`) is checked first, because its operators take numbers, too.
    """
    names = Names(function)
    kinds = function.__annotations__
    wanted = {name: kinds[name] for name in names.parameters if kinds.get(name) in _TENSORS}
    if not wanted and not names.others:
        return function

    checked_first = function.__module__.rpartition(".")[2] in COMPOSITIONS
    places = [i for i, name in enumerate(names.parameters) if name in wanted]

    @functools.wraps(function)
    def call(*args: object, **options: Any) -> object:
        if options:
            options = names.translated(options)
        if checked_first:
            for i in places:
                if i >= len(args) or not isinstance(args[i], Tensor):  # by name, None, or wrong
                    _check_tensors(function, wanted, args, options)
                    break
        try:
            return function(*args, **options)
        except Exception:
            _check_tensors(function, wanted, args, options)
            raise

    call.__module__ = "needle.ops"  # where pickle finds it
    return cast(FunctionType, call)


# Files of functions that are made of other functions.
COMPOSITIONS = frozenset(
    {
        "_classification", "_cumulative", "_diagonals", "_exponential", "_extremes", "_masks",
        "_math", "_parts", "_products", "_reordering", "_search", "_selection", "_statistics",
        "_strided", "_views",
    }
)  # fmt: skip
_TENSORS = ("Tensor", "Tensor | None", "TensorTuple", "Sequence[Tensor] | TensorTuple")


def _check_tensors(
    function: FunctionType,
    wanted: dict[str, str],
    args: tuple[object, ...],
    options: dict[str, object],
) -> None:
    import inspect

    signature = inspect.signature(function)
    try:
        given = signature.bind(*args, **options).arguments
    except TypeError:  # an argument is missing or too many, which the error says
        return
    for name, value in given.items():
        if name not in wanted or (value is None and wanted[name].endswith("None")):
            continue
        several = wanted[name].startswith("Sequence")
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            several = True
        if several and not isinstance(value, (list, tuple, TensorTuple)):
            raise TypeError(
                f"[{function.__name__}] {name} must be a sequence of Tensors, got "
                f"{type_name(value)}: write [x, y]"
            ) from None
        for x in value if several and not isinstance(value, TensorTuple) else [value]:
            if not isinstance(x, Value):
                kind = "made of Tensors" if several else "a Tensor"
                came = not_a_tensor(x, "x" if several else name)
                raise TypeError(f"[{function.__name__}] {name} must be {kind}, {came}") from None


class Fused(Op):
    """An op with a kernel of its own that equals a composition of simpler ops.

    `decompose` is the definition: it computes on devices without the kernel, gives the gradient
    where `gradient` is not overridden, and is what tests compare the kernel with. `kernel` names
    the device's fused function.
    """

    kernel: str

    def decompose(self, *inputs: Tensor) -> Any:
        """The same result from simpler ops."""
        raise NotImplementedError

    def fused(self, x: NDArray) -> Callable[..., Any] | None:
        """The device's kernel for floating data, or None."""
        return x._device.fused(self.kernel)

    def compute_by_parts(self, *arrays: NDArray) -> Any:
        """`decompose` on plain arrays, which have the dtypes that it is to run in."""
        with no_grad(), autocasting(None):
            return self.decompose(*map(Tensor.make_const, arrays)).realize_cached_data()

    def gradient(self, out_grad: Any, node: Any) -> tuple[Value | None, ...]:
        return vjp(self.decompose, node.inputs, out_grad)


class FusedOp(Fused, TensorOp):
    """A fused op whose result is a Tensor."""

    def compute_by_parts(self, *arrays: NDArray) -> NDArray:
        out: NDArray = super().compute_by_parts(*arrays)
        return out


class FusedTupleOp(Fused, TensorTupleOp):
    """A fused op whose result is a TensorTuple."""

    def compute_by_parts(self, *arrays: NDArray) -> tuple[NDArray, ...]:
        out: tuple[NDArray, ...] = super().compute_by_parts(*arrays)
        return out
