"""Weights of equivalent PyTorch modules, brought into needle's shapes and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from ..autograd import Tensor
from .attention import CrossAttention, SelfAttention
from .batch_norm import _BatchNorm
from .conv import Conv1d, Conv2d
from .conv_volume import _Convolution
from .instance_norm import _InstanceNorm
from .linear import Linear
from .module import Module
from .module_state import IncompatibleKeys
from .recurrent import _Recurrent

Change: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """A tensor of PyTorch's state dict and the tensors of needle's that hold the same numbers."""

    theirs: str
    ours: tuple[str, ...]
    to_ours: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    to_theirs: Callable[..., np.ndarray]


def from_torch_state_dict(module: Module, state: Mapping[str, object]) -> IncompatibleKeys:
    """Load the `state_dict()` of the PyTorch module that `module` corresponds to.

    Takes anything `numpy.asarray` takes for values. Kernels are (out, in, …) there and (…, in,
    out) here, recurrent weights (G·H, in) there. Raises ValueError as `load_state_dict` does where
    names or shapes do not fit.
    """
    found: dict[str, Tensor] = {}
    arrays = {name: np.asarray(value) for name, value in state.items()}
    _convert(module, "", arrays, found)
    own = module.state_dict()
    for name, value in arrays.items():
        if name in own or not name.endswith("num_batches_tracked"):
            found[name] = Tensor(value, requires_grad=False)
    return module.load_state_dict(found)


def to_torch_state_dict(module: Module) -> dict[str, np.ndarray]:
    """The weights of `module` under the names and in the shapes of the equivalent PyTorch module.

    The values are NumPy arrays, in PyTorch's order:
    `peer.load_state_dict({k: torch.from_numpy(v) for k, v in to_torch_state_dict(m).items()})`.
    """
    state: dict[str, np.ndarray] = {}
    _export(module, "", state)
    return state


def _convert(
    module: Module, prefix: str, arrays: dict[str, np.ndarray], found: dict[str, Tensor]
) -> None:
    """Move what belongs to `module` from `arrays` to `found`, under needle's names and shapes."""
    for rule in _rules(module):
        value = arrays.pop(prefix + rule.theirs, None)
        if value is None:
            continue
        for name, part in zip(rule.ours, rule.to_ours(value), strict=True):
            found[prefix + name] = Tensor(np.ascontiguousarray(part), requires_grad=False)
    for name, child in module.named_children():
        _convert(child, f"{prefix}{name}.", arrays, found)


def _export(module: Module, prefix: str, state: dict[str, np.ndarray]) -> None:
    """Add what belongs to `module` under PyTorch's names and in its shapes."""
    rules = list(_rules(module))
    done = {name for rule in rules for name in rule.ours}
    held = module.state_dict()
    for rule in rules:
        parts = [held[name].numpy() for name in rule.ours if name in held]
        if parts:
            state[prefix + rule.theirs] = np.ascontiguousarray(rule.to_theirs(*parts))
    children = [name for name, _ in module.named_children()]
    for name, tensor in held.items():
        if name not in done and not any(name.startswith(f"{child}.") for child in children):
            state[prefix + name] = tensor.numpy()
    if isinstance(module, _BatchNorm | _InstanceNorm) and module.running_mean is not None:
        state.setdefault(f"{prefix}num_batches_tracked", np.array(0))
    for name, child in module.named_children():
        if not any(taken.startswith(f"{name}.") for taken in done):
            _export(child, f"{prefix}{name}.", state)


# ---- what corresponds -----------------------------------------------------------------------


def _renamed(theirs: str, ours: str, to_ours: Change, to_theirs: Change) -> Rule:
    return Rule(theirs, (ours,), lambda x: (to_ours(x),), to_theirs)


def _matrix(theirs: str, ours: str) -> Rule:
    """(out, in) there, (in, out) here."""
    return _renamed(theirs, ours, np.transpose, np.transpose)


def _row(theirs: str, ours: str) -> Rule:
    """A vector there, a row (1, n) here."""
    return _renamed(theirs, ours, lambda x: x.reshape(1, -1), np.ravel)


def _kernel(lead: int) -> Rule:
    """(out, in, …) there and (…, in, out) here, with further axes of length 1 before.

    A transposed convolution has (in, out, …) there and (…, out, in) here.
    """
    return _renamed(
        "weight",
        "weight",
        lambda x: x.transpose(*range(2, x.ndim), 1, 0)[(None,) * lead],
        lambda x: _last_two_first(x.reshape(x.shape[lead:])),
    )


def _last_two_first(x: np.ndarray) -> np.ndarray:
    return x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))


def _rules(module: Module) -> Iterator[Rule]:
    """The tensors of `module` that have another name or shape in PyTorch, in PyTorch's order."""
    if isinstance(module, _Recurrent):
        yield from _recurrent_rules(module)
    elif isinstance(module, Linear):
        yield _matrix("weight", "weight")
        yield _row("bias", "bias")
    elif isinstance(module, Conv2d | _Convolution):
        yield _kernel(1 if isinstance(module, Conv1d) else 0)
    elif isinstance(module, SelfAttention):
        yield _matrix("in_proj_weight", "in_proj.weight")
        yield _row("in_proj_bias", "in_proj.bias")
        yield _matrix("out_proj.weight", "out_proj.weight")
        yield _row("out_proj.bias", "out_proj.bias")
    elif isinstance(module, CrossAttention):
        yield _stacked("weight")
        yield _stacked("bias")
        yield _matrix("out_proj.weight", "out_proj.weight")
        yield _row("out_proj.bias", "out_proj.bias")


def _stacked(kind: str) -> Rule:
    """PyTorch stacks the projections of q, k and v; here q stands alone."""

    def split(stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = np.atleast_2d(stacked.T)
        width = columns.shape[1] // 3
        return columns[:, :width], columns[:, width:]

    def join(q: np.ndarray, kv: np.ndarray) -> np.ndarray:
        columns = np.concatenate([q, kv], 1)
        return columns.T if kind == "weight" else columns.ravel()

    return Rule(f"in_proj_{kind}", (f"q_proj.{kind}", f"kv_proj.{kind}"), split, join)


def _recurrent_rules(module: _Recurrent) -> Iterator[Rule]:
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
                name = f"{theirs}_l{layer}{suffix}"
                yield _renamed(name, f"{cells}.{layer}.{ours}", change, change)
