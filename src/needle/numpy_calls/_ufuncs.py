"""NumPy's functions of numbers, with their methods `reduce`, `accumulate`, `outer` and `at`.

needle has most of them under the same name; `OTHER_NAMES` has the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..ops import _common
from ._functions import named

Function = Callable[..., Any]


def _modf(x: Tensor) -> tuple[Tensor, Tensor]:
    return ops.frac(x), ops.trunc(x)


def _vecdot(a: Tensor, b: Tensor) -> Tensor:
    return ops.summation(a * b, -1)


def _first_array(x: Any) -> Any:
    """A 0-d array as its number: NumPy makes one of the number on the left of a comparison."""
    return x.item() if type(x) is np.ndarray and x.ndim == 0 else x


def _comparison(function: Function) -> Function:
    return lambda a, b: function(_first_array(a), b)


OTHER_NAMES: dict[str, Function] = {
    "conjugate": ops.positive,
    "degrees": ops.rad2deg,
    "divmod": lambda a, b: (ops.floor_divide(a, b), ops.remainder(a, b)),
    "fabs": ops.abs,
    "invert": ops.bitwise_not,
    "modf": _modf,
    "radians": ops.deg2rad,
    "rint": ops.round,
    "vecdot": _vecdot,
}
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


class _Functions(dict[np.ufunc, Function | None]):
    """needle's function for each ufunc, found when it is first asked for; None where none is."""

    def __missing__(self, ufunc: np.ufunc) -> Function | None:
        self[ufunc] = found = _find(ufunc)
        return found


FUNCTIONS = _Functions()


def _find(ufunc: np.ufunc) -> Function | None:
    name = ufunc.__name__
    if getattr(np, name, None) is not ufunc:  # of another library
        return None
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    function: Function | None = getattr(ops, name, None) if name in ops.__all__ else None
    if name in COMPARISONS:
        return _comparison(getattr(ops, name))
    if function is None or ufunc.nin == 1:
        return function
    kinds = [p.annotation for p in inspect.signature(function).parameters.values()]
    return _of_tensors(function) if "Tensor" in kinds[:2] else function


def _of_tensors(function: Function) -> Function:
    """A function of two Tensors, for a Tensor beside an array or a number."""
    return lambda a, b: function(*_common.as_tensors(a, b, function.__name__))


# ---- methods --------------------------------------------------------------------------------

REDUCE = {  # the function that a reduction is
    "add": "sum", "logaddexp": "logsumexp", "logical_and": "all", "logical_or": "any",
    "maximum": "max", "minimum": "min", "multiply": "prod",
}  # fmt: skip
ACCUMULATE: dict[str, Function] = {
    "add": ops.cumsum, "logaddexp": ops.logcumsumexp, "multiply": ops.cumprod,
    "maximum": lambda a, axis: ops.cummax(a, axis)[0],
    "minimum": lambda a, axis: ops.cummin(a, axis)[0],
}  # fmt: skip


def of_method(ufunc: np.ufunc, method: str) -> Function | None:
    """needle's function for a method of `ufunc`, with NumPy's arguments, or None."""
    name, function = ufunc.__name__, FUNCTIONS[ufunc]
    if function is None:
        return None
    if method == "__call__":
        return _taking_out(function)
    if method == "outer" and ufunc.nin == 2:
        return _outer(function)
    if method == "reduce" and name in REDUCE:
        return _along_first(named("numpy", REDUCE[name]))
    if method == "accumulate" and name in ACCUMULATE:
        return _accumulate(ACCUMULATE[name])
    return _add_at if method == "at" and name == "add" else None


def _taking_out(function: Function) -> Function:
    def call(*inputs: Any, out: Any = None) -> Any:
        return function(*inputs)

    return call


def _outer(function: Function) -> Function:
    def outer(a: Any, b: Any, out: Any = None) -> Any:
        return function(_with_axes(a, np.shape(b)), b)

    return outer


def _with_axes(a: Any, shape: tuple[int, ...]) -> Any:
    """`a` with an axis of length 1 for each axis of another operand."""
    wide = (*np.shape(a), *(1 for _ in shape))
    return ops.reshape(a, wide) if isinstance(a, Tensor) else np.reshape(a, wide)


def _along_first(function: Function | None) -> Function:
    assert function is not None

    def reduce(
        array: Tensor, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        options = {} if dtype is None else {"dtype": dtype}
        return function(array, axis, keepdims=keepdims, **options)

    return reduce


def _accumulate(function: Function) -> Function:
    def accumulate(array: Tensor, axis: int = 0, dtype: None = None, out: Any = None) -> Any:
        return function(array, axis)

    return accumulate


def _add_at(a: Tensor, indices: Any, b: Any) -> None:
    """`np.add.at(t, indices, b)`: a sum at positions that may occur several times."""
    a._changed_by("np.add.at", ops.put, (ops.index_data(indices), b, True))


__all__ = ["FUNCTIONS", "of_method"]
