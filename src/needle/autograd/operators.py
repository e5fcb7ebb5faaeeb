"""Tensor's operators: `+`, `@`, `==`, `+=` and `x[i] = y`. `Tensor` lists these functions.

NumPy's arrays would handle an operator that Tensor lacks, and the result would be theirs. So Tensor
has all of them, also `//` and `divmod`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..backend_ndarray import indexing
from ..backend_ndarray.dtypes import check_update_dtype
from ..backend_ndarray.layout import check_update
from .eager import eager_view
from .tracing import Untraceable
from .value import Value

if TYPE_CHECKING:
    from .. import ops
    from ..operands import Index, Operand
    from .tensor import Tensor

MASKED_VALUES = (
    "[setitem] x[mask] = values takes as many values as the mask selects, which a compiled "
    "function does not know: write x = ndl.where(mask, values, x) with values of the shape of x, "
    "or ndl.masked_scatter(x, mask, values)"
)

_Operation: TypeAlias = "Callable[[Tensor, Operand], Tensor]"


class TakesOver:
    """A base of what Tensors leave an operator to that it stands on the right of."""

    __slots__ = ()


def _left_to(other: object) -> Tensor:
    """NotImplemented where the other operand takes over; raises the error in hand otherwise."""
    if isinstance(other, TakesOver):
        return NotImplemented  # type: ignore[no-any-return]
    raise


def add(x: Tensor, other: Operand) -> Tensor:
    if isinstance(other, Tensor):  # most operands are, and `ops.add` looks at it longer
        return ops.EWiseAdd()(x, other)
    try:
        return ops.add(x, other)
    except TypeError:
        return _left_to(other)


def mul(x: Tensor, other: Operand) -> Tensor:
    if isinstance(other, Tensor):  # most operands are, and `ops.multiply` looks at it longer
        return ops.EWiseMul()(x, other)
    try:
        return ops.multiply(x, other)
    except TypeError:
        return _left_to(other)


def sub(x: Tensor, other: Operand) -> Tensor:
    try:
        return ops.subtract(x, other)
    except TypeError:
        return _left_to(other)


def rsub(x: Tensor, other: Operand) -> Tensor:
    return ops.subtract(other, x)


def truediv(x: Tensor, other: Operand) -> Tensor:
    if isinstance(other, Tensor):  # most operands are, and `ops.divide` looks at it longer
        return ops.EWiseDiv()(x, other)
    try:
        return ops.divide(x, other)
    except TypeError:
        return _left_to(other)


def rtruediv(x: Tensor, other: Operand) -> Tensor:
    return ops.divide(other, x)


def floordiv(x: Tensor, other: Operand) -> Tensor:
    return ops.floor_divide(x, other)


def rfloordiv(x: Tensor, other: Operand) -> Tensor:
    return ops.floor_divide(other, x)


def mod(x: Tensor, other: Operand) -> Tensor:
    return ops.remainder(x, other)


def rmod(x: Tensor, other: Operand) -> Tensor:
    return ops.remainder(other, x)


def divmod_(x: Tensor, other: Operand) -> tuple[Tensor, Tensor]:
    return floordiv(x, other), mod(x, other)


def rdivmod(x: Tensor, other: Operand) -> tuple[Tensor, Tensor]:
    return rfloordiv(x, other), rmod(x, other)


def pow_(x: Tensor, other: Operand) -> Tensor:
    return ops.power(x, other)


def rpow(x: Tensor, other: Operand) -> Tensor:
    return ops.power(other, x)


def matmul(x: Tensor, other: Operand) -> Tensor:
    return ops.matmul(x, other)


def rmatmul(x: Tensor, other: Operand) -> Tensor:
    return ops.matmul(other, x)


def and_(x: Tensor, other: Operand) -> Tensor:
    return ops.bitwise_and(x, other)


def or_(x: Tensor, other: Operand) -> Tensor:
    return ops.bitwise_or(x, other)


def xor(x: Tensor, other: Operand) -> Tensor:
    return ops.bitwise_xor(x, other)


def lshift(x: Tensor, other: Operand) -> Tensor:
    return ops.left_shift(x, other)


def rlshift(x: Tensor, other: Operand) -> Tensor:
    return ops.left_shift(other, x)


def rshift(x: Tensor, other: Operand) -> Tensor:
    return ops.right_shift(x, other)


def rrshift(x: Tensor, other: Operand) -> Tensor:
    return ops.right_shift(other, x)


def neg(x: Tensor) -> Tensor:
    return ops.negate(x)


def abs_(x: Tensor) -> Tensor:
    return ops.abs(x)


def invert(x: Tensor) -> Tensor:
    return ops.bitwise_not(x)


# ---- comparisons --------------------------------------------------------------------------------


def eq(x: Tensor, other: object) -> Tensor:
    return NotImplemented if other is None else ops.equal(x, other)


def ne(x: Tensor, other: object) -> Tensor:
    return NotImplemented if other is None else ops.not_equal(x, other)


def lt(x: Tensor, other: Operand) -> Tensor:
    return ops.less(x, other)


def le(x: Tensor, other: Operand) -> Tensor:
    return ops.less_equal(x, other)


def gt(x: Tensor, other: Operand) -> Tensor:
    return ops.greater(x, other)


def ge(x: Tensor, other: Operand) -> Tensor:
    return ops.greater_equal(x, other)


# ---- indexing and writing -----------------------------------------------------------------------


def getitem(x: Tensor, key: Index) -> Tensor:
    view = eager_view(ops.GetItem, x, key)
    return ops.getitem(x, key) if view is None else view


def setitem(x: Tensor, key: Index, value: object) -> None:
    """Write into a tensor.

    Where nothing is recorded the value is written into the memory, and every Tensor over the same
    memory shows it. Where operations are recorded and one of the two is part of a graph, gradients
    flow to the value and to what is not overwritten: the tensor becomes the result of `ops.put`.
    Raises RuntimeError for a leaf that requires a gradient, and for a view of a tensor in a graph;
    a `.grad` may be written to.
    """
    has_graph = x.requires_grad or (isinstance(value, Value) and value.requires_grad)
    if has_graph and x._is_recorded():
        x._changed_by("setitem", ops.put, (ops.index_data(key), value))
        return
    x._take_memory()
    data = x.realize_cached_data()
    place = ops.index_data(key)
    try:
        data[place] = _data(value)
    except Untraceable as error:
        if not indexing.has_mask(place):
            raise
        raise error.saying(MASKED_VALUES) from None
    x._replace_data(data)


def update(
    x: Tensor, symbol: str, in_place: Callable[..., object], operation: _Operation, other: Operand
) -> Tensor:
    """`x symbol other`: in place, unless a graph is recorded.

    Aliases, views and parameters see the change. The dtype stays; the result is rounded to it.
    Of tensors in a graph `a += b` is recorded as `a = a + b`, which changes no data. Raises
    RuntimeError for a leaf that requires a gradient while recording is on, ValueError where the
    result has another shape, TypeError where its dtype does not fit (a float into integers).
    """
    if x._is_recorded():
        if x.requires_grad and x.op is None:
            raise RuntimeError(
                f"[{symbol}] a leaf that requires a gradient cannot be modified in place while "
                "operations are recorded; write under needle.autograd.no_grad(), or "
                f"x = x {symbol[:-1]} y for a new tensor"
            )
        if x.requires_grad or (isinstance(other, Value) and other.requires_grad):
            result = operation(x, other)
            check_update(symbol, x.shape, result.shape)
            check_update_dtype(symbol, x.dtype, result.dtype)
            return result if result.dtype is x.dtype else result.astype(x.dtype)
    x._take_memory()
    data = x.realize_cached_data()
    in_place(data, _data(other))
    x._replace_data(data)
    return x


def _data(value: object) -> object:
    """The array of a Tensor; anything else as it is."""
    return value.realize_cached_data() if isinstance(value, Value) else value


def iadd(x: Tensor, other: Operand) -> Tensor:
    return update(x, "+=", operator.iadd, ops.add, other)


def isub(x: Tensor, other: Operand) -> Tensor:
    return update(x, "-=", operator.isub, ops.subtract, other)


def imul(x: Tensor, other: Operand) -> Tensor:
    return update(x, "*=", operator.imul, ops.multiply, other)


def itruediv(x: Tensor, other: Operand) -> Tensor:
    return update(x, "/=", operator.itruediv, ops.divide, other)


def ipow(x: Tensor, other: Operand) -> Tensor:
    return update(x, "**=", operator.ipow, ops.power, other)


def iand(x: Tensor, other: Operand) -> Tensor:
    return update(x, "&=", operator.iand, ops.bitwise_and, other)


def ior(x: Tensor, other: Operand) -> Tensor:
    return update(x, "|=", operator.ior, ops.bitwise_or, other)


def ixor(x: Tensor, other: Operand) -> Tensor:
    return update(x, "^=", operator.ixor, ops.bitwise_xor, other)


def ilshift(x: Tensor, other: Operand) -> Tensor:
    return update(x, "<<=", operator.ilshift, ops.left_shift, other)


def irshift(x: Tensor, other: Operand) -> Tensor:
    return update(x, ">>=", operator.irshift, ops.right_shift, other)


def imatmul(x: Tensor, other: Operand) -> Tensor:
    return update(x, "@=", operator.imatmul, ops.matmul, other)
