"""NumPy's arrays and numbers, and Python's numbers, as arguments of compiled functions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import needle as ndl

pytestmark = pytest.mark.skipif(not ndl.cpu().enabled(), reason="the C++ core was not built")


def test_arrays_are_inputs() -> None:
    """Their contents are read at every call, also after a change in place."""

    @ndl.jit
    def step(x: Any, batch: dict[str, Any], index: Any) -> Any:
        picked = x[index] * batch["scale"]
        return picked, np.sum(batch["scale"]), (picked**2).sum()

    x = ndl.tensor(np.arange(6.0).reshape(2, 3))
    scale, index = np.array([1.0, 2.0, 3.0]), np.array([1, 0])
    for _ in range(3):
        picked, total, loss = step(x, {"scale": scale}, index)
        expected = x.numpy()[index] * scale
        np.testing.assert_allclose(picked.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(total.item(), scale.sum(), rtol=1e-6)
        np.testing.assert_allclose(loss.item(), (expected**2).sum(), rtol=1e-6)
        scale *= 1.5
        index = index[::-1]
    assert step.compilations == 1
    step(x, {"scale": scale}, np.array([0, 1, 1]))
    assert step.compilations == 2


def test_dtypes_are_those_of_tensors() -> None:
    step = ndl.jit(lambda x, a: x * a)
    third = np.array([1 / 3])
    assert step(ndl.ones(1), third).dtype == "float32"
    assert step(ndl.ones(1, dtype="float64"), third).item() == 1 / 3
    assert step(ndl.ones(1), np.array([2], "uint8")).item() == 2
    assert step(ndl.ones(1), np.array(2.0)).shape == (1,)
    with pytest.raises(TypeError, match="argument is a ndarray"):
        step(ndl.ones(1), np.array(["text"]))


def test_what_is_written_into_an_array_stays() -> None:
    @ndl.jit
    def count(seen: Any, i: Any, twice: Any) -> Any:
        seen[i] += 1
        return twice is seen

    seen = np.zeros(3)
    assert count(seen, np.array([0, 2]), seen) is True
    count(seen, np.array([2, 1]), seen)
    assert seen.tolist() == [1, 1, 2]
    assert count(seen, np.array([0]), seen.copy()) is False
    assert count.compilations == 2
    thirds = np.full(3, 1 / 3)
    count(thirds, np.array([0]), thirds)
    np.testing.assert_allclose(thirds[0], 4 / 3, rtol=1e-7)
    assert thirds[1:].tolist() == [1 / 3, 1 / 3]  # what is not written keeps its digits


def test_methods_take_arrays() -> None:
    class Model(ndl.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = ndl.nn.Linear(3, 2)

        @ndl.jit
        def forward(self, x: Any) -> Any:
            return self.layer(x)

    model = Model()
    x = np.ones((4, 3), "float32")
    np.testing.assert_allclose(model(x).numpy(), model.layer(ndl.tensor(x)).numpy(), rtol=1e-5)


def test_numbers_are_constants_and_a_warning_says_so() -> None:
    step = ndl.jit(lambda x, rate, name: x * rate)
    x = ndl.ones(2)
    for rate in (0.5, 1.5, 2.5, np.float32(3.5), 0.5, 1.5):
        assert step(x, rate, "a").tolist() == [rate, rate]
    assert step.compilations == 4
    step(x, 4.5, "a")
    with pytest.warns(UserWarning, match=r"each value of the numbers.*\[5\.5\].*ndl\.tensor"):
        step(x, 5.5, "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(x, 6.5, "a")
        for text in "abcdefg":  # no numbers
            step(x, 0.5, text)


def test_a_number_that_changes_is_a_tensor_or_an_array() -> None:
    step = ndl.jit(lambda x, rate: x * rate)
    for make in (ndl.tensor, np.array):
        for rate in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5):
            assert step(ndl.ones(2), make(rate)).tolist() == [rate, rate]
    assert step.compilations == 1
