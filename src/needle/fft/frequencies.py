"""The frequencies of a spectrum, and spectra with frequency 0 in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend_ndarray.layout import normalize_axis, whole
from ..backend_selection import Device
from ..synonyms import accepts_synonyms
from ..typing import Axis, DTypeLike
from .complex import ComplexTensor

Values = TypeVar("Values", Tensor, ComplexTensor)


def fftfreq(
    n: int, d: float = 1.0, *, dtype: DTypeLike = "float32", device: Device | str | None = None
) -> Tensor:
    """The frequencies of `fft`'s result: 0, 1, … and then the negative ones, over n·d.

    Parameters
    ----------
    n : int
        The length of the transform.
    d : float
        The distance of two samples.
    dtype : dtype
    device : Device or str, optional

    Returns
    -------
    Tensor, shape (n,)
        It needs no gradient.

    Raises
    ------
    ValueError
        If `n` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.fftfreq(4).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    n = _length(n, "fftfreq")
    return Tensor(np.fft.fftfreq(n, d), dtype=dtype, device=device, requires_grad=False)


def rfftfreq(
    n: int, d: float = 1.0, *, dtype: DTypeLike = "float32", device: Device | str | None = None
) -> Tensor:
    """The frequencies of `rfft`'s result: 0, 1, … n // 2, over n·d.

    Parameters
    ----------
    n : int
        The length of the transform.
    d : float
        The distance of two samples.
    dtype : dtype
    device : Device or str, optional

    Returns
    -------
    Tensor, shape (n // 2 + 1,)
        It needs no gradient.

    Raises
    ------
    ValueError
        If `n` is not positive.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.rfftfreq(4).tolist()
    [0.0, 0.25, 0.5]
    """
    n = _length(n, "rfftfreq")
    return Tensor(np.fft.rfftfreq(n, d), dtype=dtype, device=device, requires_grad=False)


def _length(n: int, what: str) -> int:
    n = whole(n, what, "n")
    if n < 1:
        raise ValueError(f"[{what}] n must be positive, got {n}")
    return n


@accepts_synonyms
def fftshift(input: Values, axis: Axis = None) -> Values:
    """Move frequency 0 from the beginning of each axis to its middle.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    axis : int or sequence of int, optional
        All axes by default.

    Returns
    -------
    Tensor or ComplexTensor
        As `input`.

    Raises
    ------
    ValueError
        If there is no such axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.fftshift(ndl.fft.fftfreq(4)).tolist()
    [-0.5, -0.25, 0.0, 0.25]
    """
    return _rolled(input, axis, "fftshift", lambda n: n - n // 2)


@accepts_synonyms
def ifftshift(input: Values, axis: Axis = None) -> Values:
    """Move frequency 0 from the middle of each axis to its beginning.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    axis : int or sequence of int, optional
        All axes by default.

    Returns
    -------
    Tensor or ComplexTensor
        As `input`.

    Raises
    ------
    ValueError
        If there is no such axis.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.ifftshift(ndl.Tensor([-2, -1, 0, 1])).tolist()
    [0.0, 1.0, -2.0, -1.0]
    """
    return _rolled(input, axis, "ifftshift", lambda n: n // 2)


def _rolled(x: Values, axis: Axis, what: str, first: Callable[[int], int]) -> Values:
    """Each axis, begun anew at the index `first(n)`."""
    if isinstance(x, ComplexTensor):
        return ComplexTensor(*(_rolled(part, axis, what, first) for part in (x.real, x.imag)))
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    for i in axes:
        i = normalize_axis(i, x.ndim, what)
        lead: tuple[slice, ...] = (slice(None),) * i
        start = first(x.shape[i])
        x = ops.concatenate([x[(*lead, slice(start, None))], x[(*lead, slice(start))]], i)
    return x
