"""Sizes that no kernel takes are refused before one sees them, alike on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import ops

BEYOND = 2**31 + 1


def _conv(x: ndl.Tensor, **options: Any) -> ndl.Tensor:
    return ops.conv(x, ndl.ones((3, 3, 3, 4), device=x.device), **options)


def _conv_transpose(x: ndl.Tensor, **options: Any) -> ndl.Tensor:
    return ops.conv_transpose(x, ndl.ones((3, 3, 4, 3), device=x.device), **options)


def _pool(pool: Any) -> Callable[..., ndl.Tensor]:
    return lambda x, **options: pool(x, 3, **options)


CASES: dict[str, tuple[Callable[..., ndl.Tensor], tuple[str, ...]]] = {
    "conv": (_conv, ("stride", "padding", "dilation")),
    "conv_transpose": (_conv_transpose, ("stride", "padding", "dilation", "output_padding")),
    "max_pool2d": (_pool(ops.max_pool2d), ("stride", "padding", "dilation")),
    "avg_pool2d": (_pool(ops.avg_pool2d), ("stride", "padding")),
}


def assert_refused(name: str, device: ndl.Device) -> None:
    """Each argument of an op is refused by its name where it is too large."""
    op, options = CASES[name]
    x = ndl.Tensor(np.ones((2, 8, 8, 3)), device=device)
    for option in options:
        for value in (BEYOND, 2**40, 10**30, (1, BEYOND)):
            with pytest.raises(ValueError, match=rf"{option} must be ints of [01] … 2\^31, got"):
                op(x, **{option: value})


@pytest.mark.parametrize("name", CASES)
def test_sizes_beyond_the_kernels(name: str, device: ndl.Device):
    assert_refused(name, device)


def test_the_largest_stride(device: ndl.Device):
    x = np.random.RandomState(0).randn(2, 3, 3, 3)
    y = _conv(ndl.Tensor(x, device=device), stride=2**31, padding=0)
    np.testing.assert_allclose(y.numpy()[:, 0, 0, 0], x.sum((1, 2, 3)), rtol=1e-5, atol=1e-5)


def assert_empty_kernels_are_refused(device: ndl.Device) -> None:
    for op, image, kernels in (
        (ops.conv, (1, 4, 4, 3), ((0, 3, 3, 4), (3, 0, 3, 4))),
        (ops.conv, (1, 4, 4, 0), ((3, 3, 0, 4),)),
        (ops.conv_transpose, (1, 4, 4, 3), ((0, 3, 4, 3), (3, 3, 0, 3))),
    ):
        for kernel in kernels:
            with pytest.raises(ValueError, match=rf"\[{op.__name__}\] .* must not be empty"):
                op(ndl.ones(image, device=device), ndl.ones(kernel, device=device))
    with pytest.raises(ValueError, match=r"\[conv\] .* longer than 2\^31"):
        _conv(ndl.ones((0, 2**33, 4, 3), device=device))


def assert_softmax_of_nothing(device: ndl.Device) -> None:
    def run(*inputs: ndl.Tensor) -> list[ndl.Tensor]:
        results = [f(x) for x in inputs for f in (ops.softmax, ops.log_softmax)]
        return [*results, *ndl.grad(ndl.concatenate([y.flatten() for y in results]).sum(), inputs)]

    shapes = (3, 0), (0, 3), (2, 3, 0)
    inputs = [ndl.ones(shape, device=device, requires_grad=True) for shape in shapes]
    expected = [*(shape for shape in shapes for _ in range(2)), *shapes]
    assert [y.shape for y in run(*inputs)] == expected
    if device != ndl.cpu_numpy():
        assert [y.shape for y in ndl.jit(run)(*inputs)] == expected


def test_empty_kernels(device: ndl.Device):
    assert_empty_kernels_are_refused(device)


def test_softmax_of_nothing(device: ndl.Device):
    assert_softmax_of_nothing(device)


def test_transpose_names_itself():
    with pytest.raises(ValueError, match=r"\[transpose\] axis 3"):
        ndl.transpose(ndl.ones(2, 3), (0, 3))
