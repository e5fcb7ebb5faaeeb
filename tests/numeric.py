"""How far numbers may be from exact ones, and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import needle as ndl

# The distance of 1 from the next number, by element type.
PRECISION = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def assert_sums(
    actual: np.ndarray, exact: np.ndarray, size: np.ndarray, terms: float, dtype: str
) -> None:
    """Every number of `actual` is the sum of `terms` numbers up to rounding, in whatever order.

    `exact` has the sums in float64 and `size` the sums of the absolute values, from which the
    error of n terms with roundoff u is at most n·u·size, each term having been rounded before
    (Higham 2002, section 4.2). eps = 2·u leaves room for units that cut bits off instead of
    rounding. What is stored in 16 bits is added in float32 and rounded once more.
    """
    summed = PRECISION["float32" if dtype.endswith("16") else dtype]
    stored = PRECISION[dtype] if dtype.endswith("16") else 0.0
    bound = terms * summed * np.asarray(size) + stored * np.abs(exact)
    error = np.abs(np.asarray(actual, dtype="float64") - exact)
    assert np.shape(actual) == np.shape(exact)
    worst = np.max(error - bound, initial=-np.inf)
    assert worst <= 0, f"an error is {worst:.2g} above its bound; the largest is {error.max():.2g}"


def assert_product(
    actual: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    dtype: str,
    bias: np.ndarray | float = 0.0,
    finish: Callable[[np.ndarray], np.ndarray] = lambda x: x,
) -> None:
    """`actual` is finish(a @ b + bias) up to rounding; `finish` stretches nothing, like relu."""
    a, b, bias = (np.asarray(x, dtype="float64") for x in (a, b, bias))
    size = np.abs(a) @ np.abs(b) + np.abs(bias)
    assert_sums(actual, finish(a @ b + bias), size, a.shape[-1] + 1, dtype)


# ---- finite differences -----------------------------------------------------------------------

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
