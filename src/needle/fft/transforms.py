"""Discrete Fourier transforms and their gradients.

With x = a + ib seen as the pair (a, b) of real numbers, a transform y = F·x is a linear map of
pairs. Its transpose, which the gradient needs, is the conjugate transpose of F: the transform with
the other sign of the exponent and the same factor.

A real x has a spectrum of which one half follows from the other: y[n - k] = conj y[k]. `rfft` keeps
the first half, and in the transposes a pair of frequencies, kept and dropped, counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from .. import ops
from ..autograd import Tensor, TensorOp, TensorTuple, TensorTupleOp
from ..autograd.tracing import Untraceable
from ..backend_ndarray import NDArray, is_float, is_traced
from ..backend_ndarray.layout import normalize_axis, whole, wholes
from ..typing import DType, Shape
from .complex import ComplexTensor

Norm = Literal["backward", "ortho", "forward"] | None
Input = Tensor | ComplexTensor
# An array of NumPy whose dtype is known when the program runs.
HostNumbers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]


def _to_host(array: NDArray) -> HostNumbers:
    if is_traced(array):
        raise Untraceable(
            "[fft] runs on the host, which a compiled function cannot do: call it outside of "
            "ndl.jit and pass its result in"
        )
    return array.numpy()


def _to_device(host: HostNumbers, like: NDArray) -> NDArray:
    return NDArray(host, device=like._device, dtype=like._dtype)


class Transform(TensorTupleOp):
    """(a, b) → the parts of factor·F·(a + ib); F over `axes`, or its conjugate where `inverse`."""

    saves_values = False

    def __init__(self, axes: tuple[int, ...], inverse: bool, factor: float) -> None:
        self.axes, self.inverse, self.factor = axes, inverse, factor

    def compute(self, a: NDArray, b: NDArray) -> tuple[NDArray, ...]:
        host = _to_host(a) + 1j * _to_host(b)
        # These norms of NumPy's leave out the factor 1/n.
        if self.inverse:
            spectrum = np.fft.ifftn(host, axes=self.axes, norm="forward")
        else:
            spectrum = np.fft.fftn(host, axes=self.axes)
        spectrum = spectrum * self.factor
        return _to_device(spectrum.real, a), _to_device(spectrum.imag, a)

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> tuple[Tensor, ...]:
        return tuple(Transform(self.axes, not self.inverse, self.factor)(*out_grad))


class RealTransform(TensorTupleOp):
    """a → the first half of the parts of factor·F·a along the last axis, of length n."""

    saves_values = False

    def __init__(self, n: int, factor: float) -> None:
        self.n, self.factor = n, factor

    def compute(self, a: NDArray) -> tuple[NDArray, ...]:
        spectrum = np.fft.rfft(_to_host(a)) * self.factor
        return _to_device(spectrum.real, a), _to_device(spectrum.imag, a)

    def gradient(self, out_grad: TensorTuple, node: TensorTuple) -> Tensor:
        once = 1 / _multiplicity(self.n, node.inputs[0])
        d_real, d_imag = out_grad
        return InverseRealTransform(self.n, self.factor)(d_real * once, d_imag * once)


class InverseRealTransform(TensorOp):
    """The first half of a spectrum → factor·F̄ of the whole, n real numbers along the last axis.

    The imaginary parts of y[0], and of y[n/2] for even n, are not read.
    """

    saves_values = False

    def __init__(self, n: int, factor: float) -> None:
        self.n, self.factor = n, factor

    def compute(self, a: NDArray, b: NDArray) -> NDArray:
        host = _to_host(a) + 1j * _to_host(b)
        return _to_device(np.fft.irfft(host, self.n, norm="forward") * self.factor, a)

    def gradient(self, out_grad: Tensor, node: Tensor) -> tuple[Tensor, ...]:
        often = _multiplicity(self.n, out_grad)
        return tuple(part * often for part in RealTransform(self.n, self.factor)(out_grad))


def _multiplicity(n: int, like: Tensor) -> Tensor:
    """How often a frequency of the first half stands in the whole spectrum."""
    often = np.full(n // 2 + 1, 2.0)
    often[0] = 1
    if n % 2 == 0:
        often[-1] = 1
    return Tensor(often, device=like.device, dtype=like.dtype, requires_grad=False)


# ---- arguments ----------------------------------------------------------------------------------


def _parts(x: Input, what: str) -> tuple[Tensor, Tensor]:
    """The parts, float32 or float64. Raises TypeError for what is no Tensor."""
    if isinstance(x, ComplexTensor):
        return x.real, x.imag
    real = _real(x, what)
    return real, Tensor(
        np.zeros(real.shape), device=real.device, dtype=real.dtype, requires_grad=False
    )


def _real(x: Input, what: str) -> Tensor:
    if isinstance(x, ComplexTensor):
        raise TypeError(f"[{what}] takes real Tensors; for a ComplexTensor use the one without r")
    if not isinstance(x, Tensor):
        raise TypeError(f"[{what}] takes Tensors and ComplexTensors, got {type(x).__name__}")
    return x if is_float(x.dtype) and x.dtype in _WIDE else x.astype("float32")


_WIDE: tuple[DType, ...] = (np.dtype("float32"), np.dtype("float64"))


def _axes(
    ndim: int, s: Sequence[int] | None, dim: int | Sequence[int] | None, what: str
) -> tuple[int, ...]:
    if dim is None:
        count = ndim if s is None else len(s)
        axes = tuple(range(ndim - count, ndim))
    else:
        axes = tuple(normalize_axis(i, ndim, what) for i in wholes(dim, what, "dim"))
    if len(set(axes)) != len(axes) or any(i < 0 for i in axes):
        raise ValueError(f"[{what}] dim {dim} and s {s} do not fit {ndim} axes")
    if s is not None and len(s) != len(axes):
        raise ValueError(f"[{what}] s has {len(s)} lengths for {len(axes)} axes")
    return axes


def _lengths(
    shape: Shape, s: Sequence[int | None] | None, axes: tuple[int, ...], what: str
) -> tuple[int, ...]:
    """The length of each transformed axis; None and -1 leave it."""
    given = [None] * len(axes) if s is None else list(s)
    lengths = tuple(
        shape[axis] if n is None or n == -1 else whole(n, what, "n")
        for n, axis in zip(given, axes, strict=True)
    )
    if any(n < 1 for n in lengths):
        raise ValueError(f"[{what}] lengths must be positive, got {lengths}")
    return lengths


def _resized(x: Tensor, axes: tuple[int, ...], lengths: tuple[int, ...]) -> Tensor:
    """Cut, or padded with zeros at the end."""
    index: list[slice] = [slice(None)] * x.ndim
    widths = [(0, 0)] * x.ndim
    for axis, n in zip(axes, lengths, strict=True):
        index[axis], widths[axis] = slice(min(n, x.shape[axis])), (0, max(n - x.shape[axis], 0))
    if any(n < x.shape[axis] for axis, n in zip(axes, lengths, strict=True)):
        x = x[tuple(index)]
    return ops.pad(x, tuple(widths)) if any(after for _, after in widths) else x


def _factor(norm: Norm, lengths: tuple[int, ...], inverse: bool, what: str) -> float:
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f"[{what}] norm must be backward, ortho or forward, got {norm!r}")
    n = prod(lengths)
    if norm == "ortho":
        return float(n**-0.5)
    return 1 / n if inverse == (norm != "forward") else 1.0


def complex_transform(
    x: Input,
    s: Sequence[int | None] | None,
    dim: int | Sequence[int] | None,
    norm: Norm,
    inverse: bool,
    what: str,
) -> ComplexTensor:
    """The transform along some axes, or its inverse."""
    a, b = _parts(x, what)
    axes = _axes(a.ndim, s, dim, what)  # type: ignore[arg-type]
    lengths = _lengths(a.shape, s, axes, what)
    factor = _factor(norm, lengths, inverse, what)
    if not axes:
        return ComplexTensor(a, b)
    a, b = _resized(a, axes, lengths), _resized(b, axes, lengths)
    return ComplexTensor(*Transform(axes, inverse, factor)(a, b))


def _last(x: Tensor, axis: int) -> Tensor:
    """The axis exchanged with the last."""
    return x if axis == x.ndim - 1 else ops.transpose(x, (axis, x.ndim - 1))


def from_real(
    x: Input,
    s: Sequence[int | None] | None,
    dim: int | Sequence[int] | None,
    norm: Norm,
    what: str,
) -> ComplexTensor:
    """The half spectrum along the last of the axes, then the whole one along the others."""
    a = _real(x, what)
    axes = _axes(a.ndim, s, dim, what)  # type: ignore[arg-type]
    if not axes:
        raise ValueError(f"[{what}] needs at least one axis")
    lengths = _lengths(a.shape, s, axes, what)
    factor = _factor(norm, lengths, False, what)
    a = _resized(a, axes, lengths)
    real, imag = (
        _last(part, axes[-1]) for part in RealTransform(lengths[-1], factor)(_last(a, axes[-1]))
    )
    if len(axes) > 1:
        real, imag = Transform(axes[:-1], False, 1.0)(real, imag)
    return ComplexTensor(real, imag)


def to_real(
    x: Input,
    s: Sequence[int | None] | None,
    dim: int | Sequence[int] | None,
    norm: Norm,
    what: str,
) -> Tensor:
    """The inverse of `from_real`, in the opposite order."""
    a, b = _parts(x, what)
    axes = _axes(a.ndim, s, dim, what)  # type: ignore[arg-type]
    if not axes:
        raise ValueError(f"[{what}] needs at least one axis")
    last = a.shape[axes[-1]]
    given: list[int | None] = [None] * len(axes) if s is None else list(s)
    if given[-1] is None or given[-1] == -1:
        given[-1] = 2 * (last - 1)
    lengths = _lengths(a.shape, given, axes, what)
    factor = _factor(norm, lengths, True, what)
    halves = (*lengths[:-1], lengths[-1] // 2 + 1)
    a, b = _resized(a, axes, halves), _resized(b, axes, halves)
    if len(axes) > 1:
        a, b = Transform(axes[:-1], True, 1.0)(a, b)
    result = InverseRealTransform(lengths[-1], factor)(_last(a, axes[-1]), _last(b, axes[-1]))
    return _last(result, axes[-1])
