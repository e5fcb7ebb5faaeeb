"""Functions that fill a Tensor in place, under PyTorch's names.

Which axes of a weight count as inputs and outputs follows from its shape: needle's weights are
(in, out) in linear and recurrent layers and embeddings, and (k…, in, out) in convolutions, so that
the last axis is that of the outputs, the one before it that of the inputs, and what stands before
is the kernel. A weight of PyTorch's layout, (out, in, k…), must be transposed first.

All return the Tensor. Those that draw take a `generator` (`needle.Generator`), and otherwise use
NumPy's global state.
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Tensor, no_grad
from ..ops import erfinv
from ..random import Generator
from .basic import rand, randn


def filled(tensor: Tensor, values: Tensor | float | np.ndarray) -> Tensor:
    with no_grad():
        tensor[...] = values
    return tensor


def fill_uniform(tensor: Tensor, a: float, b: float, generator: Generator | None) -> Tensor:
    device = None if generator is not None else tensor.device
    values = rand(
        *tensor.shape, low=a, high=b, device=device, dtype=tensor.dtype, generator=generator
    )
    return filled(tensor, values)


def fill_normal(tensor: Tensor, mean: float, std: float, generator: Generator | None) -> Tensor:
    device = None if generator is not None else tensor.device
    values = randn(
        *tensor.shape, mean=mean, std=std, device=device, dtype=tensor.dtype, generator=generator
    )
    return filled(tensor, values)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of U(a, b).

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    a : float, default 0.0
        The lower end.
    b : float, default 1.0
        The upper end.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.uniform_(ndl.zeros(3), 1.0, 2.0)
    >>> bool((w.numpy() >= 1).all())
    True
    """
    return fill_uniform(tensor, a, b, generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of N(mean, std²).

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.normal_(ndl.zeros(3), 1.0, 0.0).tolist()
    [1.0, 1.0, 1.0]
    """
    return fill_normal(tensor, mean, std, generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers of N(mean, std²) inside [a, b].

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    mean : float, default 0.0
        The mean of the whole distribution.
    std : float, default 1.0
        The standard deviation of the whole distribution.
    a : float, default -2.0
        The lower end.
    b : float, default 2.0
        The upper end.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.trunc_normal_(ndl.zeros(100), std=5.0)
    >>> bool((abs(w.numpy()) <= 2).all())
    True
    """
    low, high = (math.erf((end - mean) / (std * math.sqrt(2))) for end in (a, b))
    device = None if generator is not None else tensor.device
    u = rand(*tensor.shape, low=low, high=high, device=device, dtype="float64", generator=generator)
    values = erfinv(u) * (std * math.sqrt(2)) + mean
    return filled(tensor, values.clip(a, b).astype(tensor.dtype))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one number.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    val : float
        The number.

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.constant_(ndl.zeros(2), 0.5).tolist()
    [0.5, 0.5]
    """
    return filled(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.ones_(ndl.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return filled(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).

    Returns
    -------
    Tensor
        `tensor` itself.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.zeros_(ndl.ones(2)).tolist()
    [0.0, 0.0]
    """
    return filled(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity, so that a linear layer returns its input.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are 2 axes.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.eye_(ndl.zeros(2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] needs a matrix, got shape {tensor.shape}")
    return filled(tensor, constant_of(np.eye(tensor.shape[0], tensor.shape[1]), tensor))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight (k…, in, out) so that it passes its input on.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    groups : int, default 1
        The number of groups of the convolution.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are 3 to 5 axes and `groups` divides the outputs.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.dirac_(ndl.zeros(3, 1, 1)).tolist()
    [[[0.0]], [[1.0]], [[0.0]]]
    """
    if not 3 <= tensor.ndim <= 5:
        raise ValueError(f"[dirac_] needs a weight of 3 to 5 axes, got shape {tensor.shape}")
    *kernel, inputs, outputs = tensor.shape
    if outputs % groups:
        raise ValueError(f"[dirac_] {groups} groups do not divide {outputs} outputs")
    values = np.zeros(tensor.shape)
    center = tuple(k // 2 for k in kernel)
    size = outputs // groups
    for group in range(groups):
        for i in range(min(inputs, size)):
            values[(*center, i, group * size + i)] = 1
    return filled(tensor, constant_of(values, tensor))


def constant_of(values: np.ndarray, like: Tensor) -> Tensor:
    return Tensor(values, device=like.device, dtype=like.dtype, requires_grad=False)


__all__ = [
    "constant_", "dirac_", "eye_", "normal_", "ones_", "trunc_normal_", "uniform_", "zeros_",
]  # fmt: skip
