"""Settings of a whole program under PyTorch's names.

Those that change nothing here say so, and those that needle would ignore to the program's harm are
errors.
"""

from __future__ import annotations

import numpy as np

from .backend_ndarray import as_dtype
from .backend_selection import Device, default_device, default_float, set_default_device
from .typing import DType, DTypeLike


def get_default_dtype() -> DType:
    """The dtype that floats get where none is given: float32.

    Returns
    -------
    dtype
        float64 under NEEDLE_BACKEND=np.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.get_default_dtype()
    dtype('float32')
    """
    return as_dtype(default_float())


def set_default_dtype(dtype: DTypeLike) -> None:
    """Check that `dtype` is what floats get anyway: layers have dtypes of their own.

    Parameters
    ----------
    dtype : dtype or its name
        `get_default_dtype()`.

    Raises
    ------
    ValueError
        For another dtype.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.set_default_dtype(ndl.float32)
    """
    if as_dtype(dtype) != get_default_dtype():
        raise ValueError(
            f"[set_default_dtype] floats are {get_default_dtype()} unless a dtype is given: write "
            f"dtype={as_dtype(dtype).name!r} where Tensors are made, and model.to("
            f"{as_dtype(dtype).name!r})"
        )


def get_default_device() -> Device:
    """The device of Tensors that are made without one.

    Returns
    -------
    Device
        The one that `set_default_device` was given; at first the CPU.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.get_default_device() == ndl.default_device()
    True
    """
    return default_device()


_precision = "highest"


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was given last.

    Returns
    -------
    {"highest", "high", "medium"}
        Products of float32 are computed in float32 in any case.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.get_float32_matmul_precision()
    'highest'
    """
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Note how exact products of float32 may be. It changes nothing: they are always exact.

    `amp.autocast` computes products with fewer bits.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        What is allowed.

    Raises
    ------
    ValueError
        For another word.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.set_float32_matmul_precision("highest")
    """
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            "[set_float32_matmul_precision] precision must be 'highest', 'high' or 'medium', got "
            f"{precision!r}"
        )
    _precision = precision


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how Tensors are printed: as NumPy prints arrays, whose settings these are.

    Parameters
    ----------
    precision : int, optional
        Digits after the point.
    threshold : int, optional
        The number of elements from which the middle is left out; infinity prints all.
    edgeitems : int, optional
        How many elements are then shown at each end.
    linewidth : int, optional
        Characters in a line.
    profile : {"default", "short", "full"}, optional
        The precision and the threshold by a word; "full" leaves nothing out.
    sci_mode : bool, optional
        Whether numbers have exponents; False never.

    Raises
    ------
    ValueError
        For another `profile`.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.set_printoptions(precision=8)
    """
    profiles = {
        None: {},
        "default": {"precision": 8, "threshold": 1000, "edgeitems": 3},
        "short": {"precision": 2, "threshold": 1000, "edgeitems": 2},
        "full": {"precision": 8, "threshold": np.iinfo(np.int64).max, "edgeitems": 3},
    }
    if profile not in profiles:
        raise ValueError(
            f"[set_printoptions] profile must be 'default', 'short' or 'full', got {profile!r}"
        )
    chosen = dict(profiles[profile])
    if threshold is not None:
        threshold = int(min(threshold, np.iinfo(np.int64).max))
    given = {
        "precision": precision, "threshold": threshold, "edgeitems": edgeitems,
        "linewidth": linewidth, "suppress": None if sci_mode is None else not sci_mode,
    }  # fmt: skip
    chosen.update({name: value for name, value in given.items() if value is not None})
    np.set_printoptions(**chosen)  # type: ignore[arg-type]


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: every function gives the same result from run to run, on a GPU as well.

    Results may differ with another number of threads (`set_num_threads`).

    Parameters
    ----------
    mode : bool
        Whether results must be the same.
    warn_only : bool, default False
        Accepted as in PyTorch.

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.use_deterministic_algorithms(True)
    """


def are_deterministic_algorithms_enabled() -> bool:
    """True: every function gives the same result from run to run.

    Returns
    -------
    bool

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.are_deterministic_algorithms_enabled()
    True
    """
    return True


# How the elements of a Tensor lie in memory, for arguments `memory_format=`: they are accepted, and
# needle chooses the layout itself.
contiguous_format, channels_last, channels_last_3d, preserve_format = (
    "contiguous_format", "channels_last", "channels_last_3d", "preserve_format",
)  # fmt: skip

__all__ = [
    "are_deterministic_algorithms_enabled", "channels_last", "channels_last_3d",
    "contiguous_format", "get_default_device", "get_default_dtype", "get_float32_matmul_precision",
    "preserve_format", "set_default_device", "set_default_dtype", "set_float32_matmul_precision",
    "set_printoptions", "use_deterministic_algorithms",
]  # fmt: skip
