"""The data of modules: moved to a device or a dtype, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from ..autograd import Tensor
from ..backend_ndarray import NDArray, as_device_or_dtype, as_dtype, is_float
from ..backend_selection import Device
from ..given import is_of_torch, type_name
from ..operands import ArrayLike
from ..typing import DTypeLike
from .module_methods import ModuleMethods


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not find or did not use."""

    missing: list[str]
    unexpected: list[str]


class ModuleState(ModuleMethods):
    """What a module does with all its parameters and buffers at once."""

    def _to(self, device: Device | str | None, dtype: DTypeLike | None) -> None:
        self.to(device=device, dtype=dtype)

    def to(
        self,
        *targets: Device | DTypeLike,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
        memory_format: str | None = None,
    ) -> Self:
        """Move parameters, their gradients and buffers to a device, a float dtype, or both.

        Parameters
        ----------
        *targets : Device, dtype or str
            Devices, dtypes or their names, in any order.
        device : Device or str, optional
            The device.
        dtype : str or dtype, optional
            The dtype. Integer buffers keep theirs.
        non_blocking, memory_format : optional
            Accepted as in PyTorch, without an effect here.

        Returns
        -------
        Module
            This module.

        Raises
        ------
        TypeError
            If a dtype is not floating. Nothing has been moved then.
        ValueError
            If a device is unknown.

        Examples
        --------
        >>> import needle as ndl
        >>> ndl.nn.Linear(2, 3).to('float16').weight.dtype.name
        'float16'
        """
        for target in targets:
            given = as_device_or_dtype(target)
            if isinstance(given, Device):
                device = given
            else:
                dtype = given
        if dtype is not None and not is_float(as_dtype(dtype)):
            raise TypeError(f"[to] dtype must be a floating one, got {dtype}")
        tensors = [tensor for _, tensor in (*self.named_parameters(), *self.named_buffers())]
        data = [_moved(tensor, device, dtype) for tensor in tensors]
        gradients = {
            tensor: _moved(tensor.grad, device, dtype)
            for tensor in tensors
            if tensor.grad is not None
        }
        for tensor, moved in zip(tensors, data, strict=True):
            if moved is not tensor.realize_cached_data():
                tensor._replace_data(moved)
        for tensor, moved in gradients.items():
            if moved is not tensor.grad.realize_cached_data():
                tensor.grad = Tensor.make_const(moved)
        return self

    # ---- saving ---------------------------------------------------------------------------------

    def _named_state(self) -> dict[str, Tensor]:
        """The tensors that `state_dict` saves, by their paths."""
        state: dict[str, Tensor] = dict(self.named_parameters())
        state.update(self.named_buffers(persistent_only=True))
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """Collect every parameter and persistent buffer by its path, as detached Tensors.

        Returns
        -------
        dict of str to Tensor
            Optimizers replace the data of parameters, so that the result keeps today's values; an
            update in place (`p -= …`) shows in it.

        Examples
        --------
        >>> import needle as ndl
        >>> list(ndl.nn.Linear(2, 3).state_dict())
        ['weight', 'bias']
        """
        return {name: tensor.detach() for name, tensor in self._named_state().items()}

    def load_state_dict(
        self, state: Mapping[str, ArrayLike], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy the values of a `state_dict` into this module.

        Parameters
        ----------
        state : dict of str to Tensor or array
            The values by path; they are converted to each tensor's device and dtype.
        strict : bool, default True
            Whether missing and unexpected names are errors.

        Returns
        -------
        IncompatibleKeys
            The names that are missing and those that are unexpected.

        Raises
        ------
        ValueError
            If a shape differs or, with `strict`, a name. Nothing has been changed then.
        TypeError
            If a value is not numeric.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> layer.load_state_dict(ndl.nn.Linear(2, 3).state_dict())
        IncompatibleKeys(missing=[], unexpected=[])
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"[load_state_dict] state must be a dict, got {type_name(state)}: write "
                + ("x.state_dict()" if hasattr(state, "state_dict") else "what the file holds")
            )
        if any(map(is_of_torch, state.values())):
            raise TypeError(
                "[load_state_dict] the state is PyTorch's, whose weights have other axes: write "
                "nn.from_torch_state_dict(model, state)"
            )
        own = self._named_state()
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        values = {name: _as_values(name, state[name]) for name in own if name in state}
        problems = [
            f"{name} has shape {tuple(value.shape)}, expected {own[name].shape}"
            for name, value in values.items()
            if tuple(value.shape) != own[name].shape
        ]
        if strict:
            problems += [f"missing: {', '.join(missing)}"] if missing else []
            problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
        if problems:
            if any(
                sorted(x.shape) == sorted(own[name].shape)
                for name, x in values.items()
                if tuple(x.shape) != own[name].shape
            ):
                problems.append("a state of PyTorch goes by nn.from_torch_state_dict(model, state)")
            raise ValueError(f"[load_state_dict] {type(self).__name__}: {'; '.join(problems)}")
        loaded = {
            name: NDArray(value, device=own[name].device, dtype=own[name].dtype)
            for name, value in values.items()
        }
        for name, data in loaded.items():
            own[name]._replace_data(data)
        return IncompatibleKeys(missing, unexpected)


def _moved(tensor: Tensor, device: Device | str | None, dtype: DTypeLike | None) -> NDArray:
    data = tensor.realize_cached_data()
    if dtype is not None and is_float(data.dtype):
        data = data.astype(dtype)
    return data if device is None else data.to(device)


def _as_values(name: str, value: object) -> NDArray | np.ndarray:
    """`value` as an array to copy from. Raises TypeError unless it holds real numbers."""
    if isinstance(value, Tensor):
        return value.realize_cached_data()
    if isinstance(value, NDArray):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"[load_state_dict] {name} must be a numeric array, got {type(value).__name__} "
            f"of dtype {array.dtype}"
        )
    return array
