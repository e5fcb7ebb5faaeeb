"""NumPy's numbers and arrays beside Tensors and NDArrays, on either side of every operator."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import NDArray

BITS = ("and_", "or_", "xor", "lshift", "rshift")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "divmod")
KINDS: dict[str, Any] = {
    "scalar": lambda dtype: np.dtype(dtype).type(2),
    "0-d": lambda dtype: np.array(2, dtype),
    "1-d": lambda dtype: np.array([2, 1, 3], dtype),
    "2-d": lambda dtype: np.array([[2, 1, 3], [1, 1, 2], [3, 2, 1]], dtype),
    "no elements": lambda dtype: np.zeros((0, 3), dtype),
}
MAKE: dict[str, Any] = {
    "Tensor": lambda x, device: ndl.Tensor(x, device=device, dtype=x.dtype, requires_grad=False),
    "NDArray": lambda x, device: NDArray(x, device=device, dtype=x.dtype),
}


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64"])
@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS, *BITS])
def test_results_are_what_needle_has_and_the_numbers_are_numpys(name, dtype, make, device):
    function = divmod if name == "divmod" else getattr(operator, name)
    host = np.array([5, 3, 4], dtype)
    mine = MAKE[make](host, device)
    for kind, swap in itertools.product(KINDS, (False, True)):
        other = KINDS[kind](dtype)
        if name == "matmul" and (np.ndim(other) == 0 or (swap is False and other.shape == (0, 3))):
            with pytest.raises(ValueError, match="matmul"):
                function(*((other, mine) if swap else (mine, other)))
            continue
        operands, hosts = ((other, mine), (other, host)) if swap else ((mine, other), (host, other))
        if name in BITS and dtype.startswith("float"):
            with pytest.raises(TypeError, match="needs integers or bools"):
                function(*operands)
            continue
        results, expected = function(*operands), function(*hosts)
        for result, numbers in zip(
            results if name == "divmod" else [results],
            expected if name == "divmod" else [expected],
            strict=True,
        ):
            assert type(result) is type(mine), (kind, swap)
            assert result.device == device
            np.testing.assert_allclose(result.numpy(), numbers, rtol=1e-6, err_msg=f"{kind} {swap}")


@pytest.mark.parametrize("make", MAKE)
def test_masks_are_combined_by_and_or_not(make, device):
    """With bools of every kind; they stay bools, and select elements."""
    p, q = np.array([True, True, False, False]), np.array([True, False, True, False])
    x, y = (MAKE[make](v, device) for v in (p, q))
    for other in (y, q, q.tolist()):
        for name in ("and_", "or_", "xor"):
            function = getattr(operator, name)
            for result, expected in (
                (function(x, other), function(p, q)), (function(other, x), function(q, p))
            ):  # fmt: skip
                assert (type(result), result.dtype) == (type(x), "bool")
                assert result.tolist() == expected.tolist()
    assert ((~x).dtype, (~x).tolist()) == ("bool", (~p).tolist())
    assert ((x & np.True_).dtype, (x ^ True).tolist()) == ("bool", (~p).tolist())
    values = ndl.Tensor([1.0, 2.0, 3.0, 4.0], device=device)
    assert values[ndl.Tensor((values > 1).numpy(), device=device)].tolist() == [2, 3, 4]
    assert values[(values > 1) & ~(values > 3)].tolist() == [2, 3]


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
def test_all_bits_are_the_others(dtype, make, device):
    host = np.array([0, 1, 1, 0] if dtype == "bool" else [0, 1, 100, 255 >> (dtype != "uint8")])
    host = host.astype(dtype)
    result = ~MAKE[make](host, device)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.numpy(), ~host)


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("name", ["iand", "ior", "ixor", "ilshift", "irshift"])
def test_bits_are_changed_in_place(name, make, device):
    function = getattr(operator, name)
    for other in (2, np.int64(3), np.array([1, 2, 3])):
        host = np.array([5, 3, 4])
        x = MAKE[make](host, device)
        before, view = x, x[1:]
        x = function(x, other)
        expected = function(host.copy(), other)
        assert x is before
        np.testing.assert_array_equal(x.numpy(), expected)
        np.testing.assert_array_equal(view.numpy(), expected[1:])
    with pytest.raises(TypeError, match="needs integers or bools"):
        function(MAKE[make](np.ones(2, np.float32), device), 1)


def test_bits_in_compiled_functions(device):
    def function(x, y):
        return (x & y) | 8, (x ^ y) << 2, x >> 1, ~x, (x > 2) & (y < 3), np.int64(6) & x

    x, y = (ndl.Tensor(np.array(v), device=device) for v in ([5, 3, 4, -9], [2, 1, 3, 7]))
    compiles = ndl.jit(function) if device == ndl.cpu() else function
    for compiled, eager in zip(compiles(x, y), function(x, y), strict=True):
        assert compiled.dtype == eager.dtype
        np.testing.assert_array_equal(compiled.numpy(), eager.numpy())


def test_functions_of_numpy_give_numpys_arrays_of_arrays(device):
    """They read an NDArray as data; for Tensors see tests/numpy_calls."""
    x = NDArray([1.0, 2.0], device=device)
    for result in (np.exp(x), np.maximum(x, 1), np.add(x, x), np.concatenate([x, x])):
        assert type(result) is np.ndarray


def test_digits_of_arrays_beside_float64(device):
    x = ndl.Tensor([1.0, 2.0], dtype="float64", device=device)
    for other in (np.array([0.1, 0.3]), [0.1, 0.3], (0.1, 0.3)):
        assert (x * other).tolist() == (other * x).tolist() == [0.1, 0.6]
    assert (x * [True, False]).dtype == "float64"
    assert (ndl.Tensor([1.0]) * np.array([0.1])).dtype == "float32"
