"""Tensors of given values: PyTorch's functions of creation.

All take the keywords `device` (the default device), `dtype` (which follows from the values) and
`requires_grad` (False). What they make inside of a compiled function is a constant of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import backend_ndarray as nd
from ..autograd import Tensor
from ..backend_ndarray import NDArray, as_dtype, is_float
from ..backend_ndarray.dtypes import python_number
from ..backend_ndarray.layout import checked_shape, named_shape, whole
from ..backend_selection import Device, as_device, default_float
from ..differences import tell
from ..synonyms import accepts_synonyms
from ..typing import DTypeLike, HostArray, Scalar, ShapeLike

CONSTANTS = (
    "[tensor] the Tensors in the list become constants, to which no gradient flows: write "
    "ndl.stack(data) to keep the gradient, or x.item() for a number"
)


def _made(
    host: HostArray, device: Device | str | None, dtype: DTypeLike | None, requires_grad: bool
) -> Tensor:
    if dtype is None:
        dtype = default_float() if host.dtype.kind == "f" else host.dtype
    data = NDArray(host, device=device, dtype=as_dtype(dtype))
    return Tensor.make_const(data, requires_grad=_checked_grad(requires_grad, data))


def _checked_grad(requires_grad: bool, data: NDArray) -> bool:
    if requires_grad and not is_float(data.dtype):
        raise TypeError(f"requires_grad=True needs a floating dtype, got {data.dtype}")
    return requires_grad


# ---- from data ----------------------------------------------------------------------------------


def tensor(
    data: object,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a Tensor with a copy of the data, as PyTorch's `tensor` does.

    Unlike `needle.Tensor(data)` it does not require a gradient, keeps the dtype of an array, and
    makes integers of Python integers.

    Parameters
    ----------
    data : number, nested sequence, NumPy array, NDArray or Tensor
        The values.
    dtype : dtype, optional
        That of an array; int64, bool or the default float for Python numbers.
    device : Device or str, optional
        That of an NDArray or Tensor, else the default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        If the data is not numeric, or an integer Tensor is to require a gradient.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.tensor([1, 2]).dtype, ndl.tensor([1.0]).dtype
    (dtype('int64'), dtype('float32'))
    """
    if isinstance(data, (Tensor, NDArray)):
        array = data.realize_cached_data() if isinstance(data, Tensor) else data
        array = array.copy() if device is None else array.to(device).copy()
        array = array if dtype is None else array.astype(dtype)
        return Tensor.make_const(array, requires_grad=_checked_grad(requires_grad, array))
    if isinstance(data, (np.ndarray, np.generic)):
        wanted = as_dtype(data.dtype if dtype is None else dtype)
        made = Tensor(np.asarray(data), device=device, dtype=wanted, requires_grad=False)
    else:
        made = Tensor(data, device=device, dtype=dtype or _literal(data), requires_grad=False)
    made.requires_grad = _checked_grad(requires_grad, made.realize_cached_data())
    return made


def _literal(data: object) -> DTypeLike | None:
    """The dtype of Python numbers: int64 where all are integers, None for the default."""
    if isinstance(data, (list, tuple)) and _tell_of_constants(data):
        return None
    try:
        kind = np.asarray(data).dtype.kind
    except ValueError:
        raise ValueError(
            "[tensor] the lists inside have different lengths; nn.utils.rnn.pad_sequence makes one "
            "Tensor of Tensors of several lengths"
        ) from None
    return "int64" if kind in "iu" else None


def _tell_of_constants(data: Sequence[object]) -> bool:
    """Say that gradients do not flow to Tensors in lists: PyTorch makes constants of scalars, with
    a warning, and takes no others. Returns whether there are Tensors.
    """
    found = False
    for x in data:
        if isinstance(x, (list, tuple)):
            found |= _tell_of_constants(x)
        elif isinstance(x, Tensor):
            found = True
            if x.requires_grad and x.ndim:
                raise ValueError(
                    f"[tensor] data has a Tensor of shape {x.shape} that requires a gradient, "
                    "which would be lost: write ndl.stack(data), or x.detach() for a constant"
                )
            if x.requires_grad:
                tell("Tensors in lists", CONSTANTS, stacklevel=5, category=UserWarning)
    return found


def as_tensor(
    data: object, dtype: DTypeLike | None = None, device: Device | str | None = None
) -> Tensor:
    """`data` itself where it is a Tensor of the dtype and on the device, else `tensor` of it.

    A NumPy array that fits is not copied: both share the memory.

    Parameters
    ----------
    data : number, sequence, array or Tensor
        The values.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        `data` itself where nothing has to change.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.as_tensor([1, 2], dtype="float32")
    needle.Tensor([1. 2.])
    """
    if isinstance(data, Tensor):
        moved = data if device is None else data.to(as_device(device))
        return moved if dtype is None or moved.dtype == as_dtype(dtype) else moved.astype(dtype)
    if isinstance(data, np.ndarray) and dtype in (None, data.dtype):
        return from_numpy(data, device)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(array: HostArray, device: Device | str | None = None) -> Tensor:
    """A Tensor over the memory of a NumPy array: writes show on both sides on a CPU device.

    It does not require a gradient.

    Parameters
    ----------
    array : numpy.ndarray
        Of a supported dtype.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        The shape and dtype of the array.

    Raises
    ------
    TypeError
        For what is no NumPy array.

    Examples
    --------
    >>> import needle as ndl
    >>> import numpy as np
    >>> ndl.from_numpy(np.ones(2, np.float32))
    needle.Tensor([1. 1.])
    """
    return Tensor.make_const(nd.from_numpy(array, as_device(device)))


def from_dlpack(array: object, device: Device | str | None = None) -> Tensor:
    """A Tensor over the memory of an array of another framework.

    Parameters
    ----------
    array : object with __dlpack__
        Of a supported dtype.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        The shape and dtype of the array.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.from_dlpack(ndl.ones(2)).shape
    (2,)
    """
    return Tensor.make_const(nd.from_dlpack(array, as_device(device)))


# ---- constants ----------------------------------------------------------------------------------


def full(
    shape: ShapeLike,
    fill_value: Scalar,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Every element `fill_value`, which also gives the dtype: bool, int64 or the default float.

    Parameters
    ----------
    shape : int or sequence of int
        The shape.
    fill_value : number
        The value.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        The shape `shape`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.full((2, 2), 7).tolist()
    [[7, 7], [7, 7]]
    """
    number = python_number(fill_value)
    if dtype is None:
        dtype = (
            "bool"
            if isinstance(fill_value, (bool, np.bool_))
            else ("int64" if isinstance(number, int) else default_float())
        )
    data = as_device(device).full(checked_shape("full", (shape,)), number, as_dtype(dtype))
    return Tensor.make_const(data, requires_grad=_checked_grad(requires_grad, data))


@accepts_synonyms
def full_like(
    a: Tensor,
    fill_value: Scalar,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Every element `fill_value`, in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    fill_value : number
        The value.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.full_like(ndl.ones(2), 5)
    needle.Tensor([5. 5.])
    """
    return full(
        a.shape,
        fill_value,
        dtype=a.dtype if dtype is None else dtype,
        device=a.device if device is None else device,
        requires_grad=requires_grad,
    )


def empty(
    *shape: ShapeLike,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
    size: ShapeLike | None = None,
) -> Tensor:
    """A Tensor to be written to; what it holds before is not defined.

    Parameters
    ----------
    *shape : int
        The shape, as integers or one sequence.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.
    size : int or sequence of int, optional
        The shape by PyTorch's name.

    Returns
    -------
    Tensor
        The shape `shape`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.empty(2, 3).shape
    (2, 3)
    """
    wanted = as_dtype(default_float() if dtype is None else dtype)
    data = as_device(device).empty(named_shape("empty", shape, size), wanted)
    return Tensor.make_const(data, requires_grad=_checked_grad(requires_grad, data))


@accepts_synonyms
def empty_like(
    a: Tensor,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`empty` in the shape, dtype and place of `a`.

    Parameters
    ----------
    a : Tensor
        Of any shape and dtype.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        The shape of `a`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.empty_like(ndl.ones(2)).shape
    (2,)
    """
    return empty(
        *a.shape,
        dtype=a.dtype if dtype is None else dtype,
        device=a.device if device is None else device,
        requires_grad=requires_grad,
    )


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A matrix (n, m), square by default, with 1 on the diagonal and 0 elsewhere.

    Parameters
    ----------
    n : int
        The height; how many numbers.
    m : int, optional
        The width.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        (n, m).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    host = np.eye(whole(n, "eye", "n"), None if m is None else whole(m, "eye", "m"))
    return _made(host, device, dtype, requires_grad)


# ---- sequences ----------------------------------------------------------------------------------


def arange(
    start: Scalar,
    end: Scalar | None = None,
    step: Scalar = 1,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` on in steps, the end excluded.

    Parameters
    ----------
    start : number
        The first number; the end, with a start of 0, where it is the only argument.
    end : number, optional
        The numbers stay before it.
    step : number, default 1
        The distance; negative to count down.
    dtype : dtype, optional
        int64 where all three are integers, else the default float.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor, shape (⌈(end - start) / step⌉,)

    Raises
    ------
    ValueError
        If the step is 0 or leads away from the end.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.arange(2, 8, 2)
    needle.Tensor([2 4 6])
    """
    start, step = python_number(start), python_number(step)
    if end is None:
        start, end = 0, start
    end = python_number(end)
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"[arange] a step of {step} does not lead from {start} to {end}")
    if all(isinstance(x, int) for x in (start, end, step)):
        return _made(np.arange(start, end, step), device, dtype, requires_grad)
    count = math.ceil((end - start) / step)
    return _made(start + np.arange(count) * float(step), device, dtype, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included.

    Parameters
    ----------
    start : float
        The first number.
    end : float
        The last number.
    steps : int
        How many numbers.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        (steps,).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.linspace(0, 1, 3)
    needle.Tensor([0.  0.5 1. ])
    """
    host = np.linspace(start, end, whole(steps, "linspace", "steps"))
    return _made(host, device, dtype, requires_grad)


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` powers of `base` with exponents at equal distances from `start` to `end`.

    Parameters
    ----------
    start : float
        The first number.
    end : float
        The last number.
    steps : int
        How many numbers.
    base : float, default 10
        What is raised to the powers.
    dtype : dtype, optional
        It follows from the values by default.
    device : Device or str, optional
        The default device.
    requires_grad : bool, default False
        Whether gradients are computed for it.

    Returns
    -------
    Tensor
        (steps,).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.logspace(0, 2, 3)
    needle.Tensor([  1.  10. 100.])
    """
    host = np.logspace(start, end, whole(steps, "logspace", "steps"), base=base)
    return _made(host, device, dtype, requires_grad)


def tril_indices(
    rows: int,
    columns: int,
    offset: int = 0,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """(2, n) int64: row and column of each element on or below diagonal `offset` of a matrix.

    Parameters
    ----------
    rows : int
        The height.
    columns : int
        The width.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.
    dtype : dtype, optional
        int64.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        (2, n).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.tril_indices(2, 2).tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return _made(np.stack(np.tril_indices(rows, offset, columns)), device, dtype, False)


def triu_indices(
    rows: int,
    columns: int,
    offset: int = 0,
    *,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """(2, n) int64: row and column of each element on or above diagonal `offset` of a matrix.

    Parameters
    ----------
    rows : int
        The height.
    columns : int
        The width.
    offset : int, default 0
        Which diagonal: positive above the main one, negative below. `diagonal` is another name.
    dtype : dtype, optional
        int64.
    device : Device or str, optional
        The default device.

    Returns
    -------
    Tensor
        (2, n).

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.triu_indices(2, 2).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    return _made(np.stack(np.triu_indices(rows, offset, columns)), device, dtype, False)


__all__ = [
    "arange", "as_tensor", "asarray", "empty", "empty_like", "eye", "from_dlpack",
    "from_numpy", "full", "full_like", "linspace", "logspace", "tensor", "tril_indices",
    "triu_indices",
]  # fmt: skip
