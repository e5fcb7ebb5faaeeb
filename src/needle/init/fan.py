"""Initial weights scaled by how many inputs and outputs a unit has.

Each function draws once, gives shape (fan_in, fan_out) unless `shape` is given, and hands further
keywords (`device`, `dtype`, `requires_grad`, `generator`) to `rand` or `randn`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict, Unpack

from ..autograd import Tensor
from ..backend_ndarray.layout import whole
from ..backend_selection import Device
from ..random import Generator
from ..typing import DTypeLike
from .basic import rand, randn


class Options(TypedDict, total=False):
    """The keywords that `rand` and `randn` share."""

    device: Device | str | None
    dtype: DTypeLike | None
    requires_grad: bool
    generator: Generator | None


def xavier_uniform(
    fan_in: int,
    fan_out: int,
    gain: float = 1.0,
    shape: Sequence[int] | None = None,
    **kwargs: Unpack[Options],
) -> Tensor:
    """Uniform weights in ±gain·√(6 / (fan_in + fan_out)).

    Parameters
    ----------
    fan_in : int
        The number of inputs of a unit.
    fan_out : int
        The number of outputs of a unit.
    gain : float, default 1.0
        The factor.
    shape : sequence of int, optional
        The shape; (fan_in, fan_out) if it is None.
    **kwargs : Options
        `device`, `dtype`, `requires_grad` and `generator`, as `rand` takes them.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If a number of inputs or outputs is below 1.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.xavier_uniform(3, 4).shape
    (3, 4)
    """
    _check_fans("xavier_uniform", fan_in, fan_out)
    a = gain * math.sqrt(6 / (fan_in + fan_out))
    return rand(*_or_fans(shape, fan_in, fan_out), low=-a, high=a, **kwargs)


def xavier_normal(
    fan_in: int,
    fan_out: int,
    gain: float = 1.0,
    shape: Sequence[int] | None = None,
    **kwargs: Unpack[Options],
) -> Tensor:
    """Normal weights with standard deviation gain·√(2 / (fan_in + fan_out)).

    Parameters
    ----------
    fan_in : int
        The number of inputs of a unit.
    fan_out : int
        The number of outputs of a unit.
    gain : float, default 1.0
        The factor.
    shape : sequence of int, optional
        The shape; (fan_in, fan_out) if it is None.
    **kwargs : Options
        `device`, `dtype`, `requires_grad` and `generator`, as `randn` takes them.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If a number of inputs or outputs is below 1.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.xavier_normal(3, 4).shape
    (3, 4)
    """
    _check_fans("xavier_normal", fan_in, fan_out)
    std = gain * math.sqrt(2 / (fan_in + fan_out))
    return randn(*_or_fans(shape, fan_in, fan_out), mean=0, std=std, **kwargs)


def kaiming_uniform(
    fan_in: int,
    fan_out: int,
    shape: Sequence[int] | None = None,
    nonlinearity: str = "relu",
    **kwargs: Unpack[Options],
) -> Tensor:
    """Uniform weights in ±√2·√(3 / fan_in), where √2 is the gain of ReLU.

    Parameters
    ----------
    fan_in : int
        The number of inputs of a unit.
    fan_out : int
        The number of outputs of a unit.
    shape : sequence of int, optional
        The shape; (fan_in, fan_out) if it is None.
    nonlinearity : str, default "relu"
        The activation that follows; only "relu", whose gain is √2.
    **kwargs : Options
        `device`, `dtype`, `requires_grad` and `generator`, as `rand` takes them.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If a number of inputs or outputs is below 1 or the nonlinearity is unknown.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.kaiming_uniform(3, 4).shape
    (3, 4)
    """
    _check_fans("kaiming_uniform", fan_in, fan_out)
    a = _gain("kaiming_uniform", nonlinearity) * math.sqrt(3 / fan_in)
    return rand(*_or_fans(shape, fan_in, fan_out), low=-a, high=a, **kwargs)


def kaiming_normal(
    fan_in: int,
    fan_out: int,
    shape: Sequence[int] | None = None,
    nonlinearity: str = "relu",
    **kwargs: Unpack[Options],
) -> Tensor:
    """Normal weights with standard deviation √2 / √fan_in, where √2 is the gain of ReLU.

    Parameters
    ----------
    fan_in : int
        The number of inputs of a unit.
    fan_out : int
        The number of outputs of a unit.
    shape : sequence of int, optional
        The shape; (fan_in, fan_out) if it is None.
    nonlinearity : str, default "relu"
        The activation that follows; only "relu", whose gain is √2.
    **kwargs : Options
        `device`, `dtype`, `requires_grad` and `generator`, as `randn` takes them.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If a number of inputs or outputs is below 1 or the nonlinearity is unknown.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.kaiming_normal(3, 4).shape
    (3, 4)
    """
    _check_fans("kaiming_normal", fan_in, fan_out)
    std = _gain("kaiming_normal", nonlinearity) / math.sqrt(fan_in)
    return randn(*_or_fans(shape, fan_in, fan_out), mean=0, std=std, **kwargs)


def _or_fans(shape: Sequence[int] | None, fan_in: int, fan_out: int) -> Sequence[int]:
    return (fan_in, fan_out) if shape is None else shape


def _gain(name: str, nonlinearity: str) -> float:
    if nonlinearity != "relu":
        raise ValueError(f"[{name}] nonlinearity must be 'relu', got {nonlinearity!r}")
    return math.sqrt(2)


def _check_fans(name: str, fan_in: int, fan_out: int) -> None:
    if whole(fan_in, name, "fan_in") < 1 or whole(fan_out, name, "fan_out") < 1:
        raise ValueError(f"[{name}] fan_in and fan_out must be at least 1, got {fan_in}, {fan_out}")
