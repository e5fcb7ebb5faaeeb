"""Random programs on the GPU: compiled and eager code agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

import pytest
from jit import test_random_programs as native
from jit.random_programs import random_program
from jit.test_random_programs import KINDS, compare, run

import needle as ndl
from needle.backend_ndarray import set_default_device
from needle.jit.schedule import fuse as fusion

PROGRAMS = 6


@contextmanager
def default(device: ndl.Device) -> Iterator[None]:
    """Inside, new arrays are on the device."""
    before = ndl.default_device()
    set_default_device(device)
    try:
        yield
    finally:
        set_default_device(before)


@pytest.mark.parametrize(("pure", "large", "small"), KINDS)
def test_compiled_equals_eager(pure, large, small, gpu):
    first = 1000 * KINDS.index((pure, large, small))
    programs = [random_program(Random(first + i), pure, large) for i in range(PROGRAMS)]
    expected = run(programs, lambda f: f)
    with patch.object(fusion, "SMALL", small), default(gpu):
        actual = run(programs, ndl.jit)
    for program, ours, theirs in zip(programs, actual, expected, strict=True):
        compare(program, ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_numbers(dtype, gpu):
    with default(gpu):
        native.test_special_numbers(dtype)


def test_reductions_of_special_numbers(gpu):
    with default(gpu):
        native.test_reductions_of_special_numbers()
        native.test_reductions_of_truths()
