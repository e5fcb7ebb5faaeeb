"""Tensors of random numbers and of constants.

Every function takes the shape as separate integers (or as one tuple) and the keywords `device`
(the default device), `dtype` (float32; None is the backend's default) and `requires_grad` (False).
A shape that is not made of non-negative integers raises TypeError or ValueError. Those that draw
take a `generator` (`needle.Generator`) to draw from instead of NumPy's; on another device than the
given one it raises ValueError.
"""

from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray, as_dtype, is_float, is_traced, traced_one_hot
from ..backend_ndarray.dtypes import below, python_number
from ..backend_ndarray.layout import checked_shape, named_shape, whole
from ..backend_selection import Device, as_device, default_float
from ..operands import ArrayLike
from ..random import Generator
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike, ShapeLike


def rand(
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    generator: Generator | None = None,
    size: ShapeLike | None = None,
) -> Tensor:
    """Tensor of uniform random numbers in [low, high).

    It draws `numpy.random.rand(*shape)`.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    low, high : float, default 0.0 and 1.0
        The ends of the interval.
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.
    generator : Generator, optional
        The `needle.Generator` that is drawn from; NumPy's global generator if it is None.
    size : int or sequence of int, optional
        The shape by PyTorch's name.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers or the dtype is not floating.
    ValueError
        If the shape is negative or the generator is on another device.

    Examples
    --------
    >>> import needle as ndl
    >>> x = ndl.init.rand(2, 3, low=-1)
    >>> x.shape, bool((x.numpy() < 1).all())
    ((2, 3), True)
    """
    low, high = python_number(low), python_number(high)
    source = _source("rand", device, generator)
    data = source.rand(*named_shape("rand", shape, size), dtype=_float("rand", dtype))
    if (low, high) != (0, 1):
        data = _affine(data, high - low, low)
        if low < high:  # rounding may have led there
            data = data.minimum(max(low, below(high, data.dtype)))
    return _tensor(data, requires_grad)


def randn(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    generator: Generator | None = None,
    size: ShapeLike | None = None,
) -> Tensor:
    """Tensor of normal random numbers.

    It draws `numpy.random.randn(*shape)`.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    mean : float, default 0.0
        The mean.
    std : float, default 1.0
        The standard deviation.
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.
    generator : Generator, optional
        The `needle.Generator` that is drawn from; NumPy's global generator if it is None.
    size : int or sequence of int, optional
        The shape by PyTorch's name.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers or the dtype is not floating.
    ValueError
        If the shape is negative or the generator is on another device.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.randn(2, 3, generator=ndl.Generator(0)).shape
    (2, 3)
    """
    source = _source("randn", device, generator)
    data = source.randn(*named_shape("randn", shape, size), dtype=_float("randn", dtype))
    return _tensor(_affine(data, std, mean), requires_grad)


def randb(
    *shape: int,
    p: float = 0.5,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "bool",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Tensor of bools that are True with a probability.

    It draws `numpy.random.rand(*shape)`.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    p : float, default 0.5
        The probability, in [0, 1].
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "bool"
        The dtype; numbers are 1 and 0. None is bool.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.
    generator : Generator, optional
        The `needle.Generator` that is drawn from; NumPy's global generator if it is None.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers.
    ValueError
        If `p` is out of range, the shape is negative or the generator is on another device.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.randb(3, p=1.0).tolist()
    [True, True, True]
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[randb] p must be in [0, 1], got {p}")
    data = _source("randb", device, generator).rand(*checked_shape("randb", shape))
    return _tensor(data.compare("lt", p).astype("bool" if dtype is None else dtype), requires_grad)


def constant(
    *shape: int,
    c: float = 1.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Tensor whose elements are all one number.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    c : float, default 1.0
        The number.
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers.
    ValueError
        If the shape is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.constant(2, c=0.5)
    needle.Tensor([0.5 0.5])
    """
    name = "zeros" if c == 0 else "ones" if c == 1 else "constant"
    data = as_device(device).full(checked_shape(name, shape), c, _dtype(dtype))
    return _tensor(data, requires_grad)


def ones(
    *shape: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    size: ShapeLike | None = None,
) -> Tensor:
    """Tensor of ones.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.
    size : int or sequence of int, optional
        The shape by PyTorch's name.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers.
    ValueError
        If the shape is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.ones(2)
    needle.Tensor([1. 1.])
    """
    return constant(
        *named_shape("ones", shape, size),
        c=1,
        device=device,
        dtype=dtype,
        requires_grad=requires_grad,
    )


def zeros(
    *shape: int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
    size: ShapeLike | None = None,
) -> Tensor:
    """Tensor of zeros.

    Parameters
    ----------
    *shape : int
        The shape, as separate integers or as one tuple.
    device : Device or str, optional
        The device; `needle.default_device()` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.
    size : int or sequence of int, optional
        The shape by PyTorch's name.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    TypeError
        If the shape is not made of integers.
    ValueError
        If the shape is negative.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.zeros(2)
    needle.Tensor([0. 0.])
    """
    return constant(
        *named_shape("zeros", shape, size),
        c=0,
        device=device,
        dtype=dtype,
        requires_grad=requires_grad,
    )


@accepts_synonyms
def ones_like(
    array: Tensor,
    *,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Tensor of ones of the shape of another one.

    Parameters
    ----------
    array : Tensor
        The other one.
    device : Device or str, optional
        The device; that of `array` if it is None.
    dtype : str or dtype, optional
        The dtype; that of `array` if it is None.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.

    Returns
    -------
    Tensor, the shape of `array`

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.ones_like(ndl.Tensor([5, 6]))
    needle.Tensor([1. 1.])
    """
    return _constant_like(array, 1, device, dtype, requires_grad)


@accepts_synonyms
def zeros_like(
    array: Tensor,
    *,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Tensor of zeros of the shape of another one.

    Parameters
    ----------
    array : Tensor
        The other one.
    device : Device or str, optional
        The device; that of `array` if it is None.
    dtype : str or dtype, optional
        The dtype; that of `array` if it is None.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.

    Returns
    -------
    Tensor, the shape of `array`

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.zeros_like(ndl.Tensor([5, 6]))
    needle.Tensor([0. 0.])
    """
    return _constant_like(array, 0, device, dtype, requires_grad)


def one_hot(
    n: int,
    i: ArrayLike | int,
    device: Device | str | None = None,
    dtype: DTypeLike | None = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Rows of the n×n identity matrix, chosen by integers.

    Parameters
    ----------
    n : int
        The length of the rows.
    i : Tensor or array of integers
        The position of the 1 in each row.
    device : Device or str, optional
        The device; that of `i` if it is None.
    dtype : str or dtype, default "float32"
        The dtype; None is the backend's default.
    requires_grad : bool, default False
        Whether the Tensor requires a gradient. Only floating-point ones can.

    Returns
    -------
    Tensor, shape (*i.shape, n)

    Raises
    ------
    ValueError
        If an entry of `i` is outside 0 … n - 1.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.init.one_hot(3, [0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if isinstance(i, (Tensor, NDArray)) and device is None:
        device = i.device
    data = i.realize_cached_data() if isinstance(i, Tensor) else i
    n = whole(n, "one_hot", "n")
    if isinstance(data, NDArray) and is_traced(data):
        return _tensor(traced_one_hot(data, n, _dtype(dtype)), requires_grad)
    return _tensor(as_device(device).one_hot(n, np.asarray(data), _dtype(dtype)), requires_grad)


def _constant_like(
    array: Tensor,
    value: int,
    device: Device | str | None,
    dtype: DTypeLike | None,
    requires_grad: bool,
) -> Tensor:
    return constant(
        *array.shape,
        c=value,
        device=array.device if device is None else device,
        dtype=array.dtype if dtype is None else dtype,
        requires_grad=requires_grad,
    )


def _affine(data: NDArray, scale: float, shift: float) -> NDArray:
    """data · scale + shift, without work where nothing changes."""
    if scale != 1:
        data = data * scale
    return data + shift if shift != 0 else data


def _source(
    name: str, device: Device | str | None, generator: Generator | None
) -> Device | Generator:
    """The source of random numbers; both kinds have `rand` and `randn`."""
    if generator is None:
        return as_device(device)
    if device is not None and as_device(device) != generator.device:
        raise ValueError(f"[{name}] the generator is on {generator.device}, not on {device}")
    return generator


def _tensor(data: NDArray, requires_grad: bool) -> Tensor:
    return Tensor.make_const(data, requires_grad=requires_grad and is_float(data.dtype))


def _dtype(dtype: DTypeLike | None) -> np.dtype:
    return as_dtype(default_float() if dtype is None else dtype)


def _float(name: str, dtype: DTypeLike | None) -> np.dtype:
    own = _dtype(dtype)
    if not is_float(own):
        raise TypeError(f"[{name}] dtype must be a floating one, got {own}")
    return own
