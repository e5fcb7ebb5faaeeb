"""Every operator of the table, forward and gradient: eager, the evaluator and native code agree."""

from __future__ import annotations

import numpy as np
import pytest
from op_table import RUNS, value_and_gradients

import needle as ndl

# One program for many cases: each compilation takes about as long as a thousand evaluations.
GROUPS = [RUNS[i : i + 20] for i in range(0, len(RUNS), 20)]
# A few dozen roundings in another order: 2⁻²⁴ ≈ 6e-8 and 2⁻⁵³ ≈ 1e-16.
# A sum that is rounded to 16 bits may come out as the next number.
TOLERANCES = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2.0**-6, "float16": 2.0**-9}


def inputs_of(case, shapes, dtype, device) -> list[ndl.Tensor]:
    return [ndl.Tensor(x, device=device, dtype=dtype) for x in case.inputs(shapes)]


def assert_equal(case, shapes, actual, expected, dtype) -> None:
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        x, y = ours.numpy().astype("float64"), theirs.numpy().astype("float64")
        scale = max(1.0, np.abs(y).max(initial=0.0)) if dtype.endswith("16") else 1.0
        np.testing.assert_allclose(
            x, y, TOLERANCES[dtype], scale * TOLERANCES[dtype], err_msg=f"{case.name} {shapes}"
        )


# Native code of float64 differs in the type's name alone; the random programs have both.
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        *(("evaluate", dtype) for dtype in TOLERANCES),
        *(("on", dtype) for dtype in TOLERANCES if dtype != "float64"),
    ],
)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0][0].name)
def test_compiled_equals_eager(group, dtype, mode, monkeypatch):
    device = ndl.cpu()

    @ndl.jit
    def run(inputs):
        return [value_and_gradients(case, x) for (case, _), x in zip(group, inputs, strict=True)]

    inputs = [inputs_of(case, shapes, dtype, device) for case, shapes in group]
    expected = [value_and_gradients(case, x) for (case, _), x in zip(group, inputs, strict=True)]
    monkeypatch.setenv("NEEDLE_JIT", mode)
    for _ in range(2):  # the second call runs the program again, on memory that was used
        results = run(inputs)
        for (case, shapes), ours, theirs in zip(group, results, expected, strict=True):
            assert_equal(case, shapes, ours, theirs, dtype)
