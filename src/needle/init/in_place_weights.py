"""Functions that fill a weight in place by its numbers of inputs and outputs, as PyTorch's.

Those follow from needle's layout, (k…, in, out): see `in_place`.
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Tensor
from ..random import Generator
from .basic import rand, randn
from .in_place import constant_of, fill_normal, fill_uniform, filled

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0, "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
    "relu": math.sqrt(2), "selu": 3 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor of the deviation of weights before a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        The name of the function, such as "relu" or "tanh".
    param : float, optional
        The negative slope of "leaky_relu", 0.01 where it is not given.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.calculate_gain("relu") ** 2
    2.0000000000000004
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"[calculate_gain] nonlinearity must be one of {', '.join([*_GAINS, 'leaky_relu'])}, "
            f"got {nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor, name: str = "fans") -> tuple[int, int]:
    """Return how many inputs and outputs a unit of a weight (k…, in, out) has.

    Raises ValueError unless there are at least two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"[{name}] needs a weight of at least 2 axes, got shape {tensor.shape}")
    *kernel, inputs, outputs = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with U(-a, a), a = gain·√(6 / (fan_in + fan_out)).

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    gain : float, default 1.0
        A factor, see `calculate_gain`.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are at least 2 axes.

    References
    ----------
    Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural
    Networks", 2010.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.xavier_uniform_(ndl.zeros(2, 4))
    >>> bool((abs(w.numpy()) <= 1).all())
    True
    """
    bound = gain * math.sqrt(6 / sum(fans(tensor, "xavier_uniform_")))
    return fill_uniform(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with N(0, std²), std = gain·√(2 / (fan_in + fan_out)).

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    gain : float, default 1.0
        A factor, see `calculate_gain`.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are at least 2 axes.

    References
    ----------
    Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural
    Networks", 2010.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.xavier_normal_(ndl.zeros(2, 4)).shape
    (2, 4)
    """
    std = gain * math.sqrt(2 / sum(fans(tensor, "xavier_normal_")))
    return fill_normal(tensor, 0.0, std, generator)


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"[{name}] mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor, name)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with U(-b, b), b = gain·√(3 / fan).

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    a : float, default 0.0
        The negative slope of a leaky ReLU.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether sizes are kept forward or backward.
    nonlinearity : str, default "leaky_relu"
        What follows the layer, as `calculate_gain` knows it.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If an option is unknown or there are fewer than 2 axes.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.kaiming_uniform_(ndl.zeros(6, 4))
    >>> bool((abs(w.numpy()) <= 1).all())
    True
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return fill_uniform(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(0, std²), std = gain / √fan.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    a : float, default 0.0
        The negative slope of a leaky ReLU.
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether sizes are kept forward or backward.
    nonlinearity : str, default "leaky_relu"
        What follows the layer, as `calculate_gain` knows it.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        If an option is unknown or there are fewer than 2 axes.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.kaiming_normal_(ndl.zeros(6, 4)).shape
    (6, 4)
    """
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return fill_normal(tensor, 0.0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill so that the matrix with a column for each output is orthogonal times `gain`.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    gain : float, default 1.0
        A factor, see `calculate_gain`.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are at least 2 axes.

    References
    ----------
    Saxe, McClelland and Ganguli, "Exact Solutions to the Nonlinear Dynamics of Learning in Deep
    Linear Neural Networks", 2014.

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.orthogonal_(ndl.zeros(3, 3)).numpy()
    >>> bool(abs(w @ w.T - w.T @ w).max() < 1e-5)
    True
    """
    fans(tensor, "orthogonal_")
    outputs = tensor.shape[-1]
    device = None if generator is not None else tensor.device
    numbers = randn(tensor.size, device=device, dtype="float64", generator=generator).numpy()
    matrix = numbers.reshape((-1, outputs))
    is_wide = matrix.shape[0] < outputs
    q, r = np.linalg.qr(matrix.T if is_wide else matrix)
    q = q * np.sign(np.diag(r))  # unique, and uniform over all orthogonal matrices
    values = gain * (q.T if is_wide else q).reshape(tensor.shape)
    return filled(tensor, constant_of(values, tensor))


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fill a matrix with N(0, std²), and the part `sparsity` of each input's weights with 0.

    Parameters
    ----------
    tensor : Tensor
        What is filled; a weight has the shape (k…, in, out).
    sparsity : float
        The part of zeros, in [0, 1].
    std : float, default 0.01
        The standard deviation of the other numbers.
    generator : Generator, optional
        What draws; NumPy's global state where it is not given.

    Returns
    -------
    Tensor
        `tensor` itself.

    Raises
    ------
    ValueError
        Unless there are 2 axes and `sparsity` is in [0, 1].

    Examples
    --------
    >>> import needle as ndl
    >>> w = ndl.init.sparse_(ndl.zeros(2, 4), sparsity=0.5)
    >>> int((w.numpy() == 0).sum())
    4
    """
    if tensor.ndim != 2:
        raise ValueError(f"[sparse_] needs a matrix, got shape {tensor.shape}")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"[sparse_] sparsity must be in [0, 1], got {sparsity}")
    fill_normal(tensor, 0.0, std, generator)
    inputs, outputs = tensor.shape
    device = None if generator is not None else tensor.device
    order = rand(inputs, outputs, device=device, generator=generator).numpy().argsort(1)
    values = tensor.numpy().copy()
    np.put_along_axis(values, order[:, : math.ceil(sparsity * outputs)], 0, axis=1)
    return filled(tensor, constant_of(values, tensor))


__all__ = [
    "calculate_gain", "fans", "kaiming_normal_", "kaiming_uniform_", "orthogonal_", "sparse_",
    "xavier_normal_", "xavier_uniform_",
]  # fmt: skip
