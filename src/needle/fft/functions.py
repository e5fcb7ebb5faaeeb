"""The transforms that programs call."""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import Tensor
from .complex import ComplexTensor
from .transforms import Input, Norm, complex_transform, from_real, to_real


def fft(input: Input, n: int | None = None, dim: int = -1, norm: Norm = None) -> ComplexTensor:
    """The discrete Fourier transform.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    n : int, optional
        The length of the axis, which is cut or padded with zeros.
    dim : int
        The axis.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.fft(ndl.Tensor([1, 2])).tolist()
    [(3+0j), (-1+0j)]
    """
    return complex_transform(input, None if n is None else [n], dim, norm, False, "fft")


def ifft(input: Input, n: int | None = None, dim: int = -1, norm: Norm = None) -> ComplexTensor:
    """The inverse of the discrete Fourier transform.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    n : int, optional
        The length of the axis, which is cut or padded with zeros.
    dim : int
        The axis.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.ifft(ndl.Tensor([3, -1])).tolist()
    [(1+0j), (2+0j)]
    """
    return complex_transform(input, None if n is None else [n], dim, norm, True, "ifft")


def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: Norm = None) -> ComplexTensor:
    """The half spectrum of real numbers: the frequencies from 0 on.

    Parameters
    ----------
    input : Tensor
    n : int, optional
        The length of the axis, which is cut or padded with zeros.
    dim : int
        The axis.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is no Tensor, or is complex.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.rfft(ndl.ones(6)).real.tolist()
    [6.0, 0.0, 0.0, 0.0]
    """
    return from_real(input, None if n is None else [n], dim, norm, "rfft")


def irfft(input: Input, n: int | None = None, dim: int = -1, norm: Norm = None) -> Tensor:
    """The real numbers whose half spectrum is given.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    n : int, optional
        The length of the axis, which is cut or padded with zeros;
        by default twice that of the half spectrum, less 2.
    dim : int
        The axis.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.irfft(ndl.Tensor([6, 0, 0, 0])).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    return to_real(input, None if n is None else [n], dim, norm, "irfft")


def fft2(
    input: Input, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> ComplexTensor:
    """The two-dimensional Fourier transform.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int
        The axes.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.fft2(ndl.ones(2, 2)).real.tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    return complex_transform(input, s, dim, norm, False, "fft2")


def ifft2(
    input: Input, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> ComplexTensor:
    """The inverse of the two-dimensional Fourier transform.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int
        The axes.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.ifft2(ndl.Tensor([[4, 0], [0, 0]])).real.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return complex_transform(input, s, dim, norm, True, "ifft2")


def rfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> ComplexTensor:
    """The half spectrum of real numbers, halved along the last axis.

    Parameters
    ----------
    input : Tensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int
        The axes.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is no Tensor, or is complex.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.rfft2(ndl.ones(3, 4)).shape
    (3, 3)
    """
    return from_real(input, s, dim, norm, "rfft2")


def irfft2(
    input: Input, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> Tensor:
    """The real numbers whose half spectrum is given, along several axes.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
        The last one is by default twice that of the half spectrum, less 2.
    dim : sequence of int
        The axes.
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.irfft2(ndl.fft.rfft2(ndl.ones(3, 4))).shape
    (3, 4)
    """
    return to_real(input, s, dim, norm, "irfft2")


def fftn(
    input: Input,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> ComplexTensor:
    """The Fourier transform along several axes.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int, optional
        The axes; all of them by default, or the last len(s).
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.fftn(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """
    return complex_transform(input, s, dim, norm, False, "fftn")


def ifftn(
    input: Input,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> ComplexTensor:
    """The inverse of the Fourier transform along several axes.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int, optional
        The axes; all of them by default, or the last len(s).
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.ifftn(ndl.ones(2, 3, 4)).shape
    (2, 3, 4)
    """
    return complex_transform(input, s, dim, norm, True, "ifftn")


def rfftn(
    input: Tensor,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> ComplexTensor:
    """The half spectrum of real numbers, halved along the last axis.

    Parameters
    ----------
    input : Tensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
    dim : sequence of int, optional
        The axes; all of them by default, or the last len(s).
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    ComplexTensor

    Raises
    ------
    TypeError
        If `input` is no Tensor, or is complex.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.rfftn(ndl.ones(2, 3, 4)).shape
    (2, 3, 3)
    """
    return from_real(input, s, dim, norm, "rfftn")


def irfftn(
    input: Input,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> Tensor:
    """The real numbers whose half spectrum is given, along several axes.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes, which are cut or padded with zeros; -1 leaves one.
        The last one is by default twice that of the half spectrum, less 2.
    dim : sequence of int, optional
        The axes; all of them by default, or the last len(s).
    norm : {"backward", "ortho", "forward"}, optional
        Where the factor 1/n stands: in the inverse transform (the default), its root in both,
        or in the forward one.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If `input` is neither.
    ValueError
        If an argument does not fit the axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.irfftn(ndl.ones(2, 3, 3)).shape
    (2, 3, 4)
    """
    return to_real(input, s, dim, norm, "irfftn")
