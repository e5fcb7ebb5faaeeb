"""Weights of equivalent PyTorch modules, brought into needle's shapes and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..autograd import Tensor
from ..given import is_of_torch, type_name
from .attention import CrossAttention, SelfAttention
from .batch_norm import _BatchNorm
from .conv import Conv1d, Conv2d
from .conv_volume import _Convolution
from .instance_norm import _InstanceNorm
from .linear import Linear
from .module import Module
from .module_state import IncompatibleKeys
from .recurrent import _Recurrent
from .recurrent_cell import _Cell
from .utils.parametrizations import SpectralNorm, WeightNorm

Change: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """A tensor of PyTorch's state dict and the tensors of needle's that hold the same numbers."""

    theirs: str
    ours: tuple[str, ...]
    to_ours: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    to_theirs: Callable[..., np.ndarray]


def from_torch_state_dict(
    module: Module, state_dict: Mapping[str, object], strict: bool = True
) -> IncompatibleKeys:
    """Load the `state_dict()` of the PyTorch module that `module` corresponds to.

    Takes tensors of PyTorch, what `needle.load` read from a file of `torch.save`, and anything
    else `numpy.asarray` takes. Kernels are (out, in, …) there and (…, in, out) here, recurrent
    weights (G·H, in) there. Of PyTorch's weight and spectral norms both forms are known. Raises
    ValueError as `load_state_dict` does where shapes or, with `strict`, names do not fit; the
    latter are returned.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "[from_torch_state_dict] needs a dict of tensors by name, such as "
            f"model.state_dict(), got {type_name(state_dict)}"
        )
    found: dict[str, Tensor] = {}
    arrays = {name: _as_array(name, value) for name, value in state_dict.items()}
    _convert(module, "", arrays, found)
    own = module.state_dict()
    for name, value in arrays.items():
        if name in own or not name.endswith("num_batches_tracked"):
            found[name] = Tensor(value, requires_grad=False)
    return module.load_state_dict(found, strict)


def to_torch_state_dict(module: Module) -> dict[str, np.ndarray]:
    """The weights of `module` under the names and in the shapes of the equivalent PyTorch module.

    The values are NumPy arrays, in PyTorch's order:
    `peer.load_state_dict({k: torch.from_numpy(v) for k, v in to_torch_state_dict(m).items()})`.
    """
    state: dict[str, np.ndarray] = {}
    _export(module, "", state)
    return state


def _as_array(name: str, value: Any) -> np.ndarray:
    """The values of one tensor, in a dtype that NumPy has. Raises TypeError for what is none."""
    if is_of_torch(value):
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"[from_torch_state_dict] {name!r} must be a tensor of real numbers, got "
            f"{type_name(value)} of dtype {array.dtype}"
        )
    return array


def _convert(
    module: Module, prefix: str, arrays: dict[str, np.ndarray], found: dict[str, Tensor]
) -> None:
    """Move what belongs to `module` from `arrays` to `found`, under needle's names and shapes."""
    _rename_parametrizations(module, prefix, arrays)
    for rule in _rules(module):
        value = arrays.pop(prefix + rule.theirs, None)
        if value is None:
            continue
        for name, part in zip(rule.ours, rule.to_ours(value), strict=True):
            found[prefix + name] = Tensor(np.ascontiguousarray(part), requires_grad=False)
    for name, child in _children(module):
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
    children = [name for name, _ in _children(module)]
    for name, tensor in held.items():
        if name not in done and not any(name.startswith(f"{child}.") for child in children):
            state[prefix + name] = tensor.numpy()
    if isinstance(module, _BatchNorm | _InstanceNorm) and module.running_mean is not None:
        state.setdefault(f"{prefix}num_batches_tracked", np.array(0))
    for name, child in _children(module):
        if not any(taken.startswith(f"{name}.") for taken in done):
            _export(child, f"{prefix}{name}.", state)


def _children(module: Module) -> Iterator[tuple[str, Module]]:
    """The modules directly in this one, under each of their names, as PyTorch saves them."""
    found = ((name, member) for name, member in module._members() if isinstance(member, Module))
    return ((name, child) for name, child in found if child is not module)


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
    rules = list(_plain_rules(module))
    yield from rules
    yield from _parametrized_rules(module, rules)


def _plain_rules(module: Module) -> Iterator[Rule]:
    """The rules of a layer without parametrizations."""
    if isinstance(module, _Recurrent):
        yield from _recurrent_rules(module)
    elif isinstance(module, _Cell):
        yield _matrix("weight_ih", "W_ih")
        yield _matrix("weight_hh", "W_hh")
    elif isinstance(module, Linear):
        if not module.is_tied:
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


def _parametrized_rules(module: Module, rules: list[Rule]) -> Iterator[Rule]:
    """The rules of the parts of which a weight norm or a spectral norm computes a weight."""
    for hook in module._hooks:
        norm = hook.function
        if not isinstance(norm, WeightNorm | SpectralNorm):
            continue
        weight = next((r for r in rules if r.ours == (norm.name,)), None)
        if weight is None:  # the axes are those of PyTorch
            continue
        for part in ("v", "g") if isinstance(norm, WeightNorm) else ("orig",):
            name = f"{norm.name}_{part}"
            if norm.axis is not None or part != "g":
                yield Rule(name, (name,), weight.to_ours, weight.to_theirs)
        if isinstance(norm, SpectralNorm):
            yield _singular_vector(norm, getattr(module, f"{norm.name}_orig"), weight)


def _singular_vector(norm: SpectralNorm, original: Tensor, weight: Rule) -> Rule:
    """The vector of the inputs, whose order is that of the weight's other axes."""
    numbers = np.arange(original.size).reshape(original.shape)
    places = np.searchsorted(numbers[..., 0].ravel(), weight.to_theirs(numbers)[0].ravel())
    name = f"{norm.name}_v"
    return _renamed(name, name, lambda v: v[np.argsort(places)], lambda v: v[places])


# The parts' names in torch.nn.utils.parametrizations, and in torch.nn.utils and needle.
PARTS = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}


def _rename_parametrizations(module: Module, prefix: str, arrays: dict[str, np.ndarray]) -> None:
    for hook in module._hooks:
        if isinstance(hook.function, WeightNorm | SpectralNorm):
            name = hook.function.name
            for theirs, part in PARTS.items():
                value = arrays.pop(f"{prefix}parametrizations.{name}.{theirs}", None)
                if value is not None:
                    arrays[f"{prefix}{name}_{part}"] = value


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
                ("weight_hr", "W_hr", np.transpose),
            ):
                name = f"{theirs}_l{layer}{suffix}"
                yield _renamed(name, f"{cells}.{layer}.{ours}", change, change)
