"""The functions of one number against float64, at every exponent and for numbers of random bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import needle as ndl
from needle import backend_ndarray as nd
from needle import ops


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


# The definition in float64 and the largest error in units in the last place.
FUNCTIONS = {
    "exp": (np.exp, 2), "log": (np.log, 2), "log1p": (np.log1p, 4), "expm1": (np.expm1, 4),
    "tanh": (np.tanh, 2), "sigmoid": (_sigmoid, 4), "sin": (np.sin, 2), "cos": (np.cos, 2),
    "erf": (np.vectorize(math.erf, otypes=[float]), 4), "sqrt": (np.sqrt, 1),
    "tan": (np.tan, 2), "asin": (np.arcsin, 2), "acos": (np.arccos, 2), "atan": (np.arctan, 2),
    "sinh": (np.sinh, 3), "cosh": (np.cosh, 3), "asinh": (np.arcsinh, 3), "acosh": (np.arccosh, 3),
    "atanh": (np.arctanh, 3), "erfc": (np.vectorize(math.erfc, otypes=[float]), 4),
    "exp2": (np.exp2, 2), "log2": (np.log2, 2), "log10": (np.log10, 2),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2), "reciprocal": (lambda x: 1 / x, 1),
}  # fmt: skip
NUMPY_ULPS = 4  # what NumPy promises of its own functions, which `cpu_numpy()` is made of


def numbers() -> np.ndarray:
    """Numbers of all exponents and both signs, those that functions are used for, multiples of
    π/2, what is next to the bounds of cases, and the specials."""
    random = np.random.RandomState(0)
    bits = np.arange(256)[:, None] << 23 | random.randint(0, 2**23, (256, 120))
    every = bits.astype(np.uint32).view(np.float32).reshape(-1)
    usual = np.concatenate([np.linspace(-110, 110, 20_001), np.linspace(-4, 4, 20_001)])
    turns = random.randint(1, 2**31, 5000) * (np.pi / 2)
    borders = [2.0**20, 0.35, 0.625, 0.5, 88.72283, 1.0, 2.0**-126, 16367173 * 2.0**72, 1e20]
    near = [
        np.nextafter(np.float32(b), np.float32(to)) for b in borders for to in (-np.inf, np.inf)
    ]
    special = [0.0, np.inf, np.nan]
    rest = np.concatenate([usual, turns, borders, near, special]).astype(np.float32)
    x = np.concatenate([every, rest])
    return np.concatenate([x, -x])


X = numbers()


def check(name: str, found: np.ndarray, ulps: int) -> None:
    definition, _ = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        exact = definition(X.astype("float64"))
        rounded = exact.astype("float32")
        unit = np.spacing(np.minimum(np.abs(rounded), np.finfo("float32").max)).astype("float64")
        error = np.abs(found.astype("float64") - exact) / unit
    error[(found == rounded) | (np.isnan(found) & np.isnan(rounded))] = 0
    if name == "sigmoid":  # one division of 1 by exp(-x), which overflows first
        error[(found == 0) & (exact < np.finfo("float32").tiny)] = 0
    worst = np.argmax(np.where(np.isnan(error), np.inf, error))
    assert error[worst] <= ulps, f"{name}({X[worst]!r}) = {found[worst]!r}, not {exact[worst]!r}"
    zero = (X == 0) & (exact == 0)
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(exact[zero]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, device):
    found = nd.array(X, device=device)._unary(name).numpy()
    check(name, found, FUNCTIONS[name][1] if device == ndl.cpu() else NUMPY_ULPS)
    strided = nd.array(np.repeat(X, 2), device=device)[::2]._unary(name).numpy()
    check(name, strided, FUNCTIONS[name][1] if device == ndl.cpu() else NUMPY_ULPS)


@pytest.mark.skipif(not ndl.cpu().enabled(), reason="compiled code is that of cpu()")
def test_compiled_functions():
    def run(x):
        return [ndl.Tensor.make_const(x.realize_cached_data()._unary(name)) for name in FUNCTIONS]

    results = ndl.jit(run)(ndl.Tensor(X, requires_grad=False))
    for (name, (_, ulps)), found in zip(FUNCTIONS.items(), results, strict=True):
        check(name, found.numpy(), ulps)


@pytest.mark.skipif(not ndl.cpu().enabled(), reason="compiled code is that of cpu()")
def test_sines_beside_other_functions_compiled():
    """Sines are calls of the core between the loops of what comes before and after them."""
    x = ndl.Tensor(np.float32([0.5, 1e20, -3e7, 2.0]), requires_grad=False)
    expected = np.cos(np.sin(x.numpy().astype("float64") * 2) + 1) * 3
    found = ndl.jit(lambda x: ops.cos(ops.sin(x * 2.0) + 1.0) * 3.0)(x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=3 * 2.0**-22)
