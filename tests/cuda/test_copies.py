"""Copies on the GPU between arrays whose axes lie in another order, by tiles and by elements."""

from __future__ import annotations

import numpy as np
import pytest

from needle.backend_ndarray import NDArray

# A shape, the order of its axes in the copy, and what is taken of it first.
CASES = [
    ((70, 45), (1, 0), ...),
    ((16, 300), (1, 0), ...),
    ((15, 300), (1, 0), ...),  # too narrow for tiles
    ((3, 40, 33), (0, 2, 1), ...),
    ((2, 20, 17, 19), (0, 3, 1, 2), ...),
    ((2, 17, 3, 33), (2, 3, 0, 1), ...),
    ((64, 50), (1, 0), (slice(1, None), slice(3, 47))),
    ((64, 50), (1, 0), (slice(None, None, 2), slice(None))),
    ((64, 50), (1, 0), (slice(None), slice(None, None, 2))),
    ((40, 1, 40), (2, 1, 0), ...),
    ((0, 40), (1, 0), ...),
]


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("uint8", "float64")], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_copies(case, dtypes, gpu):
    shape, order, part = case
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtypes[0])
    there = NDArray(x, device=gpu, dtype=dtypes[0])[part].permute(order)
    np.testing.assert_array_equal(
        there.astype(dtypes[1]).compact().numpy(), x[part].transpose(order).astype(dtypes[1])
    )


def test_a_broadcast_array(gpu):
    x = np.arange(40, dtype=np.float32)
    there = NDArray(x, device=gpu).reshape((40, 1)).broadcast_to((40, 33))
    np.testing.assert_array_equal(there.permute((1, 0)).compact().numpy(), np.tile(x, (33, 1)))
    np.testing.assert_array_equal(there.compact().numpy(), np.tile(x[:, None], (1, 33)))
