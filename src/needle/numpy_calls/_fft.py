"""The transforms of `np.fft`, with NumPy's names and arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import fft as _fft

_Norm = Any


def _one(transform: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, n: int | None = None, axis: int = -1, norm: _Norm = None) -> Any:
        return transform(a, n, axis, norm)

    return call


def _two(transform: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        a: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: _Norm = None
    ) -> Any:
        return transform(a, s, axes, norm)

    return call


def _several(transform: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        a: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None,
        norm: _Norm = None,
    ) -> Any:  # fmt: skip
        return transform(a, s, axes, norm)

    return call


def fftshift(x: Any, axes: Any = None) -> Any:
    return _fft.fftshift(x, axes)


def ifftshift(x: Any, axes: Any = None) -> Any:
    return _fft.ifftshift(x, axes)


fft, ifft, rfft, irfft = map(_one, (_fft.fft, _fft.ifft, _fft.rfft, _fft.irfft))
hfft, ihfft = map(_one, (_fft.hfft, _fft.ihfft))
fft2, ifft2, rfft2, irfft2 = map(_two, (_fft.fft2, _fft.ifft2, _fft.rfft2, _fft.irfft2))
fftn, ifftn, rfftn, irfftn = map(_several, (_fft.fftn, _fft.ifftn, _fft.rfftn, _fft.irfftn))

__all__ = [
    "fft", "fft2", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft",
    "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftn",
]  # fmt: skip
