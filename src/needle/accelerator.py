"""Whether there is a GPU, by the names of `torch.accelerator`."""

from __future__ import annotations

from .backend_selection import Device, as_device, cuda
from .torch_cuda import device_count, is_available


def current_accelerator(check_available: bool = False) -> Device | None:
    """The GPU, or None where there is none.

    Parameters
    ----------
    check_available : bool, default False
        Not used: a GPU that cannot be used is none.

    Returns
    -------
    Device or None

    Examples
    --------
    >>> import needle as ndl
    >>> found = ndl.accelerator.current_accelerator()
    >>> (found is not None) == ndl.accelerator.is_available()
    True
    """
    return cuda() if is_available() else None


def synchronize(device: Device | str | None = None) -> None:
    """Wait until a device has done all work that it was given.

    Parameters
    ----------
    device : Device or str, optional
        The GPU by default.

    Returns
    -------
    None

    Examples
    --------
    >>> import needle as ndl
    >>> ndl.accelerator.synchronize("cpu")
    """
    as_device("cuda" if device is None else device).synchronize()


__all__ = ["current_accelerator", "device_count", "is_available", "synchronize"]
