"""Changes in place on a GPU: seen by whoever shares the memory, and by backward."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl

CHANGED = "changed or replaced after the forward pass"


def test_augmented_assignment(gpu):
    x = ndl.Tensor(np.arange(4.0), device=gpu)
    alias, y = x.detach(), (x * x).sum()
    with ndl.no_grad():
        x -= 1.0
        x *= 2
        x[1:] += 1
    np.testing.assert_array_equal(np.asarray(alias), [-2, 1, 3, 5])
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    with pytest.raises(ValueError, match="lie in the same place"):
        x.detach().broadcast_to((2, 4))[0] = 1.0


def test_a_compiled_step_updates_in_place(gpu):
    w = ndl.Tensor(np.arange(4.0), device=gpu)
    alias, y = w.detach(), (w * w).sum()

    @ndl.jit
    def step(x):
        (w * w * x).sum().backward()
        with ndl.no_grad():
            w.data -= 0.1 * w.grad

    step(ndl.Tensor(np.ones(4), device=gpu, requires_grad=False))
    np.testing.assert_allclose(w.numpy(), np.arange(4) * 0.8, rtol=1e-6)
    np.testing.assert_array_equal(alias.numpy(), w.numpy())
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
