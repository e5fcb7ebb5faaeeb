"""Finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import needle as ndl

EPS = 1e-6
# Central differences in float64: truncation eps², rounding 2⁻⁵³·|f|/eps; both below 1e-8 for the
# functions here, whose values and third derivatives are at most some hundreds.
TOLERANCE = 1e-6


def numerical_gradients(
    function: Callable[..., ndl.Tensor],
    inputs: Sequence[np.ndarray],
    weights: np.ndarray,
    device: ndl.Device,
) -> list[np.ndarray]:
    """d sum(weights · function(*inputs)) / d inputs by central differences, float64."""

    def value(values: Sequence[np.ndarray]) -> float:
        with ndl.no_grad():
            tensors = [ndl.Tensor(v, device=device, dtype="float64") for v in values]
            return float(np.sum(np.asarray(function(*tensors)) * weights))

    gradients = []
    for i, x in enumerate(inputs):
        gradient = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            ends = []
            for step in (EPS, -EPS):
                moved = x.copy()
                moved[at] += step
                ends.append(value([*inputs[:i], moved, *inputs[i + 1 :]]))
            gradient[at] = (ends[0] - ends[1]) / (2 * EPS)
        gradients.append(gradient)
    return gradients


def check_gradients(
    function: Callable[..., ndl.Tensor],
    inputs: Sequence[np.ndarray],
    device: ndl.Device,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare autograd's gradients of a randomly weighted sum of the result with differences."""
    tensors = [ndl.Tensor(x, device=device, dtype="float64") for x in inputs]
    result = function(*tensors)
    weights = np.random.RandomState(7).randn(*result.shape)
    result.backward(ndl.Tensor(weights, device=device, dtype="float64"))
    expected = numerical_gradients(function, inputs, weights, device)
    for i, (x, gradient) in enumerate(zip(tensors, expected, strict=True)):
        assert x.grad is not None, f"input {i} has no gradient"
        assert x.grad.shape == x.shape
        assert x.grad.dtype == x.dtype
        np.testing.assert_allclose(
            x.grad.numpy(), gradient, rtol=tolerance, atol=tolerance, err_msg=f"input {i}"
        )
