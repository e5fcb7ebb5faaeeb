"""Modules on several devices, as programs ask for them; needle computes a module on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .module import Module


class DataParallel(Module):
    """A module under the name `module`, so that programs which wrap their model run.

    PyTorch's shares a batch among GPUs. On one device it only calls the module, as this one does;
    the names in its state dict begin with "module.".

    Parameters
    ----------
    module : Module
        What is called.
    device_ids : sequence of int or Device, optional
        One device at most.
    output_device : int or Device, optional
        Not used.
    dim : int, default 0
        Not used.

    Raises
    ------
    ValueError
        For several devices.

    Examples
    --------
    >>> import needle as ndl
    >>> model = ndl.nn.DataParallel(ndl.nn.Linear(3, 2))
    >>> model(ndl.ones(4, 3)).shape, next(iter(model.state_dict()))
    ((4, 2), 'module.weight')
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: object = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        _check_devices("DataParallel", device_ids)
        self.module = module

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module makes of the inputs.

        Parameters
        ----------
        *inputs : object
            The module's arguments.
        **options : object
            Its arguments by name.

        Returns
        -------
        object
            What the module gives.
        """
        return self.module(*inputs, **options)


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Sequence[Any] | None = None,
    output_device: object = None,
    dim: int = 0,
    module_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """What a module makes of inputs: `DataParallel` as a function.

    Parameters
    ----------
    module : Module
        What is called.
    inputs : Tensor or tuple
        Its arguments.
    device_ids, output_device, dim
        As for `DataParallel`.
    module_kwargs : mapping, optional
        Its arguments by name.

    Returns
    -------
    object
        What the module gives.

    Raises
    ------
    ValueError
        For several devices.

    Examples
    --------
    >>> import needle as ndl
    >>> from needle.nn.parallel import data_parallel
    >>> data_parallel(ndl.nn.ReLU(), ndl.tensor([-1.0, 1.0])).tolist()
    [0.0, 1.0]
    """
    _check_devices("data_parallel", device_ids)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*arguments, **(module_kwargs or {}))


def _check_devices(name: str, device_ids: Sequence[Any] | None) -> None:
    if device_ids is not None and len(device_ids) > 1:
        raise ValueError(
            f"[{name}] a module is computed on one device, got device_ids={list(device_ids)}"
        )


__all__ = ["DataParallel", "data_parallel"]
