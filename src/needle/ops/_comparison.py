"""Comparisons, logic, operations on bits, and choices between two values.

Two operands broadcast as in NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import overload

from .. import backend_ndarray as nd
from ..autograd import Tensor, TensorOp
from ..backend_ndarray import NDArray
from ..backend_ndarray.dtypes import BOOL, promote_scalar, python_number
from ..operands import Operand
from ..typing import Scalar
from ._common import as_tensor, as_tensors, is_scalar, unbroadcast

_Comparison = Callable[[Tensor, Tensor], Tensor]


def _comparison(op: str, a: Operand, b: object, what: str) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(a.realize_cached_data().compare(op, b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(a.realize_cached_data().compare(op, b.realize_cached_data()))


def equal(a: Operand, b: object) -> Tensor:
    """Comparison of two operands, a == b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.equal(ndl.Tensor([1, 2, 3]), 2).tolist()
    [False, True, False]
    """
    return _comparison("eq", a, b, "equal")


def not_equal(a: Operand, b: object) -> Tensor:
    """Comparison of two operands, a != b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.not_equal(ndl.Tensor([1, 2, 3]), 2).tolist()
    [True, False, True]
    """
    return _comparison("ne", a, b, "not_equal")


def less(a: Operand, b: Operand) -> Tensor:
    """Comparison of two operands, a < b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.less(ndl.Tensor([1, 2, 3]), 2).tolist()
    [True, False, False]
    """
    return _comparison("lt", a, b, "less")


def less_equal(a: Operand, b: Operand) -> Tensor:
    """Comparison of two operands, a <= b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.less_equal(ndl.Tensor([1, 2, 3]), 2).tolist()
    [True, True, False]
    """
    return _comparison("le", a, b, "less_equal")


def greater(a: Operand, b: Operand) -> Tensor:
    """Comparison of two operands, a > b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.greater(ndl.Tensor([1, 2, 3]), 2).tolist()
    [False, False, True]
    """
    return _comparison("gt", a, b, "greater")


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """Comparison of two operands, a >= b.

    No gradient flows.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        Of dtype bool and the broadcast shape.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.greater_equal(ndl.Tensor([1, 2, 3]), 2).tolist()
    [False, True, True]
    """
    return _comparison("ge", a, b, "greater_equal")


def _truth(a: Tensor) -> Tensor:
    return a if a.dtype is BOOL else not_equal(a, 0)


def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether both elements are nonzero, with broadcasting.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        The broadcast shape; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logical_and(ndl.Tensor([0, 2]), ndl.Tensor([1, 1]))
    needle.Tensor([False  True])
    """
    x, y = _truth(a).realize_cached_data(), _truth(b).realize_cached_data()
    return Tensor.make_const(x._binary("logical_and", y))


def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """A bool tensor: whether either element is nonzero, with broadcasting.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    b : Tensor
        Broadcasts with `a`.

    Returns
    -------
    Tensor
        The broadcast shape; bool.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logical_or(ndl.Tensor([0, 2]), ndl.Tensor([0, 0]))
    needle.Tensor([False  True])
    """
    x, y = _truth(a).realize_cached_data(), _truth(b).realize_cached_data()
    return Tensor.make_const(x._binary("logical_or", y))


def _on_bits(
    operation: Callable[[NDArray, NDArray | Scalar], NDArray], a: Operand, b: Operand, what: str
) -> Tensor:
    if isinstance(a, Tensor) and is_scalar(b):
        return Tensor.make_const(operation(a.realize_cached_data(), b))
    a, b = as_tensors(a, b, what)
    return Tensor.make_const(operation(a.realize_cached_data(), b.realize_cached_data()))


def bitwise_and(a: Operand, b: Operand) -> Tensor:
    """Bitwise and of integers or bools, a & b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor, or one holds floats.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bitwise_and(ndl.Tensor(6, dtype="int64"), 3).item()
    2
    """
    return _on_bits(operator.and_, a, b, "bitwise_and")


def bitwise_or(a: Operand, b: Operand) -> Tensor:
    """Bitwise or of integers or bools, a | b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor, or one holds floats.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bitwise_or(ndl.Tensor(6, dtype="int64"), 3).item()
    7
    """
    return _on_bits(operator.or_, a, b, "bitwise_or")


def bitwise_xor(a: Operand, b: Operand) -> Tensor:
    """Bitwise exclusive or of integers or bools, a ^ b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor, or one holds floats.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bitwise_xor(ndl.Tensor(6, dtype="int64"), 3).item()
    5
    """
    return _on_bits(operator.xor, a, b, "bitwise_xor")


def bitwise_not(a: Tensor) -> Tensor:
    """Bitwise complement of integers or bools, ~a.

    Parameters
    ----------
    a : Tensor
        Of any shape, of integers or bools.

    Returns
    -------
    Tensor
        The shape and dtype of `a`.

    Raises
    ------
    TypeError
        If `a` holds floats.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.bitwise_not(ndl.Tensor([0, 5], dtype="int64")).tolist()
    [-1, -6]
    """
    return Tensor.make_const(~a.realize_cached_data())


def left_shift(a: Operand, b: Operand) -> Tensor:
    """Shift of the bits of integers to the left, a << b.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape; 0 where b is negative or all bits are gone.

    Raises
    ------
    TypeError
        If neither argument is a Tensor, or one holds floats.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.left_shift(ndl.Tensor([1, 3], dtype="int64"), 2).tolist()
    [4, 12]
    """
    return _on_bits(operator.lshift, a, b, "left_shift")


def right_shift(a: Operand, b: Operand) -> Tensor:
    """Shift of the bits of integers to the right, a >> b, rounded down.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape; 0 or -1 where b is negative or all bits are gone.

    Raises
    ------
    TypeError
        If neither argument is a Tensor, or one holds floats.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.right_shift(ndl.Tensor([8, -1], dtype="int64"), 2).tolist()
    [2, -1]
    """
    return _on_bits(operator.rshift, a, b, "right_shift")


class Where(TensorOp):
    """`a` where cond is nonzero, else `b`."""

    saves_values = False

    def __init__(self, cond: NDArray) -> None:
        self.cond = cond

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return nd.where(self.cond, a, b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        a, b = node.inputs
        cond = Tensor.make_const(self.cond)
        return (
            unbroadcast(where(cond, out_grad, 0.0), a),
            unbroadcast(where(cond, 0.0, out_grad), b),
        )


@overload
def where(cond: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(cond: Operand, a: Operand, b: Operand) -> Tensor: ...
def where(
    cond: Operand, a: Operand | None = None, b: Operand | None = None
) -> Tensor | tuple[Tensor, ...]:
    """Choose between two values by a condition, element by element.

    The three arguments broadcast; at least one is a Tensor. No gradient flows to the condition.
    `where(cond)` alone is `nonzero(cond, as_tuple=True)`.

    Parameters
    ----------
    cond : Tensor, array or number
        Nonzero or True where `a` is chosen.
    a : Tensor, array or number
        The values where the condition holds.
    b : Tensor, array or number
        The values elsewhere.

    Returns
    -------
    Tensor, or a tuple of Tensors for the condition alone
        The broadcast shape.

    Raises
    ------
    TypeError
        If none of the arguments is a Tensor, or `b` is missing.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.Tensor([-1, 2])
    >>> ndl.where(x > 0, x, 10)
    needle.Tensor([10.  2.])
    """
    if a is None or b is None:
        return _places(cond, a, b)
    like = next((x for x in (a, b, cond) if isinstance(x, Tensor)), None)
    if like is None:
        raise TypeError("[where] needs a Tensor among cond, a and b")
    cond = as_tensor(cond, like)
    if is_scalar(a) and is_scalar(b):
        dtype = promote_scalar(promote_scalar(BOOL, python_number(a)), python_number(b))
        like = Tensor.make_const(cond.device.zeros((), dtype))
    elif not isinstance(a, Tensor) or is_scalar(b):
        like = b if isinstance(b, Tensor) else as_tensor(a, cond)
    return Where(cond.realize_cached_data())(as_tensor(a, like), as_tensor(b, like))


def _places(cond: Operand, a: object, b: object) -> tuple[Tensor, ...]:
    from ._search import nonzero  # which is above

    if a is not None or b is not None:
        raise TypeError("[where] takes the condition alone, or the condition and two values")
    if not isinstance(cond, Tensor):
        raise TypeError(f"[where] cond must be a Tensor, got {type(cond).__name__}")
    found = nonzero(cond, as_tuple=True)
    assert isinstance(found, tuple)
    return found


class Maximum(TensorOp):
    """max(a, b), NaN where either is.

    Equal elements share the gradient in halves; where either is NaN, both get all of it.
    """

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a.maximum(b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        return _choice_gradient(out_grad, node, less, greater)


class Minimum(TensorOp):
    """min(a, b), NaN where either is; the gradient is shared as that of `Maximum`."""

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        return a.minimum(b)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        return _choice_gradient(out_grad, node, greater, less)


def _choice_gradient(
    out_grad: Tensor, node: Tensor, a_loses: _Comparison, b_loses: _Comparison
) -> tuple[Tensor, Tensor]:
    a, b = node.inputs
    share = where(equal(a, b), out_grad * 0.5, out_grad)
    return (
        unbroadcast(where(a_loses(a, b), 0.0, share), a),
        unbroadcast(where(b_loses(a, b), 0.0, share), b),
    )


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of two elements; NaN where either is NaN.

    Equal elements share the gradient in halves.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.maximum(ndl.Tensor([1, 5]), 3)
    needle.Tensor([3. 5.])
    """
    return Maximum()(*as_tensors(a, b, "maximum"))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of two elements; NaN where either is NaN.

    Equal elements share the gradient in halves.

    Parameters
    ----------
    a, b : Tensor, array or number
        They broadcast; at least one is a Tensor.

    Returns
    -------
    Tensor
        The broadcast shape, in the promoted dtype.

    Raises
    ------
    TypeError
        If neither argument is a Tensor.
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.minimum(ndl.Tensor([1, 5]), 3)
    needle.Tensor([1. 3.])
    """
    return Minimum()(*as_tensors(a, b, "minimum"))
