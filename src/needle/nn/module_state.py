"""The data of modules: moved to a device or a dtype, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

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

    missing_keys: list[str]
    unexpected_keys: list[str]


class ModuleState(ModuleMethods):
    """What a module does with all its parameters and buffers at once."""

    _state_hooks: tuple[Any, ...] = ()

    def _other_names(self) -> dict[str, str]:
        """The further names of tensors that are saved once, each with the name that is saved."""
        raise NotImplementedError

    def _to(self, device: Device | str | None, dtype: DTypeLike | None) -> None:
        self.to(device=device, dtype=dtype)

    def to(
        self,
        *targets: Device | DTypeLike | Tensor,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
        memory_format: str | None = None,
    ) -> Self:
        """Move parameters, their gradients and buffers to a device, a float dtype, or both.

        Parameters
        ----------
        *targets : Device, dtype, str or Tensor
            Devices, dtypes or their names, in any order; a Tensor, such as another module's
            parameter, stands for its device and dtype.
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
            if isinstance(target, Tensor):
                device, dtype = target.device, target.dtype if is_float(target.dtype) else dtype
                continue
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

    def state_dict(
        self,
        destination: dict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Tensor]:
        """Collect every parameter and persistent buffer by its path, as detached Tensors.

        Parameters
        ----------
        destination : dict, optional
            A dict to add to, which is returned.
        prefix : str, default ""
            What every path begins with.
        keep_vars : bool, default False
            Whether the Parameters and buffers themselves are collected.

        Returns
        -------
        dict of str to Tensor
            Optimizers replace the data of parameters, so that the result keeps today's values; an
            update in place (`p -= …`) shows in it. A shared parameter comes once, under its first
            path.

        Examples
        --------
        >>> import needle as ndl
        >>> list(ndl.nn.Linear(2, 3).state_dict())
        ['weight', 'bias']
        """
        for path, hook in self._each_state_hook(before=True, loads=False):
            hook.function(hook.module, prefix + path, keep_vars)
        state = {} if destination is None else destination
        for name, tensor in self._named_state().items():
            state[prefix + name] = tensor if keep_vars else tensor.detach()
        for path, hook in self._each_state_hook(before=False, loads=False):
            hook.function(hook.module, state, prefix + path, {})
        return state

    def _each_state_hook(self, before: bool, loads: bool) -> list[tuple[str, Any]]:
        """(prefix of its module, hook); those that run afterwards begin with the innermost."""
        found = [
            (f"{path}." if path else "", hook)
            for path, module in self.named_modules()
            for hook in getattr(module, "_state_hooks", ())
            if hook.before == before and hook.loads == loads
        ]
        return found if before else found[::-1]

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy the values of a `state_dict` into this module.

        Parameters
        ----------
        state_dict : dict of str to Tensor or array
            The values by path; they are converted to each tensor's device and dtype. A shared
            parameter may stand under any of its paths, or under all.
        strict : bool, default True
            Whether missing and unexpected names are errors.
        assign : bool, default False
            Whether parameters and buffers take the values' devices and dtypes instead.

        Returns
        -------
        IncompatibleKeys
            The lists `missing_keys` and `unexpected_keys`.

        Raises
        ------
        ValueError
            If shapes differ or, with `strict`, names; the error lists all. Nothing has been changed
            then.
        TypeError
            If a value is not numeric, or PyTorch's.

        Examples
        --------
        >>> import needle as ndl
        >>> layer = ndl.nn.Linear(2, 3)
        >>> layer.load_state_dict(ndl.nn.Linear(2, 3).state_dict())
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        """
        _check_state(state_dict)
        keys, errors = IncompatibleKeys([], []), list[str]()
        given = dict(state_dict)
        for path, hook in self._each_state_hook(before=True, loads=True):
            hook.function(hook.module, given, path, {}, strict, *keys, errors)
        own = self._named_state()
        state = _under_saved_names(given, own, self._other_names())
        keys.missing_keys.extend(name for name in own if name not in state)
        keys.unexpected_keys.extend(name for name in state if name not in own)
        values = {name: _as_values(name, state[name]) for name in own if name in state}
        errors += _wrong_shapes(values, own)
        for _, hook in self._each_state_hook(before=False, loads=True):
            hook.function(hook.module, keys)
        if strict:
            for kind, names in zip(("missing", "unexpected"), keys, strict=True):
                errors += [f"{kind}: {', '.join(names)}"] if names else []
        if errors:
            raise ValueError(f"[load_state_dict] {type(self).__name__}: {'; '.join(errors)}")
        loaded = {
            name: NDArray(value, **_place(state[name], own[name], assign))
            for name, value in values.items()
        }
        for name, data in loaded.items():
            own[name]._replace_data(data)
        return keys


def _check_state(state: object) -> None:
    """Raises TypeError unless it is a dict of needle's tensors or of arrays."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"[load_state_dict] state_dict must be a dict, got {type_name(state)}: write "
            + ("x.state_dict()" if hasattr(state, "state_dict") else "needle.load(path)")
        )
    if any(map(is_of_torch, state.values())):
        raise TypeError(
            "[load_state_dict] the state is PyTorch's, whose weights have other axes: write "
            "nn.from_torch_state_dict(model, state)"
        )


def _under_saved_names(
    state: Mapping[str, object], own: Mapping[str, Tensor], other_names: Mapping[str, str]
) -> dict[str, object]:
    """`state` with each shared tensor once, under the name that `state_dict` gives it."""
    found = {name: value for name, value in state.items() if name not in other_names}
    for name, saved in other_names.items():
        if name in state and saved in own:
            found.setdefault(saved, state[name])
    return found


def _wrong_shapes(
    values: Mapping[str, NDArray | np.ndarray], own: Mapping[str, Tensor]
) -> list[str]:
    """The errors about shapes, and what to do where they are those of PyTorch's layers."""
    pairs = [(n, tuple(x.shape), own[n].shape) for n, x in values.items()]
    wrong = [(name, given, wanted) for name, given, wanted in pairs if given != wanted]
    errors = [f"{name} has shape {given}, expected {wanted}" for name, given, wanted in wrong]
    if any(sorted(given) == sorted(wanted) for _, given, wanted in wrong):
        errors.append("a state of PyTorch goes by nn.from_torch_state_dict(model, state)")
    return errors


def _place(value: object, held: Tensor, assign: bool) -> dict[str, Any]:
    """The device and the dtype that a tensor has after it was loaded."""
    if not assign:
        return {"device": held.device, "dtype": held.dtype}
    taken = Tensor(value, requires_grad=False)  # an array gets the device of this module's tensor
    same_kind = is_float(taken.dtype) == is_float(held.dtype)
    return {
        "device": taken.device if isinstance(value, (Tensor, NDArray)) else held.device,
        "dtype": taken.dtype if same_kind else held.dtype,
    }


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
