"""Programs whose arrays have many axes, for every device; NumPy is the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import needle as ndl

# A function of an array (or Tensor) and the module, and the shape of the array.
PROGRAMS: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...]]] = {
    "every second axis": (
        lambda x, lib: (x * x).sum(tuple(range(0, x.ndim, 2))), (2,) * 10
    ),
    "the axes reversed": (
        lambda x, lib: lib.exp(x * lib.permute_dims(x, tuple(reversed(range(x.ndim))))), (2,) * 10
    ),
    "parts": (lambda x, lib: x[1, ..., None, ::-1, 0] * 2.0, (2,) * 10),
    "patches of volumes": (  # (b, c, d, h, w) -> (b, d/2, h/2, w/2, c, 2, 2, 2)
        lambda x, lib: lib.permute_dims(
            lib.reshape(x, (2, 3, 2, 2, 2, 2, 2, 2)), (0, 2, 4, 6, 1, 3, 5, 7)
        ).reshape((2, 8, 24)), (2, 3, 4, 4, 4),
    ),
    "a shuffle of voxels": (
        lambda x, lib: lib.permute_dims(
            lib.reshape(x, (1, 2, 2, 2, 2, 1, 3, 1, 2, 1, 2)), (0, 1, 5, 6, 2, 7, 8, 3, 9, 10, 4)
        ).reshape((1, 2, 6, 4, 4)), (1, 16, 3, 2, 2),
    ),
    "a network of tensors": (
        lambda x, lib: lib.einsum("abcdefghij,kbcdefghil->ajkl", x, x), (2,) * 10
    ),
    "axes of length 1": (
        lambda x, lib: (lib.reshape(x, (1, 3, *(1,) * 26, 4, 1)) + 1.0).sum((1, 5, -2)), (3, 4)
    ),
}  # fmt: skip


class _Needle:
    """needle's functions under the array API's names."""

    permute_dims = staticmethod(ndl.permute)
    exp, einsum, reshape = map(staticmethod, (ndl.exp, ndl.einsum, ndl.reshape))


class _NumPy:
    exp, einsum, reshape = map(staticmethod, (np.exp, np.einsum, np.reshape))
    permute_dims = staticmethod(np.transpose)


def value_and_gradient(name: str, x: ndl.Tensor) -> tuple[ndl.Tensor, ndl.Tensor]:
    result = PROGRAMS[name][0](x, _Needle)
    return result, ndl.grad((result * result).sum(), [x])[0]


def check(device: Any, jit: bool, names: Sequence[str] = tuple(PROGRAMS)) -> None:
    """Programs on a device: numbers and, by a random direction, the gradient."""
    random = np.random.RandomState(0)
    given = {name: random.randn(*PROGRAMS[name][1]) for name in names}

    def run(xs: dict[str, ndl.Tensor]) -> dict[str, tuple[ndl.Tensor, ndl.Tensor]]:
        return {name: value_and_gradient(name, x) for name, x in xs.items()}

    tensors = {n: ndl.Tensor(x, dtype="float64", device=device) for n, x in given.items()}
    results = (ndl.jit(run) if jit else run)(tensors)
    for name, x in given.items():
        function = PROGRAMS[name][0]
        result, gradient = results[name]
        np.testing.assert_allclose(result.numpy(), function(x, _NumPy), rtol=1e-10, err_msg=name)
        direction = random.randn(*x.shape)

        def loss(x: np.ndarray, function: Any = function) -> float:
            return float((function(x, _NumPy) ** 2).sum())

        slope = (loss(x + 1e-5 * direction) - loss(x - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(
            (gradient.numpy() * direction).sum(), slope, rtol=1e-6, err_msg=name
        )
