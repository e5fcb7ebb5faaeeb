"""`x[key] = v` on the GPU, eager and compiled."""

from __future__ import annotations

from jit.test_setitem import assert_compiled_equals_eager, into_an_argument

import needle as ndl


def test_compiled_equals_eager(gpu: ndl.Device):
    assert_compiled_equals_eager(
        "float32", gpu, [into_an_argument], ["0-d", "repeated", "two", "mask"]
    )
