"""Fourier transforms under the names of `torch.fft`, on NumPy's through the host.

A spectrum is a `ComplexTensor`: a pair of real Tensors. Transforms take Tensors and ComplexTensors.
They are linear maps, and the gradient of each is another transform, so that gradients of gradients
exist. They run on the host: arrays of a GPU are copied there and back, and a function that
`ndl.jit` compiles cannot contain them.
"""

from typing import TYPE_CHECKING

from ..module_names import names_of
from .complex import ComplexTensor, view_as_complex, view_as_real
from .frequencies import fftfreq, fftshift, ifftshift, rfftfreq
from .functions import (
    fft,
    fft2,
    fftn,
    ifft,
    ifft2,
    ifftn,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
)
from .hermitian import hfft, hfft2, hfftn, ihfft, ihfft2, ihfftn

__all__ = [
    "ComplexTensor",
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "hfft2",
    "hfftn",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "ihfft2",
    "ihfftn",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
    "view_as_complex",
    "view_as_real",
]

if not TYPE_CHECKING:  # which would take any name for one of the module
    __getattr__ = names_of(__name__, "torch.fft")
