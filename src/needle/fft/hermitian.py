"""Transforms between numbers of Hermitian symmetry, x[n - k] = conj x[k], and real spectra.

They are those of real numbers with the two sides exchanged: hfft(x) = irfft(conj x) and
ihfft(y) = conj rfft(y), where the factor 1/n stands on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import Tensor
from .complex import ComplexTensor
from .transforms import Input, Norm, from_real, to_real

_OTHER_SIDE: dict[Norm, Norm] = {
    None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"
}  # fmt: skip


def _to_spectrum(
    x: Input, s: Sequence[int | None] | None, dim: int | Sequence[int] | None, norm: Norm, what: str
) -> Tensor:
    conjugate = x.conj() if isinstance(x, ComplexTensor) else x
    return to_real(conjugate, s, dim, _OTHER_SIDE.get(norm, norm), what)


def _from_spectrum(
    x: Tensor, s: Sequence[int | None] | None, dim: int | Sequence[int] | None, norm: Norm,
    what: str,
) -> ComplexTensor:  # fmt: skip
    return from_real(x, s, dim, _OTHER_SIDE.get(norm, norm), what).conj()


def hfft(input: Input, n: int | None = None, dim: int = -1, norm: Norm = None) -> Tensor:
    """The real spectrum of numbers of Hermitian symmetry, whose first half is given.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    n : int, optional
        The length of the axis of the result; by default twice that of the half, less 2.
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
    >>> ndl.fft.hfft(ndl.Tensor([1, 2, 3])).tolist()
    [8.0, -2.0, 0.0, -2.0]
    """
    return _to_spectrum(input, None if n is None else [n], dim, norm, "hfft")


def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: Norm = None) -> ComplexTensor:
    """The first half of the numbers of Hermitian symmetry whose spectrum is given.

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
    >>> ndl.fft.ihfft(ndl.Tensor([8, -2, 0, -2])).real.tolist()
    [1.0, 2.0, 3.0]
    """
    return _from_spectrum(input, None if n is None else [n], dim, norm, "ihfft")


def hfft2(
    input: Input, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> Tensor:
    """`hfft` along two axes, the last of which is halved.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes of the result; -1 leaves one. The last is by default twice that
        of the half, less 2.
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
    >>> ndl.fft.hfft2(ndl.ones(3, 3)).shape
    (3, 4)
    """
    return _to_spectrum(input, s, dim, norm, "hfft2")


def ihfft2(
    input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Norm = None
) -> ComplexTensor:
    """`ihfft` along two axes, halved along the last one.

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
    >>> ndl.fft.ihfft2(ndl.ones(3, 4)).shape
    (3, 3)
    """
    return _from_spectrum(input, s, dim, norm, "ihfft2")


def hfftn(
    input: Input,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> Tensor:
    """`hfft` along several axes, the last of which is halved.

    Parameters
    ----------
    input : Tensor or ComplexTensor
    s : sequence of int, optional
        The lengths of the axes of the result; -1 leaves one. The last is by default twice that
        of the half, less 2.
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
    >>> ndl.fft.hfftn(ndl.ones(2, 3, 3)).shape
    (2, 3, 4)
    """
    return _to_spectrum(input, s, dim, norm, "hfftn")


def ihfftn(
    input: Tensor,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: Norm = None,
) -> ComplexTensor:
    """`ihfft` along several axes, halved along the last one.

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
    >>> ndl.fft.ihfftn(ndl.ones(2, 3, 4)).shape
    (2, 3, 3)
    """
    return _from_spectrum(input, s, dim, norm, "ihfftn")


__all__ = ["hfft", "hfft2", "hfftn", "ihfft", "ihfft2", "ihfftn"]
