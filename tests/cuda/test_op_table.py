"""Every operator of the table on the GPU, forward and gradient, against the reference device."""

from __future__ import annotations

import numpy as np
import pytest
from op_table import RUNS, Case, value_and_gradients

import needle as ndl

IDS = [f"{case.name} {' '.join(map(str, shapes))}".strip() for case, shapes in RUNS]
# A GPU's functions of one number are within a few units in the last place.
TOLERANCES = {"float32": 2e-5, "float64": 1e-11, "bfloat16": 2.0**-5, "float16": 2.0**-8}


def spread(x: np.ndarray, device: ndl.Device, dtype: str) -> ndl.Tensor:
    """The same values in a layout with gaps, reversed and transposed."""
    wide = np.zeros(tuple(2 * n for n in reversed(x.shape)))
    key = (slice(None, None, -2),) * x.ndim
    (wide[key].transpose() if x.ndim else wide)[...] = x
    data = ndl.Tensor(wide, device=device, dtype=dtype).realize_cached_data()
    return ndl.Tensor.make_const(data[key].transpose() if x.ndim else data, requires_grad=True)


LAYOUTS = ["compact float32", "strided float64", "compact bfloat16", "strided float16"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("case", "shapes"), RUNS, ids=IDS)
def test_value_and_gradient(case: Case, shapes, layout, gpu):
    kind, dtype = layout.split()
    make = (
        spread
        if kind == "strided"
        else lambda x, device, dtype: ndl.Tensor(x, device=device, dtype=dtype)
    )
    arrays = case.inputs(shapes)
    ours, reference = (
        value_and_gradients(case, [make(x, device, dtype) for x in arrays])
        for device in (gpu, ndl.cpu_numpy())
    )
    assert len(ours) == len(reference)
    assert all(x.device == gpu for x in ours)
    for a, b in zip(ours, reference, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        x, y = a.numpy().astype("float64"), b.numpy().astype("float64")
        scale = max(1.0, np.abs(y).max(initial=0.0)) if dtype.endswith("16") else 1.0
        np.testing.assert_allclose(x, y, rtol=TOLERANCES[dtype], atol=scale * TOLERANCES[dtype])
