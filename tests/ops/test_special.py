"""Special functions against SciPy: values, gradients of every order, poles and limits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import needle as ndl
from needle import ops

special = pytest.importorskip("scipy.special")

RNG = np.random.RandomState(0)
WIDE = np.concatenate([
    RNG.uniform(0.001, 3, 300), RNG.uniform(0.1, 60, 300), 10 ** RNG.uniform(-8, 8, 300),
    RNG.uniform(-20, 0, 300), [0.5, 1.0, 1.5, 2.0, 2.5, 8.0],
])  # fmt: skip
POSITIVE = np.abs(WIDE)
INSIDE = np.concatenate([
    RNG.uniform(-1, 1, 500), 1 - 10 ** RNG.uniform(-14, -1, 200), 10 ** RNG.uniform(-20, -1, 200),
    [0.0, 1.0, -1.0],
])  # fmt: skip

CASES: dict[str, tuple[Callable, Callable, np.ndarray]] = {
    "lgamma": (ops.lgamma, special.gammaln, WIDE),
    "digamma": (ops.digamma, special.digamma, WIDE),
    "trigamma": (lambda x: ops.polygamma(1, x), lambda x: special.polygamma(1, x), POSITIVE),
    "polygamma 4": (
        lambda x: ops.polygamma(4, x),
        lambda x: special.polygamma(4, x),
        POSITIVE[:600],
    ),
    "erfinv": (ops.erfinv, special.erfinv, INSIDE),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_is_scipys(device, name, dtype):
    ours, theirs, points = CASES[name]
    x = points.astype(dtype)
    exact = theirs(x.astype("float64"))
    found = ours(ndl.Tensor(x, device=device, dtype=dtype)).numpy()
    # Float32 is rounded once. Near a zero of the function SciPy itself has an absolute error only.
    rtol, atol = (1.2e-7, 1e-30) if dtype == "float32" else (3e-13, 2e-14)
    np.testing.assert_allclose(found, exact.astype(dtype), rtol=rtol, atol=atol)


def test_compiled():
    points = ndl.Tensor(np.linspace(0.05, 0.95, 20), dtype="float64")
    compiled = ndl.jit(lambda x: [ours(x) for ours, _, _ in CASES.values()])
    for (_, theirs, _), found in zip(CASES.values(), compiled(points), strict=True):
        np.testing.assert_allclose(found.numpy(), theirs(points.numpy()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("function", "derivatives"), [
    (ops.lgamma, [special.digamma, lambda x: special.polygamma(1, x),
                  lambda x: special.polygamma(2, x)]),
    (ops.erfinv, [lambda x: np.sqrt(np.pi) / 2 * np.exp(special.erfinv(x) ** 2),
                  lambda x: np.pi / 2 * special.erfinv(x) * np.exp(2 * special.erfinv(x) ** 2)]),
])  # fmt: skip
def test_gradients(device, function, derivatives):
    x = ndl.Tensor(np.linspace(0.1, 0.9, 9), device=device, dtype="float64")
    value = function(x)
    for derivative in derivatives:
        value.sum().backward()
        value = x.grad
        np.testing.assert_allclose(value.numpy(), derivative(x.numpy()), rtol=1e-10)


def test_poles_and_limits(device):
    def at(function, *points):
        return function(ndl.Tensor(points, device=device, dtype="float64")).numpy()

    np.testing.assert_array_equal(at(ops.lgamma, 0, -1, -7, np.inf), np.inf)
    np.testing.assert_array_equal(at(ops.digamma, -1, -7, np.nan), np.nan)
    np.testing.assert_array_equal(at(ops.digamma, np.inf, 0.0), [np.inf, -np.inf])
    np.testing.assert_array_equal(at(ops.erfinv, 1, -1, 2), [np.inf, -np.inf, np.nan])
    with pytest.raises(ValueError, match="n must not be negative"):
        ops.polygamma(-1, ndl.Tensor([1.0]))
