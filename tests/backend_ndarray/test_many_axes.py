"""Arrays of up to 32 axes, and the error beyond."""

from __future__ import annotations

from typing import Any

import many_axes
import numpy as np
import pytest

import needle as ndl
from needle import NDArray


def test_programs(device: Any) -> None:
    many_axes.check(device, jit=False)


def test_compiled_programs() -> None:
    many_axes.check(ndl.cpu(), jit=True)


def test_more_axes_are_an_error(device: Any) -> None:
    shape = (1,) * 33
    assert ndl.ones(*shape[1:], device=device).sum().item() == 1
    for make in (
        lambda: ndl.ones(*shape, device=device),
        lambda: ndl.Tensor(np.ones(shape), device=device),
        lambda: NDArray.make(shape, device=device),
        lambda: ndl.ones(1, device=device).reshape(shape),
        lambda: ndl.ones(1, device=device).broadcast_to(shape),
    ):
        with pytest.raises(ValueError, match="at most 32 dimensions, got 33"):
            make()
