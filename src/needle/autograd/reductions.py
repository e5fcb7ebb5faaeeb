"""Tensor's reductions, functions of `needle.ops` as methods. `Tensor` lists these functions.

They have the names of NumPy's functions, also those of Python's built-in functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..synonyms import accepts_synonyms
from ..typing import Axis

if TYPE_CHECKING:
    from .. import ops
    from .tensor import Tensor


@accepts_synonyms
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`; integers sum to int64.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).sum(axis=1)
    needle.Tensor([3. 9.])
    """
    return ops.summation(x, axis, keepdims)


@accepts_synonyms
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over `axis`.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).mean(axis=1)
    needle.Tensor([1.5 4.5])
    """
    return ops.mean(x, axis, keepdims)


@accepts_synonyms
def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The variance over `axis`, divided by n - correction.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.
    correction : int
        Subtracted from the number of elements in the divisor; 1 is Bessel's correction.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).var(axis=1)
    needle.Tensor([0.5 4.5])
    """
    return ops.var(x, axis, keepdims, correction)


@accepts_synonyms
def std(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The standard deviation over `axis`, the square root of `var`.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.
    correction : int
        Subtracted from the number of elements in the divisor; 1 is Bessel's correction.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([1.0, 3.0]).std(correction=0)
    needle.Tensor(1.0)
    """
    return ops.std(x, axis, keepdims, correction)


@accepts_synonyms
def prod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).prod(axis=1)
    needle.Tensor([ 2. 18.])
    """
    return ops.prod(x, axis, keepdims)


@accepts_synonyms
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`; NaN where one of the elements is NaN.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there are no elements along `axis`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).max(axis=1)
    needle.Tensor([2. 6.])
    """
    return ops.max(x, axis, keepdims)


@accepts_synonyms
def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`; NaN where one of the elements is NaN.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there are no elements along `axis`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).min(axis=1)
    needle.Tensor([1. 3.])
    """
    return ops.min(x, axis, keepdims)


@accepts_synonyms
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first largest element along `axis`.

    Parameters
    ----------
    axis : int, optional
        Over all elements by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor of int64

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).argmax(axis=1)
    needle.Tensor([1 1])
    """
    return ops.argmax(x, axis, keepdims)


@accepts_synonyms
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first smallest element along `axis`.

    Parameters
    ----------
    axis : int, optional
        Over all elements by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor of int64

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).argmin(axis=1)
    needle.Tensor([0 0])
    """
    return ops.argmin(x, axis, keepdims)


@accepts_synonyms
def norm(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The Euclidean norm over `axis`.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[3.0, 4.0], [0.0, 2.0]]).norm(axis=1)
    needle.Tensor([5. 2.])
    """
    return ops.norm(x, axis, keepdims)


@accepts_synonyms
def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sums along `axis`.

    Parameters
    ----------
    axis : int

    Returns
    -------
    Tensor, of the same shape

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.Tensor([[1.0, 2.0], [3.0, 6.0]]).cumsum(axis=1)
    needle.Tensor([[1. 3.]
     [3. 9.]])
    """
    return ops.cumsum(x, axis)
