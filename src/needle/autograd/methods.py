"""Functions of `needle.ops` as methods of Tensor: shapes, products, element-wise functions.

`Tensor` lists these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..backend_ndarray.layout import unpack
from ..synonyms import accepts_synonyms
from ..typing import Axis

if TYPE_CHECKING:
    from .. import ops
    from ..operands import Operand
    from .tensor import Tensor


# ---- shapes -------------------------------------------------------------------------------------


def reverse_axes(x: Tensor) -> Tensor:
    """The tensor with its axes reversed: of a matrix, its transpose."""
    return ops.permute(x, tuple(reversed(range(x.ndim))))


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor repeated along axes of length 1, and along new leading axes, to reach `shape`.

    Parameters
    ----------
    shape : sequence of int

    Returns
    -------
    Tensor, of that shape

    Raises
    ------
    ValueError
        If the shape cannot be broadcast to `shape`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0], [2.0]]).broadcast_to((2, 3)).shape
    (2, 3)
    """
    return ops.broadcast_to(x, shape)


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
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
    return ops.reshape(x, unpack(shape))


def flatten(x: Tensor, start_axis: int = 0) -> Tensor:
    """The axes from `start_axis` on joined into one.

    Parameters
    ----------
    start_axis : int

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ones(2, 3, 4).flatten(1).shape
    (2, 12)
    """
    return ops.reshape(x, (*x.shape[:start_axis], -1))


@accepts_synonyms
def transpose(x: Tensor, axes: Axis = None, *more: int) -> Tensor:
    """Two axes exchanged, the last two by default.

    Parameters
    ----------
    axes, *more : int or tuple of int, optional
        The two axes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ones(2, 3, 4).transpose(0, 1).shape
    (3, 2, 4)
    """
    return ops.transpose(x, unpack((axes, *more)))


def permute(x: Tensor, *axes: int | Sequence[int]) -> Tensor:
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
    return ops.permute(x, unpack(axes))


@accepts_synonyms
def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """The tensor without axes of length 1.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes of length 1 by default.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ones(2, 1, 3).squeeze(1).shape
    (2, 3)
    """
    return ops.squeeze(x, axis)


@accepts_synonyms
def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """The tensor with a new axis of length 1.

    Parameters
    ----------
    axis : int
        Its position in the result.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ones(2, 3).unsqueeze(1).shape
    (2, 1, 3)
    """
    return ops.unsqueeze(x, axis)


# ---- products and element-wise functions --------------------------------------------------------


def matmul(x: Tensor, other: Operand) -> Tensor:
    """The matrix product `x @ other`; batch axes broadcast.

    Parameters
    ----------
    other : Tensor or array, shape (..., k, n)

    Returns
    -------
    Tensor, shape (..., m, n)

    Raises
    ------
    ValueError
        If the inner dimensions differ.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.ones(2, 3).matmul(ndl.ones(3, 4)).shape
    (2, 4)
    """
    return ops.matmul(x, other)


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Every element moved into [low, high].

    Parameters
    ----------
    low, high : float, optional
        None leaves that side open.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `low` exceeds `high`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([-2.0, 0.5, 3.0]).clip(-1, 1)
    needle.Tensor([-1.   0.5  1. ])
    """
    return ops.clip(x, low, high)


def exp(x: Tensor) -> Tensor:
    """e to the power of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([0.0]).exp()
    needle.Tensor([1.])
    """
    return ops.exp(x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([1.0]).log()
    needle.Tensor([0.])
    """
    return ops.log(x)


def sqrt(x: Tensor) -> Tensor:
    """The square root of each element; NaN for negative ones.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([4.0, 9.0]).sqrt()
    needle.Tensor([2. 3.])
    """
    return ops.sqrt(x)


def abs(x: Tensor) -> Tensor:
    """The absolute value of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([-2.0, 3.0]).abs()
    needle.Tensor([2. 3.])
    """
    return ops.abs(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([0.0]).tanh()
    needle.Tensor([0.])
    """
    return ops.tanh(x)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function 1 / (1 + exp(-x)) of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([0.0]).sigmoid()
    needle.Tensor([0.5])
    """
    return ops.sigmoid(x)


def relu(x: Tensor) -> Tensor:
    """The rectified linear unit max(x, 0) of each element.

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([-2.0, 3.0]).relu()
    needle.Tensor([0. 3.])
    """
    return ops.relu(x)


@accepts_synonyms
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The exponentials divided by their sum along `axis`.

    Parameters
    ----------
    axis : int

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[0.0, 0.0]]).softmax()
    needle.Tensor([[0.5 0.5]])
    """
    return ops.softmax(x, axis)


@accepts_synonyms
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, without overflow.

    Parameters
    ----------
    axis : int

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[0.0, 0.0]]).log_softmax()
    needle.Tensor([[-0.6931472 -0.6931472]])
    """
    return ops.log_softmax(x, axis)
