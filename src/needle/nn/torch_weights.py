"""Weights of equivalent PyTorch modules, brought into needle's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import numpy as np

from ..autograd import Tensor
from .attention import CrossAttention, SelfAttention
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .linear import Linear
from .module import IncompatibleKeys, Module
from .recurrent import _Recurrent

Change: TypeAlias = Callable[[np.ndarray], np.ndarray]


def from_torch_state_dict(module: Module, state: Mapping[str, object]) -> IncompatibleKeys:
    """Load the `state_dict()` of the PyTorch module that `module` corresponds to.

    Takes anything `numpy.asarray` takes for values. Kernels are (out, in, …) there and (…, in,
    out) here, recurrent weights (G·H, in) there. Raises ValueError as `load_state_dict` does where
    names or shapes do not fit.
    """
    found: dict[str, Tensor] = {}
    arrays = {name: np.asarray(value) for name, value in state.items()}
    _convert(module, "", arrays, found)
    for name, value in arrays.items():
        if not name.endswith("num_batches_tracked"):
            found[name] = Tensor(value, requires_grad=False)
    return module.load_state_dict(found)


class Take(Protocol):
    """Moves an array of the state dict to needle's name and shape."""

    def __call__(self, theirs: str, ours: str, change: Change = ...) -> None: ...


def _convert(
    module: Module, prefix: str, arrays: dict[str, np.ndarray], found: dict[str, Tensor]
) -> None:
    """Move what belongs to `module` from `arrays` to `found`, under needle's names and shapes."""

    def take(theirs: str, ours: str, change: Change = lambda x: x) -> None:
        if prefix + theirs in arrays:
            value = np.ascontiguousarray(change(arrays.pop(prefix + theirs)))
            found[prefix + ours] = Tensor(value, requires_grad=False)

    if isinstance(module, _Recurrent):
        _take_recurrent(module, take)
        return
    if isinstance(module, Linear):
        take("weight", "weight", np.transpose)
        take("bias", "bias", lambda x: x.reshape(1, -1))
    elif isinstance(module, Conv1d):
        take("weight", "weight", lambda x: x.transpose(2, 1, 0)[None])
    elif isinstance(module, ConvTranspose2d | Conv2d):
        take("weight", "weight", _kernel_of(module))
    elif isinstance(module, SelfAttention):
        take("in_proj_weight", "in_proj.weight", np.transpose)
        take("in_proj_bias", "in_proj.bias", lambda x: x.reshape(1, -1))
    elif isinstance(module, CrossAttention):
        _take_cross_attention(prefix, arrays, found)
    for name, child in module.named_children():
        _convert(child, f"{prefix}{name}.", arrays, found)


def _take_cross_attention(
    prefix: str, arrays: dict[str, np.ndarray], found: dict[str, Tensor]
) -> None:
    """PyTorch stacks the projections of q, k and v; here q stands alone."""
    for kind in ("weight", "bias"):
        stacked = arrays.pop(f"{prefix}in_proj_{kind}", None)
        if stacked is None:
            continue
        columns = np.atleast_2d(stacked.T)
        width = columns.shape[1] // 3
        for name, part in (("q_proj", columns[:, :width]), ("kv_proj", columns[:, width:])):
            value = np.ascontiguousarray(part)
            found[f"{prefix}{name}.{kind}"] = Tensor(value, requires_grad=False)


def _kernel_of(module: Conv2d) -> Change:
    # Convolution: (out, in, KH, KW); transposed: (in, out, KH, KW). Both end as (KH, KW, …).
    return lambda x: x.transpose(2, 3, 1, 0)


def _take_recurrent(module: _Recurrent, take: Take) -> None:
    for layer in range(module.num_layers):
        ways = [("", module.cells)]
        if module.bidirectional:
            ways.append(("_reverse", "backward_cells"))
        for suffix, cells in ways:
            for theirs, ours, change in (
                ("weight_ih", "W_ih", np.transpose),
                ("weight_hh", "W_hh", np.transpose),
                ("bias_ih", "bias_ih", np.asarray),
                ("bias_hh", "bias_hh", np.asarray),
            ):
                take(f"{theirs}_l{layer}{suffix}", f"{cells}.{layer}.{ours}", change)
