"""Complex numbers as pairs of real Tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..autograd.operators import TakesOver
from ..operands import Index
from ..typing import DType, HostArray, Scalar, Shape


class ComplexTensor(TakesOver):
    """Complex numbers: a Tensor of their real parts and one of their imaginary parts.

    needle's arrays are real. This pair has what spectra need: `+ - * /` and `**` by an integer with
    complex and real Tensors and numbers, `abs`, `angle`, `conj`, sums, indexing and changes of
    shape. Each is a composition of operations on the two parts, so that it is differentiable,
    compiled and on every device. For anything else use the parts. A loss must be real; the
    gradients of the parts are what PyTorch calls the real and imaginary part of the gradient.

    Parameters
    ----------
    real, imag : Tensor
        Of one shape and floating dtype.

    Raises
    ------
    TypeError
        If a part is no Tensor, or of another dtype than the other.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import needle as ndl
    >>> z = ndl.fft.ComplexTensor(ndl.Tensor([3.0]), ndl.Tensor([4.0]))
    >>> z.abs().tolist(), (z * 1j).real.tolist()
    ([5.0], [-4.0])
    """

    __slots__ = ("imag", "real")
    __array_priority__ = 2000.0  # NumPy's arrays on the left leave the operator to it

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        for name, part in (("real", real), ("imag", imag)):
            if not isinstance(part, Tensor):
                raise TypeError(
                    f"[ComplexTensor] {name} must be a Tensor, got {type(part).__name__}"
                )
        if real.shape != imag.shape:
            raise ValueError(
                f"[ComplexTensor] the shapes of the parts, {real.shape} and {imag.shape}, differ"
            )
        if real.dtype != imag.dtype or real.dtype not in ("float32", "float64"):
            raise TypeError(
                "[ComplexTensor] the parts must both be float32 or float64, got "
                f"{real.dtype} and {imag.dtype}"
            )
        self.real, self.imag = real, imag

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self.real.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.real.ndim

    @property
    def dtype(self) -> DType:
        """complex64 or complex128."""
        return np.dtype("complex64" if self.real.dtype == "float32" else "complex128")

    def numpy(self) -> HostArray:
        """A NumPy array of complex numbers."""
        host = np.empty(self.shape, self.dtype)
        host.real, host.imag = self.real.numpy(), self.imag.numpy()
        return host

    def tolist(self) -> object:
        """The elements as nested lists of Python's complex numbers."""
        return self.numpy().tolist()

    def item(self) -> complex:
        """The only element. Raises ValueError where there is not exactly one."""
        return complex(self.real.item(), self.imag.item())

    def __repr__(self) -> str:
        return f"needle.fft.ComplexTensor({self.numpy()})"

    def __len__(self) -> int:
        return len(self.real)

    def detach(self) -> ComplexTensor:
        """The same numbers without history."""
        return ComplexTensor(self.real.detach(), self.imag.detach())

    # ---- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Number) -> ComplexTensor:
        real, imag = parts_of(other)
        return _broadcast(self.real + real, self.imag + imag)

    __radd__ = __add__

    def __neg__(self) -> ComplexTensor:
        return ComplexTensor(-self.real, -self.imag)

    def __sub__(self, other: Number) -> ComplexTensor:
        real, imag = parts_of(other)
        return _broadcast(self.real - real, self.imag - imag)

    def __rsub__(self, other: Number) -> ComplexTensor:
        return -self + other

    def __mul__(self, other: Number) -> ComplexTensor:
        real, imag = parts_of(other)
        if isinstance(imag, float) and imag == 0:
            return ComplexTensor(self.real * real, self.imag * real)
        return ComplexTensor(
            self.real * real - self.imag * imag, self.real * imag + self.imag * real
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> ComplexTensor:
        real, imag = parts_of(other)
        if isinstance(imag, float) and imag == 0:
            return ComplexTensor(self.real / real, self.imag / real)
        size = real * real + imag * imag
        return ComplexTensor(
            (self.real * real + self.imag * imag) / size,
            (self.imag * real - self.real * imag) / size,
        )

    def __rtruediv__(self, other: Number) -> ComplexTensor:
        size = self.real * self.real + self.imag * self.imag
        return ComplexTensor(self.real / size, -self.imag / size) * other

    def __pow__(self, exponent: int) -> ComplexTensor:
        if not isinstance(exponent, int) or exponent < 1:
            raise TypeError(
                f"[ComplexTensor] powers are those by positive integers, got {exponent!r}"
            )
        result = self
        for _ in range(exponent - 1):
            result = result * self
        return result

    def conj(self) -> ComplexTensor:
        """The complex conjugates."""
        return ComplexTensor(self.real, -self.imag)

    def abs(self) -> Tensor:
        """The absolute values; the gradient at 0 is 0."""
        return ops.norm(ops.stack([self.real, self.imag], 0), 2, 0)

    __abs__ = abs

    def angle(self) -> Tensor:
        """The angles within [-π, π]; the gradient at 0 is not finite."""
        return ops.atan2(self.imag, self.real)

    # ---- shapes ---------------------------------------------------------------------------------

    def __getitem__(self, index: Index) -> ComplexTensor:
        return ComplexTensor(self.real[index], self.imag[index])

    def reshape(self, *shape: int) -> ComplexTensor:
        """The same elements under another shape."""
        return ComplexTensor(self.real.reshape(*shape), self.imag.reshape(*shape))

    def permute(self, *axes: int) -> ComplexTensor:
        """The axes in another order."""
        return ComplexTensor(self.real.permute(*axes), self.imag.permute(*axes))

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> ComplexTensor:
        """The sum over `axis`."""
        return ComplexTensor(self.real.sum(axis, keepdims), self.imag.sum(axis, keepdims))

    def mean(
        self, axis: int | Sequence[int] | None = None, keepdims: bool = False
    ) -> ComplexTensor:
        """The mean over `axis`."""
        return ComplexTensor(self.real.mean(axis, keepdims), self.imag.mean(axis, keepdims))


Number: TypeAlias = ComplexTensor | Tensor | Scalar | complex


def parts_of(x: Number) -> tuple[Tensor | Scalar, Tensor | Scalar]:
    """The real and the imaginary part; the latter is 0.0 for what is real."""
    if isinstance(x, ComplexTensor):
        return x.real, x.imag
    if isinstance(x, Tensor):
        return x, 0.0
    if isinstance(x, (complex, np.complexfloating)):
        return float(x.real), float(x.imag)
    if isinstance(x, (bool, int, float, np.bool_, np.number)):
        return x, 0.0
    raise TypeError(
        f"[ComplexTensor] operands are Tensors, ComplexTensors and numbers, got {type(x).__name__}"
    )


def _broadcast(real: Tensor, imag: Tensor) -> ComplexTensor:
    """A sum whose imaginary part may have kept a smaller shape."""
    return ComplexTensor(real, ops.broadcast_to(imag, real.shape))


def view_as_real(x: ComplexTensor) -> Tensor:
    """The parts of complex numbers along a last axis of length 2.

    Parameters
    ----------
    x : ComplexTensor

    Returns
    -------
    Tensor, shape (..., 2)
        Of memory of its own.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.view_as_real(ndl.fft.fft(ndl.Tensor([1, 2]))).tolist()
    [[3.0, 0.0], [-1.0, 0.0]]
    """
    return ops.stack([x.real, x.imag], x.ndim)


def view_as_complex(x: Tensor) -> ComplexTensor:
    """Complex numbers whose parts are along a last axis of length 2.

    Parameters
    ----------
    x : Tensor, shape (..., 2)

    Returns
    -------
    ComplexTensor, shape (...)

    Raises
    ------
    ValueError
        If the last axis has another length.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.fft.view_as_complex(ndl.Tensor([[3, 4]])).abs().tolist()
    [5.0]
    """
    if x.ndim < 1 or x.shape[-1] != 2:
        raise ValueError(f"[view_as_complex] needs a last axis of length 2, got shape {x.shape}")
    return ComplexTensor(x[..., 0], x[..., 1])
