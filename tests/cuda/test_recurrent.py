"""Recurrent layers on the GPU, a kernel a step, against their definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.backend_ndarray import NDArray, reference

# Steps, rows, units: below, at and beyond the sizes of a block and of its panels.
SIZES = [(3, 2, 3), (2, 16, 8), (1, 5, 9), (2, 19, 40), (2, 3, 300), (3, 0, 4), (2, 3, 0)]


def operands(name: str, sizes: tuple[int, int, int], dtype: str) -> list[np.ndarray]:
    """Arrays for a kernel: gates, w, h and what else it takes."""
    steps, rows, units = sizes
    random = np.random.RandomState(units)
    is_lstm = name.startswith("lstm")
    columns, history = (4 if is_lstm else 1) * units, (steps + 1, rows, units)
    shapes: list[tuple[int, ...]] = [(steps, rows, columns), (units, columns), history]
    shapes += [history] * is_lstm
    if name.endswith("grad"):
        shapes += [(steps, rows, units), *[(rows, units)] * (1 + is_lstm)]
    arrays = [random.randn(*shape).astype(dtype) for shape in shapes]
    arrays[1] /= np.sqrt(max(units, 1)).astype(dtype)
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["lstm", "lstm_grad", "rnn", "rnn_grad"])
def test_kernels(name, sizes, dtype, gpu):
    for flags in ((True,), (False,)) if name.startswith("rnn") else ((),):
        given = operands(name, sizes, dtype)
        arrays = [NDArray(x, device=gpu, dtype=dtype) for x in given]
        wanted = [x.astype("float64") for x in given]
        getattr(reference, name)(*wanted, *flags)
        gpu.fused(name)(*arrays, *flags)
        tolerance = (4 * sizes[2] + 50) * np.finfo(dtype).eps  # sums of so many numbers
        for ours, theirs in zip(arrays, wanted, strict=True):
            size = np.abs(theirs).max(initial=1)
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("layer", [ndl.nn.LSTM, ndl.nn.RNN])
def test_a_step_of_time_is_one_kernel(layer, fake, emulated):
    model = layer(3, 4, device=emulated)

    def launches(steps: int, backward: bool) -> int:
        x = ndl.Tensor(np.ones((steps, 2, 3), np.float32), device=emulated)
        y = model(x)[0].sum()
        fake.emulator_clear_calls()
        if backward:
            y.backward()
        else:
            model(x)
        return fake.emulator_calls().decode().count("cuLaunchKernel")

    for backward in (False, True):
        assert launches(6, backward) - launches(5, backward) == 1
