"""A Tensor in a graph that is changed by what was computed from itself: PyTorch's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl

torch = pytest.importorskip("torch")


def element(y: Any) -> None:
    y[0] = y[1]


def computed_element(y: Any) -> None:
    y[0] = y[1] * 2


def total(y: Any) -> None:
    y[0] = (y * 2).sum()


def augmented_slice(y: Any) -> None:
    y[1:] *= 2


def augmented_element(y: Any) -> None:
    y[0] += y[1]


def at_a_mask(y: Any) -> None:
    y[y > 1] = y[y > 1] * 3


def shifted(y: Any) -> None:
    y[:2] = y[1:] * 1.0


def recurrence(y: Any) -> None:
    for i in range(1, 3):
        y[i] = y[i] + y[i - 1] * 2


def residual(y: Any) -> None:
    y.add_(y * 2)


def residuals(y: Any) -> None:
    y.add_(y * 2).add_(y * 3)


def copied(y: Any) -> None:
    y.copy_(y * 3)


def by_index(y: Any) -> None:
    y.index_add_(0, (y > 1).long()[:2], y[1:] * 2)


def in_blocks(y: Any) -> None:
    y.add_(y.relu())
    y.add_(y.tanh())


PROGRAMS = [
    element, computed_element, total, augmented_slice, augmented_element, at_a_mask, shifted,
    recurrence, residual, residuals, copied, by_index, in_blocks,
]  # fmt: skip


def results(x: Any, program: Callable[[Any], None], grad: Any) -> tuple[Any, Any, Any]:
    """The changed values, the gradient of their weighted squares, and a gradient of that."""
    y = x * 1
    program(y)
    first = grad((y * y * y).sum(), x, create_graph=True)[0]
    return y.detach(), first.detach(), grad((first * first).sum(), x)[0]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_eager(program: Callable[[Any], None]) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    expected = results(x, program, torch.autograd.grad)
    x = ndl.Tensor([1.0, 2.0, 3.0], dtype="float64")
    for found, wanted in zip(results(x, program, ndl.autograd.grad), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-12)


def test_compiled() -> None:
    programs = [p for p in PROGRAMS if p is not at_a_mask]  # its shape depends on values

    def all_of_them(x: Any) -> Any:
        return [results(x, program, ndl.autograd.grad) for program in programs]

    x = ndl.Tensor([1.0, 2.0, 3.0], dtype="float64")
    for actual, expected in zip(ndl.jit(all_of_them)(x), all_of_them(x), strict=True):
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
