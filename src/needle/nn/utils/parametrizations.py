"""Weights that are computed from other parameters before each forward pass.

The output channels of needle's weights are the last axis, where PyTorch has them first.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from ... import ops
from ...autograd import Tensor, no_grad
from ..arguments import non_negative, positive_int
from ..module import Module
from ..module_hooks import Hook
from ..parameter import Parameter

Layer = TypeVar("Layer", bound=Module)


class WeightNorm:
    """Computes weight_g · weight_v / ‖weight_v‖."""

    def __init__(self, name: str, axis: int | None) -> None:
        self.name, self.axis = name, axis

    def weight(self, module: Module) -> Tensor:
        direction: Tensor = getattr(module, f"{self.name}_v")
        length: Tensor = getattr(module, f"{self.name}_g")
        return direction * (length / self.norm(direction))

    def norm(self, v: Tensor) -> Tensor:
        """The norm of each slice along `axis`, or of everything."""
        axes = tuple(i for i in range(v.ndim) if self.axis is None or i != self.axis % v.ndim)
        return ops.sqrt(ops.summation(v * v, axes, keepdims=True))

    def __call__(self, module: Module, args: tuple[object, ...]) -> None:
        setattr(module, self.name, self.weight(module))


def weight_norm(module: Layer, name: str = "weight", dim: int | None = -1) -> Layer:
    """Split a weight into its length and its direction (Salimans and Kingma, 2016).

    The parameter `name` is replaced by `name_g`, the norms, and `name_v`, the directions. Before
    each forward pass `name` becomes g·v/‖v‖.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
    dim : int, optional, default -1
        The axis along which each slice has a norm of its own: the output channels, which are
        PyTorch's axis 0. None gives one norm for the whole weight.

    Returns
    -------
    Module
        The same module.

    Raises
    ------
    ValueError
        If the module has no such Parameter.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.utils.weight_norm(ndl.nn.Linear(3, 2))
    >>> sorted(name for name, _ in layer.named_parameters())
    ['bias', 'weight_g', 'weight_v']
    """
    weight = _taken(module, "weight_norm", name)
    rule = WeightNorm(name, dim)
    with no_grad():
        length = rule.norm(weight)
    setattr(module, f"{name}_g", Parameter(length))
    setattr(module, f"{name}_v", Parameter(weight.detach()))
    _install(module, rule)
    return module


class SpectralNorm:
    """Computes weight_orig / σ, its largest singular value, by power iteration."""

    def __init__(self, name: str, iterations: int, eps: float, axis: int) -> None:
        self.name, self.iterations, self.eps, self.axis = name, iterations, eps, axis

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (outputs, everything else)."""
        axis = self.axis % weight.ndim
        order = [axis, *(i for i in range(weight.ndim) if i != axis)]
        return ops.permute(weight, order).reshape((weight.shape[axis], -1))

    def iterate(self, module: Module, matrix: Tensor) -> None:
        """Move the singular vectors, which are buffers, outside of any graph."""
        u, v = (getattr(module, f"{self.name}_{side}") for side in "uv")
        with no_grad():
            for _ in range(self.iterations):
                v._replace_data(self._unit(u @ matrix).realize_cached_data())
                u._replace_data(self._unit(matrix @ v).realize_cached_data())

    def _unit(self, x: Tensor) -> Tensor:
        return x / ops.maximum(ops.sqrt(ops.summation(x * x)), self.eps)

    def weight(self, module: Module) -> Tensor:
        original: Tensor = getattr(module, f"{self.name}_orig")
        matrix = self.matrix(original)
        if module.training:
            self.iterate(module, matrix)
        # Copies: the next iteration replaces the buffers' data, which the gradient reads.
        u, v = (getattr(module, f"{self.name}_{side}").detach() for side in "uv")
        return original / ops.summation(u * (matrix @ v))

    def __call__(self, module: Module, args: tuple[object, ...]) -> None:
        setattr(module, self.name, self.weight(module))


def spectral_norm(
    module: Layer,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int = -1,
) -> Layer:
    """Divide a weight by its largest singular value (Miyato et al., 2018).

    The parameter `name` is replaced by `name_orig`; the buffers `name_u` and `name_v` hold the
    singular vectors, which each forward pass in training improves.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
    n_power_iterations : int, default 1
        The number of iterations in each forward pass.
    eps : float, default 1e-12
        The smallest norm to divide by.
    dim : int, default -1
        The axis of the output channels, which is PyTorch's axis 0.

    Returns
    -------
    Module
        The same module.

    Raises
    ------
    ValueError
        If the module has no such Parameter.

    Examples
    --------
    >>> import needle as ndl
    >>> layer = ndl.nn.utils.spectral_norm(ndl.nn.Linear(3, 2))
    >>> [name for name, _ in layer.named_buffers()]
    ['weight_u', 'weight_v']
    """
    iterations = positive_int("spectral_norm", "n_power_iterations", n_power_iterations)
    weight = _taken(module, "spectral_norm", name)
    rule = SpectralNorm(name, iterations, non_negative("spectral_norm", "eps", eps), dim)
    setattr(module, f"{name}_orig", Parameter(weight.detach()))
    rows, columns = rule.matrix(weight.detach()).shape
    for side, n in (("u", rows), ("v", columns)):
        draw = np.random.randn(n)
        unit = Tensor(
            draw / np.linalg.norm(draw), device=weight.device, dtype=weight.dtype,
            requires_grad=False,
        )  # fmt: skip
        module.register_buffer(f"{name}_{side}", unit)
    with no_grad():
        SpectralNorm(name, 15, rule.eps, dim).iterate(module, rule.matrix(weight.detach()))
    _install(module, rule)
    return module


def remove_weight_norm(module: Layer, name: str = "weight") -> Layer:
    """Make the computed weight a Parameter again. Raises ValueError if there is none."""
    return _removed(module, WeightNorm, name, ("g", "v"))


def remove_spectral_norm(module: Layer, name: str = "weight") -> Layer:
    """Make the computed weight a Parameter again. Raises ValueError if there is none."""
    return _removed(module, SpectralNorm, name, ("orig", "u", "v"))


def _taken(module: Module, what: str, name: str) -> Tensor:
    """The Parameter `name`, taken out of the module."""
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        raise ValueError(f"[{what}] {type(module).__name__} has no Parameter {name!r}")
    delattr(module, name)
    return weight


def _install(module: Module, rule: WeightNorm | SpectralNorm) -> None:
    with no_grad():
        setattr(module, rule.name, rule.weight(module))
    module.register_forward_pre_hook(rule)


def _removed(
    module: Layer, kind: type[WeightNorm | SpectralNorm], name: str, parts: tuple[str, ...]
) -> Layer:
    hooks: list[Hook] = [
        hook
        for hook in module._hooks
        if isinstance(hook.function, kind) and hook.function.name == name
    ]
    if not hooks:
        raise ValueError(f"[{kind.__name__}] {type(module).__name__} has no computed {name!r}")
    rule = hooks[0].function
    with no_grad():
        weight = rule.weight(module)  # type: ignore[attr-defined]
    hooks[0].remove()
    for part in parts:
        delattr(module, f"{name}_{part}")
    module._buffer_names = {
        key: kept for key, kept in module._buffer_names.items() if hasattr(module, key)
    }
    delattr(module, name)
    setattr(module, name, Parameter(weight))
    return module
