"""The two names of `needle.autograd` that are computed, as course programs use them."""

from __future__ import annotations

import numpy as np

import needle as ndl
from needle import autograd


def test_the_count_of_values_can_be_set() -> None:
    before = autograd.TENSOR_COUNTER
    try:
        autograd.TENSOR_COUNTER = 0
        kept = [ndl.Tensor([1.0]) for _ in range(3)]
        counted = autograd.TENSOR_COUNTER
        assert counted == len(kept)
        del kept
        counted = autograd.TENSOR_COUNTER
        assert counted == 0
    finally:
        autograd.TENSOR_COUNTER = before


def test_lazy_mode_postpones_what_is_computed(monkeypatch) -> None:
    monkeypatch.setattr(autograd, "LAZY_MODE", True)
    x = ndl.Tensor([1.0, 2.0])
    y = x * x
    assert y.cached_data is None
    np.testing.assert_array_equal(y.numpy(), [1, 4])
    monkeypatch.undo()
    lazy = autograd.LAZY_MODE
    assert not lazy
    assert (x * x).cached_data is not None
