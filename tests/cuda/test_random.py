"""Random numbers of a generator on the GPU: as on all devices, any grid, captured programs."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.backend_ndarray import NDArray
from needle.backend_ndarray.device_cuda import random
from needle.backend_ndarray.philox import numbers
from tests.test_generator import (  # noqa: F401
    test_a_checkpoint_draws_the_same_numbers_again,
    test_a_loop_over_time_draws_at_every_step,
    test_a_number_follows_from_its_place_in_the_stream,
    test_a_uniform_number_is_the_top_bits_of_a_word,
    test_compiled_functions_draw_what_eager_ones_do,
    test_dropout,
    test_errors,
    test_gradients_of_a_compiled_checkpoint_use_its_mask,
    test_initializers,
    test_seeds_and_states,
    test_the_offset_goes_around,
    test_the_same_numbers_on_every_device,
)


@pytest.fixture
def device(gpu: ndl.Device) -> ndl.Device:
    return gpu


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normal", [False, True])
def test_numbers_do_not_depend_on_the_grid(normal, dtype, gpu, monkeypatch):
    seed, offset = (NDArray(np.array([v]), device=gpu, dtype="int64") for v in (3, 2**33 - 5))
    room = gpu.empty((1003,), dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for start in (0, 1):  # whole packs, and memory that does not begin with one
        out = room[start:]
        wanted = numbers(3, 2**33 - 5, out.size, np.dtype(dtype), normal)
        found = []
        for blocks in (1, 7):
            monkeypatch.setattr(random, "grid", lambda context, work, n=blocks: n)
            gpu.fused("philox")(normal, seed, offset, out)
            found.append(out.numpy())
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], wanted, rtol=tolerance, atol=tolerance)
        if not normal:
            np.testing.assert_array_equal(found[0], wanted)


def test_a_compiled_step_uploads_no_numbers(emulated, fake):
    generator = ndl.Generator(1, emulated)
    dropout = nn.Dropout(0.5, generator=generator)
    step = ndl.jit(lambda x: dropout(x))
    x = ndl.Tensor(np.ones((64, 8), np.float32), device=emulated)
    step(x)
    fake.emulator_clear_calls()
    y = step(x)
    calls = fake.emulator_calls().decode()
    assert "cuGraphLaunch" in calls
    assert "HtoD" not in calls
    assert generator.get_state() == (1, 2 * 64 * 8 // 4)
    wanted = ndl.Generator(1, ndl.cpu_numpy()).rand(2, 64, 8).numpy()[1] <= 0.5
    np.testing.assert_array_equal(y.numpy() > 0, wanted)


def test_streams_that_lag_behind(lazy):
    generator = ndl.Generator(1, lazy)
    drawn = [generator.rand(9).numpy() for _ in range(2)]
    wanted = ndl.Generator(1, ndl.cpu_numpy()).rand(21).numpy()
    np.testing.assert_array_equal(drawn, [wanted[:9], wanted[12:]])
