"""What `max`, `min` and `median` give for PyTorch's `dim`, for NumPy's `axis`, and for two Tensors.

The table of calls, coverage/test_calls.py, compares the values with PyTorch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle.ops import amax, amin

X = np.random.default_rng(0).normal(size=(3, 4, 5))
NUMPY: dict[str, Any] = {"max": np.max, "min": np.min, "median": lambda x, axis: _median(x, axis)}


def _median(x: np.ndarray, axis: int | None) -> np.ndarray:
    ordered = np.sort(x, axis)
    return ordered.take((ordered.shape[-1 if axis is None else axis] - 1) // 2, axis)


@pytest.mark.parametrize("name", NUMPY)
def test_axis_gives_the_values_alone(name: str) -> None:
    x = ndl.Tensor(X, dtype="float64")
    expected = NUMPY[name](X, axis=1)
    for given in ({"axis": 1}, {"axes": 1}):
        np.testing.assert_array_equal(getattr(x, name)(**given), expected)
        np.testing.assert_array_equal(getattr(ndl, name)(x, **given), expected)
    kept = getattr(x, name)(axis=1, keepdims=True)
    np.testing.assert_array_equal(kept, expected[:, None])
    np.testing.assert_array_equal(getattr(x, name)(), NUMPY[name](X, axis=None))
    with pytest.raises(TypeError, match="give one of the two"):
        getattr(x, name)(1, axis=1)


def test_several_axes_and_numpys_functions_give_the_values_alone() -> None:
    x = ndl.Tensor(X, dtype="float64")
    np.testing.assert_array_equal(x.max((0, 2)), X.max((0, 2)))
    np.testing.assert_array_equal(np.max(x, 1), X.max(1))
    np.testing.assert_array_equal(np.min(x, axis=0), X.min(0))


def test_arrays_stay_numpys() -> None:
    np.testing.assert_array_equal(ndl.NDArray(X).max(1), X.astype("float32").max(1))


def test_gradients_go_to_the_indices() -> None:
    """Of equal elements the first has all of it with a `dim`; without, they share it."""
    x = ndl.Tensor([[1.0, 2.0, 2.0]])
    (g,) = ndl.grad(x.max(1).values, [x])
    assert g.tolist() == [[0.0, 1.0, 0.0]]
    for function in (lambda x: x.max(axis=1), lambda x: amax(x, 1), lambda x: -amin(-x, 1)):
        (g,) = ndl.grad(function(x), [x])
        assert g.tolist() == [[0.0, 0.5, 0.5]]


USES = [
    lambda x: x - x.max(1),
    lambda x: x.max(1) - x,
    lambda x: x * x.max(dim=1),
    lambda x: x.topk(1) * 2,
    lambda x: 2 * x.topk(1),
    lambda x: x.sort() + x,
    lambda x: ndl.maximum(x, x.min(0)),
    lambda x: x.exp() / x.median(1),
    lambda x: x * [x, x],
]


@pytest.mark.parametrize("use", USES)
def test_a_tuple_is_no_operand(use: Any) -> None:
    with pytest.raises(TypeError, match=r"\.values.*axis=|ndl\.stack"):
        use(ndl.Tensor(X))


def test_a_tuple_has_no_methods_of_tensors() -> None:
    with pytest.raises(AttributeError, match=r"a Tensor has 'sum'.*\.values"):
        ndl.Tensor(X).max(1).sum()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'summe'"):
        ndl.Tensor(X).max(1).summe  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"\.min"):
        ndl.Tensor(X).aminmax().mean()  # type: ignore[attr-defined]


def test_names_survive_compilation() -> None:
    """Compiled functions take and return the tuples under their names."""

    @ndl.jit
    def best(x: Any) -> Any:
        return x.max(1), ndl.topk(x, 2), x.aminmax()

    largest, top, ends = best(ndl.Tensor(X[0]))
    np.testing.assert_array_equal(largest.indices, X[0].argmax(1))
    np.testing.assert_array_equal(top.values[:, 0], largest.values)
    assert ends.max.item() == X[0].astype("float32").max()
