"""Compiled `x[key] = v` with Tensors, arrays and lists in the key is eager code's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl

X = np.arange(24.0).reshape(4, 3, 2)
X[0, 0, 0] = -0.0

NEEDS_CORE = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")


class Case(NamedTuple):
    """`x[key(*indices)] = value`; `value` is given as an array, or is a number."""

    key: Callable[..., Any]
    indices: tuple[Any, ...]
    value: Any = -1


ROWS = np.array([2, 0, -1])
REPEATED = np.array([1, 3, 1, 1, -3])
MASK = np.array([True, False, True, False])
CASES = {
    "0-d": Case(lambda i: i, (np.array(1),)),
    "0-d, a row": Case(lambda i: i, (np.array(-1),), np.array([[1.0, np.nan]] * 3)),
    "1-d": Case(lambda i: i, (ROWS,), np.arange(6.0).reshape(3, 1, 2) / 7),
    "int32": Case(lambda i: i, (ROWS.astype("int32"),)),
    "repeated": Case(lambda i: i, (REPEATED,), 100 + np.arange(30.0).reshape(5, 3, 2)),
    "2-d": Case(lambda i: i, (np.array([[0, 3], [3, 1]]),), np.arange(24.0).reshape(2, 2, 3, 2)),
    "none": Case(lambda i: i, (ROWS[:0],)),
    "columns": Case(lambda i: (slice(None), i), (ROWS % 3,), np.array([np.inf, -0.0])),
    "last": Case(lambda i: (..., i), (np.array([1, 1]),), np.array([5.0, 6.0])),
    "slice and index": Case(lambda i: (slice(3, 0, -2), i), (np.array(2),), np.array([1.0, 2.0])),
    "two": Case(lambda i, j: (i, j), (ROWS, np.array([0, -1, 0])), np.arange(6.0).reshape(3, 2)),
    "two that broadcast": Case(lambda i, j: (i, j), (ROWS[:, None], np.array([0, 2]))),
    "apart": Case(lambda i: (i, slice(None), i * 0), (ROWS,), np.arange(9.0).reshape(3, 3)),
    "number and index": Case(lambda i: (1, i), (np.array([0, 2]),)),
    "a new axis": Case(lambda i: (None, i), (ROWS,), np.arange(6.0).reshape(3, 1, 2)),
    "list": Case(lambda: [0, 2], (), np.ones((2, 3, 2))),
    "array": Case(lambda: ROWS, ()),
    "mask": Case(lambda m: m, (MASK,)),
    "mask, a row": Case(lambda m: m, (MASK,), np.arange(6.0).reshape(3, 2) / 3),
    "2-d mask": Case(lambda m: m, (X[:, :, 0] % 4 == 0,), np.array([np.nan, 1.0])),
    "mask of all axes": Case(lambda m: m, (X > 7,), np.array(3.0)),
    "mask of the host": Case(lambda: MASK, (), np.arange(12.0).reshape(2, 3, 2)),
}  # fmt: skip


def into_an_argument(x: ndl.Tensor, value: Any, case: Case, *indices: ndl.Tensor) -> Any:
    x[case.key(*indices)] = value
    return ()


def into_a_result(x: ndl.Tensor, value: Any, case: Case, *indices: ndl.Tensor) -> Any:
    y = x * 1
    before = y + 0.0
    y[case.key(*indices)] = value
    return before, y


def into_a_part(x: ndl.Tensor, value: Any, case: Case, *indices: ndl.Tensor) -> Any:
    y = ndl.zeros((2, 3, 5, 4), dtype=x.dtype, device=x.device)
    y[1, :, 1:3].permute((2, 0, 1))[case.key(*indices)] = value
    return (y,)


def into_a_constant(x: ndl.Tensor, value: Any, case: Case, *indices: ndl.Tensor) -> Any:
    y = ndl.Tensor(X, dtype=x.dtype, device=x.device)
    before = x + y
    y[case.key(*indices)] = value
    return before, y, x + y


FUNCTIONS = [into_an_argument, into_a_result, into_a_part, into_a_constant]


def outcome(
    functions: list[Any], names: Iterable[str], dtype: str, device: ndl.Device, compiled: bool
) -> list[np.ndarray]:
    """The results of each function with each case, and the arguments afterwards."""
    calls = [(f, CASES[name]) for name in names for f in functions]

    def on(a: Any, dtype: Any = None) -> Any:
        is_array = isinstance(a, np.ndarray)
        return ndl.Tensor(a, device=device, dtype=dtype or a.dtype.name) if is_array else a

    def run(given: list[list[Any]]) -> list[Any]:  # one program, for compiling takes long
        return [f(x, v, case, *i) for (f, case), (x, v, *i) in zip(calls, given, strict=True)]

    compute = ndl.jit(run) if compiled else run
    found: list[np.ndarray] = []
    for _ in range(2):  # the second call runs the program again
        given = [[on(X, dtype), on(case.value, dtype), *map(on, case.indices)] for _, case in calls]
        with ndl.no_grad():
            results = compute(given)
        found += [y.numpy() for y in (*itertools.chain(*results), *(x for x, *_ in given))]
    return found


def assert_compiled_equals_eager(
    dtype: str, device: ndl.Device, functions: list[Any] = FUNCTIONS, names: Iterable[str] = CASES
) -> None:
    expected = outcome(functions, names, dtype, device, compiled=False)
    actual = outcome(functions, names, dtype, device, compiled=True)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(np.signbit(ours), np.signbit(theirs))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_evaluated_equals_eager(dtype: str, device: ndl.Device, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "evaluate")
    assert_compiled_equals_eager(dtype, device)


@NEEDS_CORE
def test_compiled_equals_eager():
    assert_compiled_equals_eager("float32", ndl.cpu())


@pytest.mark.parametrize("name", CASES)
def test_eager_is_numpy(name: str, device: ndl.Device):
    case = CASES[name]
    expected = X.copy()
    expected[case.key(*case.indices)] = case.value
    x = ndl.Tensor(X, device=device, dtype="float64", requires_grad=False)
    x[case.key(*(ndl.Tensor(i, dtype=i.dtype.name) for i in case.indices))] = case.value
    np.testing.assert_array_equal(x.numpy(), expected)


@NEEDS_CORE
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.to(ndl.cpu_numpy()) + 1, "runs on one device"),
        (lambda x: x[x > 1], "ndl.where"),
    ],
)
def test_what_cannot_be_compiled_says_what_to_do(function: Any, message: str):
    x = ndl.Tensor(X, device=ndl.cpu())
    with pytest.raises(RuntimeError, match=message):
        ndl.jit(function)(x)


def test_a_constant_mask_selects() -> None:
    """Its number of elements is known when the function is compiled."""
    z = ndl.Tensor(np.random.RandomState(0).randn(4, 3), dtype="float64")

    def off_diagonal(z: ndl.Tensor) -> ndl.Tensor:
        return (z @ z.T)[~ndl.eye(4, dtype="bool")].reshape(4, 3)

    found = ndl.jit(off_diagonal)(z)
    np.testing.assert_allclose(found.numpy(), off_diagonal(z).numpy(), rtol=1e-12)
